"""``rewire``: a private mapping of a base image, which is what snapserv's own arena is.

The kernel shares every page of a private file mapping until it is written, so regions that stand on one file share
its pages without anybody copying or counting them. This is today's answer in user space to what was once proposed
as a change of the kernel (Sharma, Schuhknecht, Dittrich: "Accelerating analytical processing in MVCC using
fine-granular high-frequency virtual snapshotting", SIGMOD 2018), and it follows Schuhknecht, Dittrich and Sharma,
"RUMA has it: rewired user-space memory access is possible!", VLDB 2016.

A snapshot is the base image and a copy of the pages that differ from it. So it takes time by the page that was
written since the base image was made: once more than `NEW_BASE_ABOVE` of them were, the next snapshot makes a new
base image of all bytes, and the region goes on upon that.
"""

from __future__ import annotations

import os

import numpy as np

from snapserv.errors import OverBudgetError
from snapserv.ext import marks, memory

from .base import Bytes, Mechanism, Place, Region, Snapshot, memory_available

NEW_BASE_ABOVE = 0.25
"""Copying a page is about four times as dear as a page of copying everything: a fault, and a place of its own."""


class Rewire(Mechanism):
    """Private mappings of base images."""

    name = "rewire"
    summary = "a private mapping of a base image: what snapserv's arena is"
    copies_of_copies = True
    shares_pages = True
    on_a_base = True
    needs = "memfd_create(2); a tmpfs of huge pages where it can be had"

    @classmethod
    def make(cls, size: int) -> Region:
        """Return a region that stands on an empty file."""
        mapped = -(-cls.admit(size) // memory.HUGE_PAGE) * memory.HUGE_PAGE
        return RewireRegion(size, _Base(mapped))


class _Base:
    """A file that nobody writes any more; it is gone when nobody stands on it."""

    def __init__(self, mapped: int) -> None:
        self.mapped = mapped
        try:
            self.descriptor = memory.open_huge_tmpfs(mapped)
        except OSError:
            # Small pages do as well: the first read of each takes a fault of its own.
            self.descriptor = os.memfd_create("snapserv-rewire", os.MFD_CLOEXEC)
            os.ftruncate(self.descriptor, mapped)

    def fill(self, content: Bytes) -> None:
        """Write the bytes, once."""
        if self.mapped > memory_available():
            raise OverBudgetError(f"a base image of {self.mapped:,} bytes does not fit", hint="close snapshots")
        area = memory.Reservation(self.mapped)
        area.map_file(0, self.mapped, self.descriptor, shared=True)
        area.populate(0, self.mapped)
        np.frombuffer(memoryview(area), np.uint8)[: len(content)] = content

    def view(self) -> memory.Reservation:
        """Return a new private mapping of it."""
        area = memory.Reservation(self.mapped)
        area.map_file(0, self.mapped, self.descriptor, shared=False)
        return area

    def __del__(self) -> None:
        os.close(self.descriptor)


class _Stand:
    """A private mapping of a base image, and what stands on it."""

    def __init__(self, base: _Base, size: int) -> None:
        self.base = base
        self.area = base.view()
        self.array: Bytes = np.frombuffer(memoryview(self.area), np.uint8)[:size]

    @property
    def address(self) -> int:
        return self.area.address

    def private(self) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
        """Return the address ranges that are not the base image's, relative to the mapping."""
        end = self.address + self.base.mapped
        ranges: np.ndarray[tuple[int, ...], np.dtype[np.uint64]] = memory.scan_private(0, self.address, end)
        return ranges

    def put(self, ranges: np.ndarray[tuple[int, ...], np.dtype[np.uint64]], content: Bytes) -> None:
        """Make it the base image with these pages instead; ``ranges`` are relative to the mapping."""
        here = ranges + np.uint64(self.address)
        marks.put_back(self.private(), here, content, self.address, self.address + self.base.mapped)

    def release(self) -> None:
        del self.array
        self.area.release()


class RewireRegion(Region):
    """A live region."""

    def __init__(self, size: int, base: _Base) -> None:
        super().__init__(size)
        self._stand = _Stand(base, size)

    @property
    def place(self) -> Place:
        """Where the bytes are."""
        return Place(0, self._stand.address)

    @property
    def array(self) -> Bytes:
        """The bytes."""
        return self._stand.array

    def snapshot(self) -> RewireSnapshot:
        """Copy the pages that differ from the base image; where they are many, make a new base image first."""
        self._check(0, 0)
        private = self._stand.private()
        written = int((private[:, 1] - private[:, 0]).sum())
        if written > NEW_BASE_ABOVE * self.size:
            base = _Base(self._stand.base.mapped)
            base.fill(self._stand.array)
            self._stand.area.map_file(0, base.mapped, base.descriptor, shared=False)
            self._stand.base = base
            private = private[:0]
        elif written > memory_available():
            raise OverBudgetError(
                f"{written:,} bytes of written pages do not fit a second time", hint="close snapshots"
            )
        return RewireSnapshot(
            self, self._stand.base, private - np.uint64(self._stand.address), marks.gather(private)
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Drop what was written since, and write what differed then."""
        self._check_own(snapshot)
        assert isinstance(snapshot, RewireSnapshot)
        if self._stand.base is not snapshot.base:
            self._stand.area.map_file(0, snapshot.base.mapped, snapshot.base.descriptor, shared=False)
            self._stand.base = snapshot.base
        self._stand.put(snapshot.ranges, snapshot.content)

    def _release(self) -> None:
        self._stand.release()


class RewireSnapshot(Snapshot):
    """A base image, and the pages that differ from it. It is mapped when it is first read."""

    def __init__(
        self,
        origin: RewireRegion,
        base: _Base,
        ranges: np.ndarray[tuple[int, ...], np.dtype[np.uint64]],
        content: Bytes,
    ) -> None:
        super().__init__(origin)
        self.base = base
        self.ranges = ranges
        self.content = content
        self._view: _Stand | None = None

    @property
    def place(self) -> Place:
        """Where the bytes are."""
        return Place(0, self._mapped().address)

    def read(self, offset: int, size: int) -> bytes:
        """Return a copy of some bytes."""
        self._check(offset, size)
        return self._mapped().array[offset : offset + size].tobytes()

    def copy(self) -> RewireRegion:
        """Map the base image once more, and write what differs from it."""
        self._check(0, 0)
        region = RewireRegion(self.size, self.base)
        region._stand.put(self.ranges, self.content)
        return region

    def _mapped(self) -> _Stand:
        if self._view is None:
            self._view = _Stand(self.base, self.size)
            self._view.put(self.ranges, self.content)
        return self._view

    def _release(self) -> None:
        if self._view is not None:
            self._view.release()
        del self.base, self.ranges, self.content
