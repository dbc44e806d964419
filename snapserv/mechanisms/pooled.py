"""Snapshots that are numbers of pages in a pool that counts who has them: what `remap` and `uffd_async` share."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from snapserv.errors import OverBudgetError
from snapserv.ext import guards, memory

from .base import Place, Region, Snapshot

NO_PAGES = np.empty(0, np.int64)
POOL_TO_MEMORY = 16
"""Of a pool's address space to the machine's memory: not every number of a page that is free is used again."""


def new_pool(by_remap_file_pages: bool = False) -> guards.PagePool:
    """Return an empty pool that has numbers for more pages than the machine has memory for.

    Raises:
        OSError: ENOMEM, not so much address space.
    """
    slots = POOL_TO_MEMORY * os.sysconf("SC_PHYS_PAGES")
    return guards.PagePool(slots, by_remap_file_pages=by_remap_file_pages)


@contextmanager
def typed() -> Iterator[None]:
    """Give what the kernel refuses as errors of snapserv."""
    try:
        yield
    except OSError as cause:
        what = "too many regions are open" if cause.errno == errno.ENOSPC else "no area is left for pages of a pool"
        raise OverBudgetError(what, hint="close snapshots and copies, or raise vm.max_map_count") from cause


class PooledSnapshot(Snapshot):
    """The numbers of pages. They are read where the pool is mapped, and get a mapping of their own when asked."""

    def __init__(self, origin: Region, table: guards.Table) -> None:
        super().__init__(origin)
        self.table = table
        self._view: memory.Reservation | None = None

    @property
    def place(self) -> Place:
        """Where the bytes are: they are mapped, a run of pages at a time.

        Raises:
            OverBudgetError: More runs than there are areas left.
        """
        if self._view is None:
            area = memory.Reservation(len(self.table.slots) * memory.PAGE)
            with typed():
                self.table.map(area.address)
            np.frombuffer(memoryview(area), np.uint8)[:: memory.PAGE].max()  # has them all mapped
            self._view = area
        return Place(0, self._view.address)

    def read(self, offset: int, size: int) -> bytes:
        """Return a copy of some bytes."""
        self._check(offset, size)
        return self.table.read(offset, size)

    def _release(self) -> None:
        if self._view is not None:
            self._view.release()
        self.table.drop()
