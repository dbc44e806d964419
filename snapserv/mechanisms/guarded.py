"""A region whose pages are copied into its snapshots before they are written: what `mprotect` and `uffd` share.

The live region is a shared mapping of a file. A snapshot maps the same file once more, privately: as long as nobody
writes, both show the file. A guard notices the first write to each page, and has every open snapshot take a copy of
its own of that page before it lets the write go on.
"""

from __future__ import annotations

import errno
import mmap
import os
from typing import ClassVar

import numpy as np

from snapserv.errors import OverBudgetError, UnsupportedError
from snapserv.ext import guards, memory

from .base import Bytes, Place, Region, Snapshot


class Mapping:
    """A mapping of a file, all of it.

    Args:
        descriptor: Of the file.
        size: In bytes, as it was asked for.
        mapped: The same in whole pages.
        flags: MAP_SHARED or MAP_PRIVATE.

    Raises:
        OverBudgetError: The kernel has no area left.
    """

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
        """Of the first byte."""
        return self.array.ctypes.data

    def release(self) -> None:
        """Unmap it."""
        del self.array
        self._map.close()


class GuardedRegion(Region):
    """A live region. Any thread may write to its array at any time."""

    guard: ClassVar[type[guards.Guard]]

    def __init__(self, size: int, mapped: int) -> None:
        super().__init__(size)
        self._descriptor = os.memfd_create("snapserv-guarded", os.MFD_CLOEXEC)
        try:
            os.ftruncate(self._descriptor, mapped)
            self._live = Mapping(self._descriptor, size, mapped, mmap.MAP_SHARED)
            self._guard = self.guard(self._live.address, mapped)
        except BaseException:
            os.close(self._descriptor)
            raise

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

    def snapshot(self) -> GuardedSnapshot:
        """Map the file privately, and guard the region: what is written from now on is copied first."""
        self._check(0, 0)
        view = Mapping(self._descriptor, self.size, self._live.mapped, mmap.MAP_PRIVATE)
        try:
            self._guard.add(view.address)
        except OSError as cause:
            view.release()
            what = "too many snapshots are open" if cause.errno == errno.ENOSPC else "no area is left"
            raise OverBudgetError(what, hint="close snapshots, or raise vm.max_map_count") from cause
        return GuardedSnapshot(self, view)

    def restore(self, snapshot: Snapshot) -> None:
        """Write the pages back that were copied since; others have not changed."""
        self._check_own(snapshot)
        assert isinstance(snapshot, GuardedSnapshot)
        view = snapshot.view
        for start, stop in memory.scan_private(0, view.address, view.address + view.mapped).astype(np.int64):
            low, high = int(start) - view.address, min(int(stop) - view.address, self.size)
            self.array[low:high] = view.array[low:high]

    def forget(self, view: Mapping) -> None:
        """Copy nothing into a snapshot any more."""
        self._guard.remove(view.address)

    def _release(self) -> None:
        self._guard.end()
        self._live.release()
        os.close(self._descriptor)


class GuardedSnapshot(Snapshot):
    """A private mapping of the region's file."""

    def __init__(self, origin: GuardedRegion, view: Mapping) -> None:
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
            "no copies of copies: pages of a snapshot that were not copied yet are the live region's",
            hint="use fork, rewire or remap",
        )

    def _release(self) -> None:
        if not self._region.closed:
            self._region.forget(self.view)
        self.view.release()
