"""``mprotect``: the region is write-protected, and a signal handler copies each page before it is first written.

The live region is a shared mapping of a file. A snapshot maps the same file once more, privately: as long as nobody
writes, both show the file. Taking one protects the region (mprotect(2)); the first write to a page then raises
SIGSEGV, and the handler has every open snapshot take a copy of its own of that page before it lets the write go on.

So a snapshot of the live region costs one system call, and each further one that is open costs a copy of every page
that is written. There is no snapshot of a snapshot: the pages of a snapshot that were not copied yet are the live
file's, and a writable copy of them would need, for each page, the list of all who still share it. That list is what
the mechanism ``remap`` keeps, and what the kernel keeps for fork.

Each page that is written alone splits the protected area in two, so the number of areas grows with them, up to
vm.max_map_count. When no more can be had, all pages are copied at once and the region becomes one area again.
System calls that write to a protected page (read(2) into it, say) fail with EFAULT: they raise no signal.
"""

from __future__ import annotations

import errno
import mmap
import os

import numpy as np

from snapserv.errors import OverBudgetError, UnsupportedError
from snapserv.ext import guards, memory

from .base import Bytes, Mechanism, Place, Region, Snapshot


class Mprotect(Mechanism):
    """Write protection and a signal handler."""

    name = "mprotect"
    summary = "write protection, and a SIGSEGV handler that copies pages before they are written"
    copies_of_copies = False
    shares_pages = True
    writers = True
    needs = "a SIGSEGV handler in the process"

    @classmethod
    def make(cls, size: int) -> Region:
        """Return a region that is a shared mapping of a memfd."""
        return MprotectRegion(size, cls.admit(size))


class _Mapping:
    """A mapping of the region's file."""

    def __init__(self, descriptor: int, size: int, mapped: int, flags: int) -> None:
        try:
            self._map = mmap.mmap(descriptor, mapped, flags)
        except OSError as cause:
            raise OverBudgetError(
                f"no area for another mapping: {cause.strerror}", hint="close snapshots, or raise vm.max_map_count"
            ) from cause
        self.array: Bytes = np.frombuffer(self._map, np.uint8)[:size]
        self.mapped = mapped

    @property
    def address(self) -> int:
        return self.array.ctypes.data

    def release(self) -> None:
        del self.array
        self._map.close()


class MprotectRegion(Region):
    """A live region. Any thread may write to its array at any time."""

    def __init__(self, size: int, mapped: int) -> None:
        super().__init__(size)
        self._descriptor = os.memfd_create("snapserv-mprotect", os.MFD_CLOEXEC)
        try:
            os.ftruncate(self._descriptor, mapped)
            self._live = _Mapping(self._descriptor, size, mapped, mmap.MAP_SHARED)
        except BaseException:
            os.close(self._descriptor)
            raise
        self._guard = guards.Guard(self._live.address, mapped)

    @property
    def place(self) -> Place:
        """Where the bytes are."""
        return Place(0, self._live.address)

    @property
    def array(self) -> Bytes:
        """The bytes."""
        return self._live.array

    @property
    def counts(self) -> tuple[int, int]:
        """How many first writes were noticed, and how often there was no area left for a single page."""
        return self._guard.counts

    def snapshot(self) -> MprotectSnapshot:
        """Map the file privately, and protect the region: what is written from now on is copied first."""
        self._check(0, 0)
        view = _Mapping(self._descriptor, self.size, self._live.mapped, mmap.MAP_PRIVATE)
        try:
            self._guard.add(view.address)
        except OSError as cause:
            view.release()
            what = "too many snapshots are open" if cause.errno == errno.ENOSPC else "no area is left"
            raise OverBudgetError(what, hint="close snapshots, or raise vm.max_map_count") from cause
        return MprotectSnapshot(self, view)

    def restore(self, snapshot: Snapshot) -> None:
        """Write the pages back that were copied since; others have not changed."""
        self._check_own(snapshot)
        assert isinstance(snapshot, MprotectSnapshot)
        view = snapshot.view
        for start, stop in memory.scan_private(0, view.address, view.address + view.mapped).astype(np.int64):
            low, high = int(start) - view.address, min(int(stop) - view.address, self.size)
            self.array[low:high] = view.array[low:high]

    def _forget(self, view: _Mapping) -> None:
        self._guard.remove(view.address)

    def _release(self) -> None:
        self._guard.end()
        self._live.release()
        os.close(self._descriptor)


class MprotectSnapshot(Snapshot):
    """A private mapping of the region's file."""

    def __init__(self, origin: MprotectRegion, view: _Mapping) -> None:
        super().__init__(origin)
        self.view = view
        self._region = origin

    @property
    def place(self) -> Place:
        """Where the bytes are."""
        return Place(0, self.view.address)

    def read(self, offset: int, size: int) -> bytes:
        """Return a copy of some bytes."""
        self._check(offset, size)
        return self.view.array[offset : offset + size].tobytes()

    def copy(self) -> Region:
        """Raise UnsupportedError: nobody knows who else still shares a page."""
        raise UnsupportedError(
            "mprotect has no copies of copies: pages of a snapshot that were not copied yet are the live region's",
            hint="use fork, rewire or remap",
        )

    def _release(self) -> None:
        if not self._region.closed:
            self._region._forget(self.view)
        self.view.release()
