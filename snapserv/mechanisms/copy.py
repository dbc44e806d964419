"""``copy``: the baseline. A snapshot is a second piece of memory with the same bytes."""

from __future__ import annotations

import mmap
from typing import Self

import numpy as np

from snapserv.errors import OverBudgetError

from .base import Bytes, Mechanism, Place, Region, Snapshot, memory_available


class Copy(Mechanism):
    """memcpy into fresh memory."""

    name = "copy"
    summary = "memcpy into fresh memory: the baseline"
    copies_of_copies = True
    shares_pages = False

    @classmethod
    def make(cls, size: int) -> Region:
        """Return a region of private anonymous memory."""
        return CopyRegion(Block(size, cls.admit(size)))


class Block:
    """Private anonymous memory: what both a region and a snapshot are.

    Args:
        size: In bytes, as it was asked for.
        mapped: The same in whole pages.
    """

    def __init__(self, size: int, mapped: int) -> None:
        self._map = mmap.mmap(-1, mapped, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.array: Bytes = np.frombuffer(self._map, np.uint8)[:size]
        self.size = size
        self.mapped = mapped
        self.address = self.array.ctypes.data

    def duplicate(self) -> Self:
        """Return a copy.

        Raises:
            OverBudgetError: There is no memory for it.
        """
        free = memory_available()
        if self.mapped > free:
            raise OverBudgetError(f"a copy of {self.mapped:,} bytes, and {free:,} are free", hint="close snapshots")
        block = type(self)(self.size, self.mapped)
        block.array[:] = self.array
        return block

    def release(self) -> None:
        """Give the memory back."""
        del self.array
        self._map.close()


class BlockRegion(Region):
    """A live region of such memory."""

    def __init__(self, block: Block) -> None:
        super().__init__(block.size)
        self._block = block

    @property
    def place(self) -> Place:
        """Where the bytes are."""
        return Place(0, self._block.address)

    @property
    def array(self) -> Bytes:
        """The bytes."""
        return self._block.array

    def _release(self) -> None:
        self._block.release()


class CopyRegion(BlockRegion):
    """A live region that is copied."""

    def snapshot(self) -> CopySnapshot:
        """Copy all bytes."""
        self._check(0, 0)
        return CopySnapshot(self, self._block.duplicate())

    def restore(self, snapshot: Snapshot) -> None:
        """Copy all bytes back."""
        self._check_own(snapshot)
        assert isinstance(snapshot, CopySnapshot)
        self._block.array[:] = snapshot.array


class CopySnapshot(Snapshot):
    """A copy."""

    def __init__(self, origin: CopyRegion, block: Block) -> None:
        super().__init__(origin)
        self._block = block
        self.array = block.array.view()
        self.array.flags.writeable = False

    @property
    def place(self) -> Place:
        """Where the bytes are."""
        return Place(0, self._block.address)

    def read(self, offset: int, size: int) -> bytes:
        """Return a copy of some bytes."""
        self._check(offset, size)
        return self.array[offset : offset + size].tobytes()

    def copy(self) -> CopyRegion:
        """Copy the copy."""
        self._check(0, 0)
        assert isinstance(self.origin, CopyRegion)
        return type(self.origin)(self._block.duplicate())

    def _release(self) -> None:
        del self.array
        self._block.release()
