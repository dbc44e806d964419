"""Pages that two frozen processes share: known by their numbers, where the kernel tells them, and not read."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from snapserv_client.store.columns import Array
from snapserv_client.store.format import PAGE

PRESENT, ONCE, NUMBER = np.uint64(1 << 63), np.uint64(1 << 56), np.uint64((1 << 55) - 1)
"""Of an entry of /proc/PID/pagemap: whether the page is there, is mapped once only, and which it is."""


class Neighbours:
    """A frozen process and one that has most of its pages.

    Args:
        pid: The process.
        other: The other one; 0 where there is none.
    """

    def __init__(self, pid: int, other: int) -> None:
        self._pagemaps: list[int] = []
        try:
            for each in (pid, other) if other else ():
                self._pagemaps.append(os.open(f"/proc/{each}/pagemap", os.O_RDONLY | os.O_CLOEXEC))
        except OSError:  # it has ended, and then all is read
            self.__exit__()

    def __enter__(self) -> Neighbours:
        return self

    def __exit__(self, *_: object) -> None:
        while self._pagemaps:
            os.close(self._pagemaps.pop())

    def share(self, addresses: Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return which of the pages at some addresses are surely one and the same in both; bool.

        The entries of the first are read before and after those of the other, since the kernel moves pages; and a
        page that two processes have is not mapped once only.
        """
        if len(self._pagemaps) < 2 or not len(addresses):
            return np.zeros(len(addresses), np.bool_)
        before, other, after = (self._read(which, addresses) for which in (0, 1, 0))
        there = (before & PRESENT != 0) & (before & NUMBER != 0) & ((before | other) & ONCE == 0)
        same: np.ndarray[Any, np.dtype[np.bool_]] = there & (before == after) & ((before ^ other) & NUMBER == 0)
        same &= other & PRESENT != 0
        return same

    def _read(self, which: int, addresses: Array) -> Array:
        """Return an entry for each address, 0 where the process has ended."""
        entries = np.zeros(len(addresses), np.uint64)
        view = entries.data.cast("B")
        breaks = (np.flatnonzero(np.diff(addresses) != PAGE) + 1).tolist()
        for first, last in zip([0, *breaks], [*breaks, len(addresses)], strict=True):
            os.preadv(self._pagemaps[which], [view[first * 8 : last * 8]], int(addresses[first]) // PAGE * 8)
        return entries
