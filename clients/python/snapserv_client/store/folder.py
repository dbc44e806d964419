"""A store in a folder. It is this user's alone: whoever may write to it decides what runs as this user.

An object is written to a temporary file, which is synced and renamed, and the folder that it is in is synced as
well: it is whole or not there, also after a power cut.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from ..errors import NotFoundError, SnapservError, StoreUnavailableError, UntrustedError
from ..trust import trusted_users
from .blobs import Buffer, Entry
from .keys import TEMPORARY

REASONS = {
    errno.ENOSPC: "full",
    errno.EDQUOT: "full",
    errno.EACCES: "refused",
    errno.EPERM: "refused",
    errno.EROFS: "refused",
    errno.ETIMEDOUT: "network",
    errno.ESTALE: "network",
    errno.EHOSTDOWN: "network",
}
_POSIX = os.name == "posix"
_READ = os.O_RDONLY
for _name in ("O_CLOEXEC", "O_BINARY", "O_NOFOLLOW", "O_NONBLOCK"):  # the last one for what is a pipe instead
    _READ |= getattr(os, _name, 0)
_WRITE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class FolderBlobs:
    """Objects as files, below a folder; see `Blobs`.

    Args:
        path: The folder.
        create: Whether to make it if it is not there.

    Raises:
        NotFoundError: It is not there.
        UntrustedError: It is somebody else's, a link, or others may write to it.
        StoreUnavailableError: It cannot be looked at, or made.
    """

    gap = 128 << 10

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self.path = Path(os.path.abspath(path))  # resolve() would follow the links that are refused
        self.url = str(self.path)
        self._known: set[Path] = set()
        with _typed(self.url):
            if create:
                new = [each for each in (self.path, *self.path.parents) if not os.path.lexists(each)]
                self.path.mkdir(0o700, parents=True, exist_ok=True)
                for each in new:
                    sync_folder(each.parent)
            if not os.path.lexists(self.path):
                raise NotFoundError(f"there is no store at {self.path}", details={"store": self.url})
        _refuse_parent(self.path.parent)
        self._trust(self.path)

    def get(self, key: str) -> bytes:
        """See `Blobs.get`."""
        with self._open(key) as file, _typed(key):
            return file.read()

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[Buffer]:
        """See `Blobs.get_ranges`."""
        found: list[Buffer] = []
        with self._open(key) as file, _typed(key):
            for start, size in ranges:
                file.seek(start)
                found.append(file.read(size))
        return found

    def get_all(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """See `Blobs.get_all`."""
        for key in keys:
            try:
                yield key, self.get(key)
            except NotFoundError:
                yield key, None

    def put(self, key: str, data: Buffer) -> None:
        """See `Blobs.put`."""
        spool = self.spool()
        try:
            spool.write(data)
            spool.keep(key)
        finally:
            spool.discard()

    def put_new(self, key: str, data: Buffer) -> bool:
        """See `Blobs.put_new`."""
        spool = self.spool()
        try:
            spool.write(data)
            return spool.keep_new(key)
        finally:
            spool.discard()

    def spool(self) -> FolderSpool:
        """See `Blobs.spool`."""
        path = self._place(f"{TEMPORARY}{secrets.token_hex(16)}", create=True)
        with _typed(self.url):
            return FolderSpool(self, path, os.fdopen(os.open(path, _WRITE, 0o600), "wb"))

    def entries(self, prefix: str) -> list[Entry]:
        """See `Blobs.entries`."""
        found: list[Entry] = []
        folders = [prefix.rstrip("/")]
        with _typed(self.url):
            while folders:
                folder = folders.pop()
                self._trust(self.path / folder)
                with contextlib.suppress(FileNotFoundError), os.scandir(self._place(folder)) as listed:
                    for each in listed:
                        key = f"{folder}/{each.name}" if folder else each.name
                        with contextlib.suppress(FileNotFoundError):  # somebody removes it
                            status = each.stat(follow_symlinks=False)
                            if stat.S_ISDIR(status.st_mode):
                                folders.append(key)
                            else:
                                _refuse(self.path / key, status, folder=False)
                                found.append(Entry(key, status.st_size, status.st_mtime))
        return sorted(found)

    def head(self, key: str) -> Entry | None:
        """See `Blobs.head`."""
        try:
            with _typed(key):
                status = os.lstat(self._place(key))
        except NotFoundError:
            return None
        _refuse(self.path / key, status, folder=False)
        return Entry(key, status.st_size, status.st_mtime)

    def absent(self, keys: Iterable[str]) -> list[str]:
        """See `Blobs.absent`."""
        return [key for key in keys if self.head(key) is None]

    def delete(self, key: str) -> None:
        """See `Blobs.delete`."""
        with contextlib.suppress(NotFoundError), _typed(key):
            self._place(key).unlink()

    def open_lock(self, key: str) -> int:
        """Return a descriptor of an empty file, to be locked."""
        path = self._place(key, create=True)
        with _typed(key):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def _open(self, key: str) -> BinaryIO:
        path = self._place(key)
        with _typed(key):
            try:
                number = os.open(path, _READ)
            except OSError as cause:
                if cause.errno == errno.ELOOP:
                    raise _untrusted(path, "it is a link") from cause
                raise
            try:
                _refuse(path, os.fstat(number), folder=False)
                return os.fdopen(number, "rb", buffering=0)
            except BaseException:
                os.close(number)
                raise

    def _place(self, key: str, *, create: bool = False) -> Path:
        """Return the path of a key, when the folders on the way to it are found to be this user's."""
        path = self.path / key if key else self.path
        for folder in reversed(path.relative_to(self.path).parents):
            self._trust(self.path / folder, create=create)
        return path

    def _trust(self, folder: Path, *, create: bool = False) -> None:
        if folder in self._known:
            return
        with _typed(str(folder)):
            if create and not os.path.lexists(folder):
                with contextlib.suppress(FileExistsError):
                    folder.mkdir(0o700)
                sync_folder(folder.parent)
            try:
                status = os.lstat(folder)
            except FileNotFoundError:
                return  # nor is there anything in it
        _refuse(folder, status, folder=True)
        self._known.add(folder)


