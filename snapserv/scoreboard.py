"""Where each branch stands, readable when it is dead: one shared counter a branch.

A branch writes its step after every tick. The memory is the server's and outlives the cell, so `node_died` can
name the last whole step of a process that was killed in the middle of a request.
"""

from __future__ import annotations

import heapq
import mmap
import os

SLOTS = 1 << 16
_SIZE_BYTES = SLOTS * 8


class Scoreboard:
    """A table of 64-bit counters in memory shared by the server and all of its cells."""

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, _SIZE_BYTES)
        self._counters = memoryview(self._map).cast("Q")
        self._free: list[int] = []
        self._next = 0

    @staticmethod
    def create() -> tuple[Scoreboard, int]:
        """Return a new scoreboard and the descriptor to hand to masters; only touched pages take memory."""
        descriptor = os.memfd_create("snapserv-scoreboard", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, _SIZE_BYTES)
        return Scoreboard(descriptor), descriptor

    def take(self, step: int) -> int | None:
        """Return a free slot that says ``step``, the lowest there is; None when all are taken."""
        if self._free:
            slot = heapq.heappop(self._free)
        elif self._next < SLOTS:
            slot, self._next = self._next, self._next + 1
        else:
            return None
        self._counters[slot] = step
        return slot

    def give_back(self, slot: int) -> None:
        """Free a slot."""
        heapq.heappush(self._free, slot)

    def __getitem__(self, slot: int) -> int:
        return self._counters[slot]

    def __setitem__(self, slot: int, step: int) -> None:
        self._counters[slot] = step

    def close(self) -> None:
        """Unmap the memory."""
        self._counters.release()
        self._map.close()
