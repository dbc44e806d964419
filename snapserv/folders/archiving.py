"""A layer of branched folders as a tar archive, and back: with whiteouts, marks, links, times and owners.

Extended attributes are carried as GNU tar and star do (``SCHILY.xattr.``); those by which overlayfs finds the files
that a copy came from mean nothing elsewhere, and are left out.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterable
from typing import BinaryIO

from .layers import OVERLAY_ATTRIBUTES

_ATTRIBUTE = "SCHILY.xattr."
_OF_THIS_DISK = ("origin", "impure", "nlink", "upper", "uuid")
_CHUNK_BYTES = 1 << 16
_NO_BYTES = bytes(_CHUNK_BYTES)
_KINDS = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}


def pack(folders: Iterable[str], into: BinaryIO) -> None:
    """Write folders that nobody changes to an archive, in which they are numbers; the same each time.

    Raises:
        OSError: One cannot be read.
    """
    with tarfile.open(fileobj=into, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8") as archive:
        for number, folder in enumerate(folders):
            _add(archive, folder, str(number), {})


def unpack(archive: BinaryIO, into: str) -> None:
    """Lay out what `pack` has written in an empty folder.

    Raises:
        OSError: The disk is full, or files are another user's.
        tarfile.TarError: It is no such archive.
    """
    folders: list[tuple[str, tarfile.TarInfo]] = []
    with tarfile.open(fileobj=archive, mode="r|", encoding="utf-8") as found:
        for info in found:
            if info.name.startswith("/") or ".." in info.name.split("/"):
                raise tarfile.TarError(f"an entry lies elsewhere: {info.name}")
            path = f"{into}/{info.name}"
            if info.isdir():
                os.mkdir(path, 0o700)
                folders.append((path, info))
                continue
            _make(found, info, path, into)
            if not info.islnk():
                _finish(path, info)
    for path, info in reversed(folders):  # which may not be written any more, and whose times change till then
        _finish(path, info)


def _add(archive: tarfile.TarFile, path: str, name: str, links: dict[tuple[int, int], str]) -> None:
    status = os.lstat(path)
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        return  # a socket, on which nobody listens any more
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.uid, info.gid = kind, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
    info.pax_headers = {
        "mtime": f"{status.st_mtime_ns // 10**9}.{status.st_mtime_ns % 10**9:09}",
        **_attributes(path),
    }
    if kind in (tarfile.CHRTYPE, tarfile.BLKTYPE):
        info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    elif kind == tarfile.SYMTYPE:
        info.linkname = os.readlink(path)
    elif kind == tarfile.REGTYPE and status.st_nlink > 1:
        first = links.setdefault((status.st_dev, status.st_ino), name)
        if first != name:
            info.type, info.linkname = tarfile.LNKTYPE, first
    if info.type == tarfile.REGTYPE:
        info.size = status.st_size
        with open(path, "rb") as file:
            archive.addfile(info, file)
    else:
        archive.addfile(info)
    if kind == tarfile.DIRTYPE:
        for entry in sorted(os.listdir(path)):
            _add(archive, f"{path}/{entry}", f"{name}/{entry}", links)


def _attributes(path: str) -> dict[str, str]:
    passed = tuple(f"{prefix}{name}" for prefix in OVERLAY_ATTRIBUTES for name in _OF_THIS_DISK)
    return {
        f"{_ATTRIBUTE}{name}": os.getxattr(path, name, follow_symlinks=False).decode(errors="surrogateescape")
        for name in sorted(os.listxattr(path, follow_symlinks=False))
        if name not in passed
    }


def _make(archive: tarfile.TarFile, info: tarfile.TarInfo, path: str, into: str) -> None:
    if info.islnk():
        os.link(f"{into}/{info.linkname}", path)
    elif info.issym():
        os.symlink(info.linkname, path)
    elif info.isreg():
        content = archive.extractfile(info)
        assert content is not None
        with open(path, "xb") as file:
            while data := content.read(_CHUNK_BYTES):
                if data == _NO_BYTES:
                    file.seek(len(data), os.SEEK_CUR)  # a hole
                else:
                    file.write(data)
            file.truncate(info.size)
    else:
        kind = next(mode for mode, each in _KINDS.items() if each == info.type)
        os.mknod(path, kind | info.mode, os.makedev(info.devmajor, info.devminor))


def _finish(path: str, info: tarfile.TarInfo) -> None:
    status = os.lstat(path)
    if (status.st_uid, status.st_gid) != (info.uid, info.gid):
        os.lchown(path, info.uid, info.gid)
    for name, value in info.pax_headers.items():
        if name.startswith(_ATTRIBUTE):
            attribute = name.removeprefix(_ATTRIBUTE)
            os.setxattr(path, attribute, value.encode(errors="surrogateescape"), follow_symlinks=False)
    if not info.issym():
        os.chmod(path, info.mode)
    seconds, _, rest = info.pax_headers.get("mtime", str(info.mtime)).partition(".")
    modified = int(seconds) * 10**9 + int(rest.ljust(9, "0") if rest else 0)
    os.utime(path, ns=(modified, modified), follow_symlinks=False)
