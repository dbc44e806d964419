"""``remap``: pages of one file that count who shares them, and mappings put together from them page by page.

All regions and snapshots that come from one another share a pool: a memfd whose pages are numbered, and a count
of users for each. A snapshot is the list of its pages' numbers, so a copy of a copy is as cheap as a copy, at
any depth, and pages that nobody has written are one page. The region is write-protected (mprotect(2)); the
first write to a page that others share raises SIGSEGV, and the handler copies it to a free page of the pool and
maps that in its place.

This is copy-on-write as the kernel does it, done outside of it, and so each page costs system calls: one for
each first write, and one for each run of pages to map a copy. A run is an area, and vm.max_map_count bounds
them. When the region has no more, it is copied to fresh pages in order and becomes one area again; a copy that
would need more is refused. System calls that write to a protected page (read(2) into it, say) fail with EFAULT:
they raise no signal.

`RemapFilePages` does the same with the system call that was once made for it, remap_file_pages(2): since Linux
4.0 it only does what mmap(2) would have done, and it keeps the protection, so that every first write takes two
calls.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from snapserv.ext import guards, memory

from .base import Bytes, Mechanism, Place, Region, Snapshot
from .pooled import NO_PAGES, PooledSnapshot, new_pool, typed


class Remap(Mechanism):
    """Page tables in user space."""

    name = "remap"
    summary = "write protection, and mmap puts a page of one's own from a counted pool in place of a shared one"
    copies_of_copies = True
    shares_pages = True
    writers = True
    needs = "a SIGSEGV handler in the process"
    by_remap_file_pages: ClassVar[bool] = False

    @classmethod
    def make(cls, size: int) -> Region:
        """Return a region that has a pool of its own."""
        pages = cls.admit(size) // memory.PAGE
        with typed():
            return RemapRegion(size, new_pool(cls.by_remap_file_pages).zeros(pages))


class RemapFilePages(Remap):
    """The same by remap_file_pages(2)."""

    name = "remap_file_pages"
    summary = "as remap, by the system call remap_file_pages"
    needs = "a SIGSEGV handler in the process, and a kernel with remap_file_pages(2)"
    by_remap_file_pages = True

    @classmethod
    def why_not(cls) -> str:
        """Try it with one page."""
        place = memory.Reservation(memory.PAGE)
        try:
            guards.PagePool(1, by_remap_file_pages=True).zeros(1).map(place.address)
        except OSError as cause:
            return f"remap_file_pages: {cause.strerror}"
        return ""


class RemapRegion(Region):
    """A live region. Any thread may write to its array at any time."""

    def __init__(self, size: int, table: guards.Table) -> None:
        super().__init__(size)
        self.pool = table.pool
        self._area = memory.Reservation(len(table.slots) * memory.PAGE)
        self._shown = guards.Remapped(table, self._area.address)
        self._array: Bytes = np.frombuffer(memoryview(self._area), np.uint8)[:size]

    @property
    def place(self) -> Place:
        """Where the bytes are."""
        return Place(0, self._area.address)

    @property
    def array(self) -> Bytes:
        """The bytes."""
        return self._array

    def snapshot(self) -> RemapSnapshot:
        """Note which pages there are, and protect them."""
        self._check(0, 0)
        with typed():
            return RemapSnapshot(self, self._shown.snapshot())

    def restore(self, snapshot: Snapshot) -> None:
        """Map the pages that have been replaced since, a run at a time."""
        self._check_own(snapshot)
        assert isinstance(snapshot, RemapSnapshot)
        with typed():
            self._shown.restore(snapshot.table)

    def _release(self) -> None:
        self._shown.end()
        del self._array
        self._area.release()


class RemapSnapshot(PooledSnapshot):
    """The numbers of pages."""

    def copy(self) -> RemapRegion:
        """Map the same pages once more.

        Raises:
            OverBudgetError: More runs than there are areas left; nothing has changed.
        """
        self._check(0, 0)
        with typed():
            return RemapRegion(self.size, self.table.renewed(NO_PAGES, 0))
