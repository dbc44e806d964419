"""Layers of a folder as they lie on the disk: copied whole, merged into one, and removed.

A layer is what overlayfs writes: files and folders as they now are, a whiteout (a character device 0/0) for a name
that is gone, and a mark on a folder that hides what lies beneath it (Documentation/filesystems/overlayfs.rst).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence

FICLONE = 0x40049409
CHUNK_BYTES = 1 << 20
NOTHING = os.devnull
"""A path under which there is nothing, whatever is appended to it."""
NO_SHARED_BLOCKS = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
OVERLAY_ATTRIBUTES = ("trusted.overlay.", "user.overlay.")


def merge(layers: Sequence[str], into: str, *, prefix: str, beneath: str | None = None) -> None:
    """Fill the empty folder ``into`` with one layer that means what ``layers``, the topmost first, mean together.

    Of one layer, or of any one folder, this is a copy. Files are copied, with shared blocks where the file system
    can. To link them would be free, but overlayfs takes a file's inode number from the layer it comes from only
    while that file has one name; files that have several keep them.

    Args:
        layers: Folders, none of which anybody writes.
        into: On the same file system.
        prefix: Of overlayfs' own attributes: ``trusted.overlay.`` or ``user.overlay.``.
        beneath: The folder under the lowest of them, so that whiteouts of what it does not have are left out:
            overlayfs lists them in a folder that is in one layer only. With None all are kept, as in a copy.

    Raises:
        OSError: The disk is full, or something cannot be read.
    """
    _merge(layers, into, f"{prefix}opaque", beneath, {})


def _merge(
    layers: Sequence[str], into: str, opaque: str, beneath: str | None, copies: dict[tuple[int, int], str]
) -> None:
    names: dict[str, list[str]] = {}
    hides = False
    for layer in layers:
        for entry in os.scandir(layer):
            names.setdefault(entry.name, []).append(entry.path)
        if hides := _attribute(layer, opaque) == b"y":
            break  # what lies beneath this one is not seen
    if hides and beneath is not None:
        beneath = NOTHING
    for name, paths in names.items():
        goal = f"{into}/{name}"
        under = None if beneath is None else f"{beneath}/{name}"
        folders = list(_folders_on_top(paths))
        if not folders:
            if under is None or os.path.lexists(under) or not _is_whiteout(paths[0]):
                _copy_once(paths[0], goal, copies)
            continue
        hidden = len(folders) < len(paths)
        if under is not None and (hidden or os.path.islink(under)):
            under = NOTHING
        os.mkdir(goal)
        _merge(folders, goal, opaque, under, copies)
        if hidden:
            # Beneath these lies a whiteout or a file: what is further down is another folder of the same name.
            os.setxattr(goal, opaque, b"y")
    copy_metadata(layers[0], into)
    if hides:
        os.setxattr(into, opaque, b"y")


def _copy_once(source: str, target: str, copies: dict[tuple[int, int], str]) -> None:
    """Copy a file, or link to the copy of it that has been made under another name."""
    status = os.lstat(source)
    identity = status.st_dev, status.st_ino
    if identity in copies:
        os.link(copies[identity], target, follow_symlinks=False)
        return
    copy_file(source, target)
    if status.st_nlink > 1 and not stat.S_ISCHR(status.st_mode):  # overlayfs links whiteouts to each other
        copies[identity] = target


def copy_with_parents(layer: str, path: str, into: str) -> None:
    """Copy the file ``path`` of a layer into another one, and the folders that it lies in, and nothing else."""
    parts = path.split("/")
    for count in range(1, len(parts)):
        parent = "/".join(parts[:count])
        if not os.path.lexists(f"{into}/{parent}"):
            os.mkdir(f"{into}/{parent}")
            copy_metadata(f"{layer}/{parent}", f"{into}/{parent}")
    copy_file(f"{layer}/{path}", f"{into}/{path}")


def copy_file(source: str, target: str) -> None:
    """Copy anything but a folder, with all that is known of it; sockets are left out."""
    status = os.lstat(source)
    if stat.S_ISREG(status.st_mode):
        reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            writing = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                copy_data(reading, writing)
            finally:
                os.close(writing)
        finally:
            os.close(reading)
    elif stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISSOCK(status.st_mode):
        return  # nobody listens on a copy
    else:
        os.mknod(target, status.st_mode, status.st_rdev)
    copy_metadata(source, target)


def copy_data(reading: int, writing: int) -> None:
    """Copy the contents of one open file into another: shared blocks if possible, and holes as holes."""
    try:
        fcntl.ioctl(writing, FICLONE, reading)
    except OSError:
        pass  # no shared blocks on this file system, or between these two
    else:
        return
    at, size = 0, os.fstat(reading).st_size
    while at < size:
        try:
            at = os.lseek(reading, at, os.SEEK_DATA)
        except OSError as cause:
            if cause.errno == errno.ENXIO:
                break  # a hole until the end
            raise
        end = os.lseek(reading, at, os.SEEK_HOLE)
        while at < end:
            at += _copy_some(reading, writing, at, end - at)
    os.ftruncate(writing, size)


def copy_metadata(source: str, target: str) -> None:
    """Give ``target`` the owner, the mode, the times and the attributes of ``source``, as far as this user may.

    Of overlayfs' own attributes, folders get none: each says where its folder stands among its layers.
    """
    status = os.lstat(source)
    is_folder, is_link = stat.S_ISDIR(status.st_mode), stat.S_ISLNK(status.st_mode)
    with contextlib.suppress(PermissionError):
        os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    if not is_link:
        os.chmod(target, stat.S_IMODE(status.st_mode))
    with contextlib.suppress(OSError):  # this file system, or the other, has none
        for name in os.listxattr(source, follow_symlinks=False):
            if not (is_folder and name.startswith(OVERLAY_ATTRIBUTES)):
                with contextlib.suppress(OSError):  # such as one that only root may set
                    value = os.getxattr(source, name, follow_symlinks=False)
                    os.setxattr(target, name, value, follow_symlinks=False)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def remove(path: str) -> None:
    """Remove a folder with all that is in it, also where its owner may not write; nothing if there is none.

    Raises:
        OSError: Something in it is another user's.
    """
    try:
        os.chmod(path, 0o700)  # overlayfs makes folders that nobody may enter, and so may a simulator
        entries = list(os.scandir(path))
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            remove(entry.path)
        else:
            os.unlink(entry.path)
    os.rmdir(path)


def _folders_on_top(paths: Sequence[str]) -> Iterator[str]:
    """Yield the first of ``paths`` as long as they are folders."""
    for path in paths:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            return
        yield path


def _is_whiteout(path: str) -> bool:
    status = os.lstat(path)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _attribute(path: str, name: str) -> bytes | None:
    try:
        return os.getxattr(path, name, follow_symlinks=False)
    except OSError:
        return None


def _copy_some(reading: int, writing: int, at: int, size: int) -> int:
    try:
        return os.copy_file_range(reading, writing, size, at, at)
    except OSError as cause:
        if cause.errno not in NO_SHARED_BLOCKS:
            raise
    return os.pwrite(writing, os.pread(reading, min(size, CHUNK_BYTES), at), at)
