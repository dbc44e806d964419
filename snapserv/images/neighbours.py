"""Pages that two frozen processes share: known by their numbers, where the kernel tells them, and not read."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from snapserv_client.store.columns import Array
from snapserv_client.store.format import PAGE

PRESENT, ONCE, NUMBER = np.uint64(1 << 63), np.uint64(1 << 56), np.uint64((1 << 55) - 1)
"""Of an entry of /proc/PID/pagemap: whether the page is there, is mapped once only, and which it is."""
GAP = 64
"""Entries of pages that lie no further apart are read together: so many are read in the time of a system call."""


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
        numbers = (addresses // np.uint64(PAGE)).astype(np.int64)
        edges = np.flatnonzero(np.diff(numbers) > GAP) + 1
        first, last = numbers[np.append(0, edges)], numbers[np.append(edges, len(numbers)) - 1] + 1
        behind = np.cumsum(last - first)
        entries = np.zeros(int(behind[-1]), np.uint64)
        view, at = entries.data.cast("B"), 0
        for number, end in zip(first.tolist(), behind.tolist(), strict=True):
            os.preadv(self._pagemaps[which], [view[at * 8 : end * 8]], number * 8)
            at = end
        group = np.searchsorted(edges, np.arange(len(numbers)), side="right")
        found: Array = entries[numbers - last[group] + behind[group]]
        return found
