"""Files of some folders that this process has open: found, and opened again where the folders are shown anew."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..ext import mounts
from .layers import copy_data

O_PATH = 0o10000000
KEPT_FLAGS = (
    os.O_ACCMODE | os.O_APPEND | os.O_DIRECT | os.O_DSYNC | os.O_NOATIME | os.O_NONBLOCK | os.O_SYNC | O_PATH
)
"""What belongs to an open file and not to the making of it, as in ext/cells/frozen.c."""
ROOM = 16
"""Descriptors left free below the spares, for what is opened in between."""


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file or folder that is open, maybe under several descriptors that share one offset.

    ``path`` is relative to the folder of number ``folder``; None where the file has no name any more. ``number`` is
    the inode's, as it was when the file was found: in a process cloned from there, what lies beneath the
    descriptors may be removed by now.
    """

    descriptors: tuple[int, ...]
    folder: int
    path: str | None
    flags: int
    number: int

    @property
    def writable(self) -> bool:
        """Whether it can be written through these descriptors."""
        return self.flags & os.O_ACCMODE != os.O_RDONLY


def find(folders: Sequence[str], store: str) -> list[OpenFile]:
    """Return what this process has open in ``folders``, and of the nameless copies in ``store``.

    Standard input, output and error are left as they are: all nodes share them.
    """
    found: list[OpenFile] = []
    identities: list[tuple[int, int]] = []
    for name in sorted(os.listdir("/proc/self/fd"), key=int):
        descriptor = int(name)
        try:
            link = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the folder just listed
        index = number_of(link, [*folders, store])
        if descriptor <= 2 or index is None:
            continue
        status = os.fstat(descriptor)
        is_folder = stat.S_ISDIR(status.st_mode)
        if not (stat.S_ISREG(status.st_mode) or is_folder) or (index == len(folders) and is_folder):
            continue
        path = os.path.relpath(link, folders[index]) if index < len(folders) and _names(link, status) else None
        if path is None and is_folder:
            continue  # nothing can be made in a folder that has been removed
        identity = status.st_dev, status.st_ino
        for at, other in enumerate(found):
            if identities[at] == identity and mounts.same_description(other.descriptors[0], descriptor):
                found[at] = replace(other, descriptors=(*other.descriptors, descriptor))
                break
        else:
            # O_DIRECTORY is told of a file that was made without a name as well: O_TMPFILE contains it.
            folder = os.O_DIRECTORY if is_folder else 0
            flags = fcntl.fcntl(descriptor, fcntl.F_GETFL) & KEPT_FLAGS | folder
            found.append(OpenFile((descriptor,), index, path, flags, status.st_ino))
            identities.append(identity)
    return found


def find_shared_mappings(folders: Sequence[str], files: Sequence[OpenFile]) -> list[str]:
    """Return the files of ``folders`` that are mapped so that a write to the file and the mapping are one.

    Mappings that are only read count where the file is open for writing: they would go on showing the old contents.
    """
    written = {f"{folders[file.folder]}/{file.path}" for file in files if file.writable and file.path is not None}
    found = []
    with open("/proc/self/maps") as maps:
        for line in maps:
            if not any(folder in line for folder in folders):
                continue
            _, permissions, _, _, _, *path = line.rstrip("\n").split(maxsplit=5)
            if permissions[3] == "s" and path and number_of(path[0], folders) is not None:
                plain = path[0].removesuffix(" (deleted)")
                if (permissions[1] == "w" or plain in written) and plain not in found:
                    found.append(plain)
    return found


class Spares:
    """Descriptors got ready to take the places of others, high up, where none of those is in the way."""

    def __init__(self) -> None:
        self._places: list[tuple[int, tuple[int, ...]]] = []
        self._base = max(int(name) for name in os.listdir("/proc/self/fd")) + ROOM

    @property
    def range(self) -> range:
        """The descriptors in use for this."""
        numbers = [number for number, _ in self._places]
        return range(self._base, max(numbers) + 1) if numbers else range(0)

    def add(self, descriptor: int, places: tuple[int, ...] = ()) -> int:
        """Move a descriptor here, to take ``places`` later; return its number."""
        try:
            spare = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, self._base)
        finally:
            os.close(descriptor)
        self._places.append((spare, places))
        return spare

    def reopen(self, files: Sequence[OpenFile], roots: Sequence[int], make_nameless: Callable[[], int]) -> None:
        """Open files again, at their offsets, under the folders ``roots``; with nothing there, only nameless ones.

        Args:
            files: As `find` returned them, here or in the process that this one was cloned from.
            roots: Descriptors of the folders as they are shown anew.
            make_nameless: Returns a new file without a name, which gets the contents of one that lost its own.

        Raises:
            OSError: A file cannot be opened again, or the disk is full.
        """
        copies: dict[tuple[int, int], int] = {}
        nameless = [(file, os.fstat(file.descriptors[0])) for file in files if file.path is None]
        changing = {(status.st_dev, status.st_ino) for file, status in nameless if file.writable}
        for file, status in nameless:
            identity = status.st_dev, status.st_ino
            if identity not in changing:
                continue  # nobody can write it any more, so it may be shared
            if identity not in copies:
                copies[identity] = self.add(make_nameless())
                reading = os.open(f"/proc/self/fd/{file.descriptors[0]}", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    copy_data(reading, copies[identity])
                finally:
                    os.close(reading)
            self._open(file, f"/proc/self/fd/{copies[identity]}", None)
        if roots:
            # Those that are written first: opening them brings their contents to where the others then find them.
            for file in sorted(files, key=lambda file: not file.writable):
                if file.path is not None:
                    self._open(file, file.path, roots[file.folder])

    def take_places(self) -> None:
        """Put each descriptor into its places and close it."""
        for spare, places in self._places:
            for place in places:
                os.dup2(spare, place, inheritable=os.get_inheritable(place))
            os.close(spare)
        self._places.clear()

    def close(self) -> None:
        """Give them up."""
        for spare, _ in self._places:
            os.close(spare)
        self._places.clear()

    def _open(self, file: OpenFile, path: str, root: int | None) -> None:
        descriptor = os.open(path, file.flags | os.O_CLOEXEC, dir_fd=root)
        with contextlib.suppress(OSError):  # a descriptor that is only a path has no offset
            offset = os.lseek(file.descriptors[0], 0, os.SEEK_CUR)
            if offset > 0:
                os.lseek(descriptor, offset, os.SEEK_SET)
        self.add(descriptor, file.descriptors)


def number_of(path: str, folders: Sequence[str]) -> int | None:
    """Return which of ``folders`` a path lies in."""
    for number, folder in enumerate(folders):
        if path == folder or path.startswith(f"{folder}/"):
            return number
    return None


def _names(path: str, status: os.stat_result) -> bool:
    """Return whether a path still names the file that is open."""
    try:
        return os.path.samestat(os.lstat(path), status)
    except OSError:
        return False
