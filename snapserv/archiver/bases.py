"""Base images as files again, for cells that stand on them: each made once, and kept while the archiver lives."""

from __future__ import annotations

import errno
import os

import numpy as np
from snapserv_client.store.format import PAGE
from snapserv_client.store.reader import Store

from ..ext import memory
from ..images.script import write_at

CHUNK_BYTES = 32 << 20
"""How much of one is read at a time."""


class BaseFiles:
    """Files that hold base images, in huge pages where they can be had.

    Args:
        store: Where their pages are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._open: dict[bytes, int] = {}

    def path(self, sha256: bytes) -> str:
        """Return a path that leads to the base image for as long as this process lives.

        Raises:
            StoreDamagedError: Pages are missing, or not what was written.
            OSError: There is no memory.
        """
        if sha256 not in self._open:
            self._open[sha256] = self._make(sha256)
        return f"/proc/{os.getpid()}/fd/{self._open[sha256]}"

    def _make(self, sha256: bytes) -> int:
        base = self._store.base(sha256)
        descriptor = _file(base.size)
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


def _file(size: int) -> int:
    try:
        if size < memory.HUGE_PAGE or size % memory.HUGE_PAGE:
            raise OSError(errno.EINVAL, "no base image of an arena")
        descriptor = memory.open_huge_tmpfs(size)
    except OSError:
        descriptor = os.memfd_create("snapserv-base", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    if size:
        os.posix_fallocate(descriptor, 0, size)  # an error now is no SIGBUS later
    return descriptor
