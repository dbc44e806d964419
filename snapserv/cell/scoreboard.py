"""Where each branch stands, readable when it is dead: one shared counter a branch.

A branch writes its step after every tick. The memory is the server's and outlives the cell, so `node_died` can
name the last whole step of a process that was killed in the middle of a request.
"""

from __future__ import annotations

import heapq
import mmap

SLOTS = 1 << 16
SIZE_BYTES = SLOTS * 8
"""How much memory a scoreboard takes, at the beginning of what it is mapped from."""


class Scoreboard:
    """A table of 64-bit counters in memory shared by the server and all of its cells.

    Args:
        descriptor: A memfd of at least `SIZE_BYTES`, which stays the caller's.
    """

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, SIZE_BYTES)
        self._counters = memoryview(self._map).cast("Q")
        self._free: list[int] = []
        self._next = 0

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

    def hold(self, slot: int) -> None:
        """Take a slot that a branch of an earlier server has, as it is.

        Raises:
            ValueError: It is taken.
        """
        if slot >= self._next:
            self._free.extend(range(self._next, slot))
            heapq.heapify(self._free)
            self._next = slot + 1
        else:
            self._free.remove(slot)
            heapq.heapify(self._free)

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
