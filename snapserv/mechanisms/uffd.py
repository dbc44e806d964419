"""``uffd``: userfaultfd(2) write protection, which costs no areas; with a thread that copies, and without.

`Uffd` is synchronous. A snapshot sets a bit in each entry of the page table (UFFDIO_WRITEPROTECT), so it takes
time by the size of the region, but nothing is split. The first write to a page stops its thread; a thread of
the mechanism is told, has the open snapshots take copies, clears the bit and wakes the writer: two switches
between threads for each page. Writes by the kernel on the process's behalf (read(2) into the region) wait as
well, where the process may see them: without privileges and with vm.unprivileged_userfaultfd at 0 the kernel
tells of user mode's writes only.

`UffdAsync` asks nobody. The kernel clears the bit itself at the first write (UFFD_FEATURE_WP_ASYNC), and
PAGEMAP_SCAN finds the pages without it and sets it again, in one call. Nobody can copy a page before it is
written, so a snapshot copies, while the writer waits, what was written since the one before; what was not is
shared among snapshots. That is what checkpoints of running processes are made of (CRIU's pre-dump), and needs
no privileges.
"""

from __future__ import annotations

import errno
import mmap
import os

import numpy as np

from snapserv.errors import UnsupportedError
from snapserv.ext import guards, memory, tracker

from .base import Mechanism, Region, Snapshot
from .copy import Block, BlockRegion
from .guarded import GuardedRegion
from .pooled import NO_PAGES, PooledSnapshot, new_pool, typed


class Uffd(Mechanism):
    """Write protection by userfaultfd, and a thread that copies."""

    name = "uffd"
    summary = "userfaultfd write protection, and a thread that copies pages before they are written"
    copies_of_copies = False
    shares_pages = True
    writers = True
    needs = "Linux 5.19 with userfaultfd; without privileges only writes in user mode are seen"

    @classmethod
    def why_not(cls) -> str:
        """Try it."""
        return _why_not(asynchronous=False)

    @classmethod
    def make(cls, size: int) -> Region:
        """Return a region that is a shared mapping of a memfd, and start its thread."""
        return UffdRegion(size, cls.admit(size))


class UffdRegion(GuardedRegion):
    """A live region."""

    guard = guards.UserfaultGuard


class UffdAsync(Mechanism):
    """Dirty pages by userfaultfd, copied when a snapshot is taken."""

    name = "uffd_async"
    summary = (
        "userfaultfd tells which pages were written; a snapshot copies those, and shares the rest with the last"
    )
    copies_of_copies = True
    shares_pages = False
    needs = "Linux 6.7 with userfaultfd"

    @classmethod
    def why_not(cls) -> str:
        """Try it."""
        return _why_not(asynchronous=True)

    @classmethod
    def make(cls, size: int) -> Region:
        """Return a region of private anonymous memory."""
        return UffdAsyncRegion(SmallPages(size, cls.admit(size)))


def _why_not(*, asynchronous: bool) -> str:
    try:
        descriptor, _ = tracker.open_userfault(asynchronous=asynchronous)
    except OSError as cause:
        too_old = "the kernel is too old" if cause.errno == errno.EINVAL else cause.strerror
        return f"userfaultfd: {too_old}"
    os.close(descriptor)
    return ""


class SmallPages(Block):
    """Private anonymous memory without huge pages: what is written is told of by the page."""

    def __init__(self, size: int, mapped: int) -> None:
        super().__init__(size, mapped)
        self._map.madvise(mmap.MADV_NOHUGEPAGE)


class UffdAsyncRegion(BlockRegion):
    """A live region, and the pages of its last snapshot."""

    def __init__(self, block: Block) -> None:
        super().__init__(block)
        try:
            self._tracker = tracker.Tracker(block.address, block.mapped)
            with typed():
                self._last = new_pool().zeros(block.mapped // memory.PAGE)
        except OSError as cause:
            raise UnsupportedError(f"userfaultfd: {cause.strerror}", hint=f"it needs {UffdAsync.needs}") from cause

    def snapshot(self) -> UffdAsyncSnapshot:
        """Copy the pages that were written since the last snapshot, or all that there are."""
        self._check(0, 0)
        with typed():
            self._go_on_from(self._last.renewed(self._tracker.written(), self._block.address))
        return UffdAsyncSnapshot(self, self._last.renewed(NO_PAGES, 0))

    def restore(self, snapshot: Snapshot) -> None:
        """Write back the pages that were written since, or that the last snapshot had otherwise."""
        self._check_own(snapshot)
        assert isinstance(snapshot, UffdAsyncSnapshot)
        differ = self._last.slots != snapshot.table.slots
        differ[self._tracker.written()] = True
        for page in np.flatnonzero(differ):
            low = int(page) * memory.PAGE
            high = min(low + memory.PAGE, self.size)
            self.array[low:high] = np.frombuffer(snapshot.table.read(low, high - low), np.uint8)
        self._tracker.written()  # that was us
        self._go_on_from(snapshot.table.renewed(NO_PAGES, 0))

    def _go_on_from(self, table: guards.Table) -> None:
        last, self._last = self._last, table
        last.drop()

    def _release(self) -> None:
        self._tracker.end()
        self._last.drop()
        super()._release()


class UffdAsyncSnapshot(PooledSnapshot):
    """Numbers of pages, shared with the snapshots before and after where nobody has written in between."""

    def copy(self) -> UffdAsyncRegion:
        """Copy all bytes into a region of its own."""
        self._check(0, 0)
        region = UffdAsync.make(self.size)
        assert isinstance(region, UffdAsyncRegion)
        region.array[:] = np.frombuffer(self.read(0, self.size), np.uint8)
        return region