class FolderSpool:
    """A temporary file in the store's folder; see `Spool`."""

    def __init__(self, blobs: FolderBlobs, path: Path, file: BinaryIO) -> None:
        self._file = file
        self._blobs, self._path = blobs, path

    def write(self, data: Buffer) -> None:
        """See `Spool.write`."""
        with _typed(self._blobs.url):
            self._file.write(data)

    def keep(self, key: str) -> None:
        """See `Spool.keep`."""
        self._end(key, os.replace)

    def keep_new(self, key: str) -> bool:
        """Make it the object of that key, if there is none; return whether it is."""
        try:
            self._end(key, os.link)
        except FileExistsError:
            return False
        return True

    def discard(self) -> None:
        """See `Spool.discard`."""
        with contextlib.suppress(OSError):  # a full disk says so again, when what is buffered is written
            self._file.close()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _end(self, key: str, move: Callable[[Path, Path], None]) -> None:
        with _typed(key):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            target = self._blobs._place(key, create=True)
            move(self._path, target)
            sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make what a folder lists durable."""
    if _POSIX:
        number = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


@contextlib.contextmanager
def _typed(what: str) -> Iterator[None]:
    """Raise what the system refuses as a typed error."""
    try:
        yield
    except (SnapservError, FileExistsError):
        raise
    except FileNotFoundError as cause:
        raise NotFoundError(f"there is no {what} in the store", details={"key": what}) from cause
    except OSError as cause:
        reason = REASONS.get(cause.errno or 0, "input_output")
        raise StoreUnavailableError(
            f"{what}: {cause.strerror or cause}",
            hint="make room for it" if reason == "full" else "",
            details={"key": what, "reason": reason},
        ) from cause


def _refuse_parent(parent: Path) -> None:
    """Refuse a folder that lies where others may put another one in its place."""
    with _typed(str(parent)):
        mode = parent.stat().st_mode
    if _POSIX and mode & (stat.S_IWGRP | stat.S_IWOTH) and not mode & stat.S_ISVTX:
        raise _untrusted(parent, "others may write to it")


def _refuse(path: Path, status: os.stat_result, *, folder: bool) -> None:
    """Refuse what is a link, or neither file nor folder, or another user's, or what others may write to."""
    if stat.S_ISLNK(status.st_mode):
        raise _untrusted(path, "it is a link")
    if not (stat.S_ISDIR if folder else stat.S_ISREG)(status.st_mode):
        raise _untrusted(path, f"it is no {'folder' if folder else 'file'}")
    if _POSIX and status.st_uid not in trusted_users():
        raise _untrusted(path, f"it belongs to user {status.st_uid}")
    if _POSIX and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _untrusted(path, "others may write to it")


def _untrusted(path: Path, why: str) -> UntrustedError:
    return UntrustedError(
        f"{path} could be anybody's: {why}",
        hint="a store is a folder of its user's own, that nobody else may write to, without links",
        details={"path": str(path)},
    )
