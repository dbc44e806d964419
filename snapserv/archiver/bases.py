"""Base images and embedded files as files again, for cells that stand on them: each made once, and kept open."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterable

import numpy as np
from snapserv_client.store.format import PAGE, File
from snapserv_client.store.reader import Store

from ..ext import memory
from ..images.places import name_of
from ..images.script import write_at

CHUNK_BYTES = 32 << 20
"""How much of one is read at a time."""
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class BaseFiles:
    """Files that hold base images, in huge pages where they can be had, and those that hold what others held.

    Args:
        store: Where their pages are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._bases: dict[bytes, int] = {}
        self._files: dict[tuple[str, bytes], int] = {}

    def base(self, sha256: bytes) -> str:
        """Return a path that leads to the base image for as long as this process lives.

        Raises:
            StoreDamagedError: Pages are missing, or not what was written.
            OSError: There is no memory.
        """
        if sha256 not in self._bases:
            self._bases[sha256] = self._make(sha256, _file)
        return _path(self._bases[sha256])

    def embedded(self, path: str, content: bytes) -> str:
        """Return a path that leads to what a file held, which nobody can change; see `base`."""
        if (path, content) not in self._files:
            made = self._make(content, lambda size: _memfd(name_of(path, content), size))
            fcntl.fcntl(made, fcntl.F_ADD_SEALS, _SEALS)
            self._files[path, content] = made
        return _path(self._files[path, content])

    def _make(self, sha256: bytes, make: Callable[[int], int]) -> int:
        base = self._store.base(sha256)
        descriptor = make(base.size)
        try:
            for at in range(0, base.size, CHUNK_BYTES):
                size = min(CHUNK_BYTES, base.size - at)
                content = np.zeros(-(-size // PAGE) * PAGE, np.uint8)
                self._store.fill(base.packs, base.runs, content, at)
                if content.any():
                    write_at(descriptor, content.data[:size], at)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


class PlacesHere:
    """Where files are on this machine: where they were, but for those that are missing or others.

    Args:
        files: What is made of what the store has.
        changed: The files that are missing here or others, whose content the store has.
    """

    def __init__(self, files: BaseFiles, changed: Iterable[File]) -> None:
        self._files = files
        self._changed = {(file.path, file.content) for file in changed}

    def base(self, sha256: bytes) -> str:
        """See `Places.base`."""
        return self._files.base(sha256)

    def file(self, path: str, content: bytes) -> str:
        """See `Places.file`."""
        return self._files.embedded(path, content) if (path, content) in self._changed else path


def _path(descriptor: int) -> str:
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def _file(size: int) -> int:
    try:
        if size < memory.HUGE_PAGE or size % memory.HUGE_PAGE:
            raise OSError(errno.EINVAL, "no base image of an arena")
        descriptor = memory.open_huge_tmpfs(size)
    except OSError:
        return _memfd("snapserv-base", size)
    return _sized(descriptor, size)


def _memfd(name: str, size: int) -> int:
    return _sized(os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), size)


def _sized(descriptor: int, size: int) -> int:
    try:
        os.ftruncate(descriptor, size)
        if size:
            os.posix_fallocate(descriptor, 0, size)  # an error now is no SIGBUS later
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
