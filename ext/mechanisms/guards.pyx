"""Memory whose writes are noticed: `protected.c`, `page_pool.c` and `userfault.c`, seen from Python.

The first two share the one handler of `write_faults.c`, and so are one module. Writes that are only told of afterwards
are in `tracker.pyx`.

Functions raise OSError with the kernel's number; the callers in Python know what it means to the user.
Addresses and sizes are bytes. Pages are counted from the start of a region.
"""

import os

import numpy as np

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_SetFromErrno
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t

cdef extern from "mechanisms/protected.h":
    struct snapserv_protected:
        pass
    snapserv_protected *snapserv_protect(char *start, size_t pages, size_t page_bytes) nogil
    void snapserv_unprotect(snapserv_protected *region) nogil
    int snapserv_protected_snapshot(snapserv_protected *region, char *view) nogil
    void snapserv_protected_forget(snapserv_protected *region, char *view) nogil
    void snapserv_protected_counts(snapserv_protected *region, uint64_t *faults, uint64_t *whole) nogil

cdef extern from "mechanisms/userfault.h":
    struct snapserv_userfault:
        pass
    snapserv_userfault *snapserv_userfault_protect(char *start, size_t pages, size_t page_bytes) nogil
    void snapserv_userfault_unprotect(snapserv_userfault *region) nogil
    int snapserv_userfault_snapshot(snapserv_userfault *region, char *view) nogil
    void snapserv_userfault_forget(snapserv_userfault *region, char *view) nogil
    uint64_t snapserv_userfault_count(snapserv_userfault *region) nogil

cdef extern from "mechanisms/page_pool.h":
    struct snapserv_pool:
        pass
    struct snapserv_remapped:
        pass
    struct snapserv_pool_counts:
        uint64_t calls
        uint64_t faults
        uint64_t whole
        uint64_t slots
    enum snapserv_remapping:
        SNAPSERV_MMAP
        SNAPSERV_REMAP_FILE_PAGES
    snapserv_pool *snapserv_pool_make(size_t slots, size_t page_bytes, snapserv_remapping how) nogil
    void snapserv_pool_free(snapserv_pool *pool) nogil
    int snapserv_pool_take(snapserv_pool *pool, uint32_t *slots, size_t count) nogil
    void snapserv_pool_share(snapserv_pool *pool, const uint32_t *slots, size_t count) nogil
    void snapserv_pool_drop(snapserv_pool *pool, const uint32_t *slots, size_t count) nogil
    void snapserv_pool_fill(snapserv_pool *pool, uint32_t slot, const char *content) nogil
    void snapserv_pool_read(snapserv_pool *pool, const uint32_t *slots, size_t offset, size_t size, char *into) nogil
    int snapserv_pool_map(snapserv_pool *pool, char *start, const uint32_t *slots, size_t count) nogil
    void snapserv_pool_count(snapserv_pool *pool, snapserv_pool_counts *counts) nogil
    snapserv_remapped *snapserv_remap(snapserv_pool *pool, char *start, const uint32_t *slots, size_t count) nogil
    void snapserv_remap_end(snapserv_remapped *region) nogil
    int snapserv_remap_snapshot(snapserv_remapped *region, uint32_t *slots) nogil
    int snapserv_remap_restore(snapserv_remapped *region, const uint32_t *slots) nogil

cdef size_t _PAGE = os.sysconf("SC_PAGESIZE")


# ---------------------------------------------------------------- a shared mapping, and private ones of the same file


cdef class Guard:
    """Copies pages of a shared mapping into snapshots before they are written.

    Args:
        address: Of the mapping, page-aligned.
        size: In bytes, whole pages.

    Raises:
        OSError: ENOSPC, too many at once; ENOMEM; EPERM, not allowed; EINVAL, the kernel cannot.
    """

    cdef bint watching

    def __init__(self, size_t address, size_t size):
        if self.watching:
            raise RuntimeError("a guard is made once")
        if self.start(<char *><uintptr_t>address, size // _PAGE) < 0:
            PyErr_SetFromErrno(OSError)
        self.watching = True

    def add(self, size_t view) -> None:
        """Have every page copied into the private mapping at ``view`` before it is written.

        From this call on the mapping has the contents of this instant, also where other threads write.

        Raises:
            OSError: ENOSPC, too many snapshots; ENOMEM, no area left. Nothing has changed.
        """
        cdef int result
        with nogil:
            result = self.snapshot(<char *><uintptr_t>view)
        if result < 0:
            PyErr_SetFromErrno(OSError)

    def remove(self, size_t view) -> None:
        """Copy nothing into the mapping at ``view`` any more: it may be unmapped."""
        if self.watching:
            with nogil:
                self.forget(<char *><uintptr_t>view)

    @property
    def counts(self) -> tuple[int, int]:
        """How many first writes were noticed, and how often there was no area left for a single page."""
        cdef uint64_t faults = 0, whole = 0
        if self.watching:
            self.count(&faults, &whole)
        return faults, whole

    def end(self) -> None:
        """Watch no more; the memory is writable."""
        if self.watching:
            self.watching = False
            with nogil:
                self.stop()

    cdef int start(self, char *address, size_t pages) noexcept nogil:
        return -1

    cdef int snapshot(self, char *view) noexcept nogil:
        return -1

    cdef void forget(self, char *view) noexcept nogil:
        pass

    cdef void count(self, uint64_t *faults, uint64_t *whole) noexcept nogil:
        pass

    cdef void stop(self) noexcept nogil:
        pass


cdef class ProtectedGuard(Guard):
    """A guard by mprotect(2) and SIGSEGV."""

    cdef snapserv_protected *region

    def __dealloc__(self):
        if self.watching:
            snapserv_unprotect(self.region)

    cdef int start(self, char *address, size_t pages) noexcept nogil:
        self.region = snapserv_protect(address, pages, _PAGE)
        return -1 if self.region == NULL else 0

    cdef int snapshot(self, char *view) noexcept nogil:
        return snapserv_protected_snapshot(self.region, view)

    cdef void forget(self, char *view) noexcept nogil:
        snapserv_protected_forget(self.region, view)

    cdef void count(self, uint64_t *faults, uint64_t *whole) noexcept nogil:
        snapserv_protected_counts(self.region, faults, whole)

    cdef void stop(self) noexcept nogil:
        snapserv_unprotect(self.region)


cdef class UserfaultGuard(Guard):
    """A guard by userfaultfd(2) and a thread; it takes no areas."""

    cdef snapserv_userfault *region

    def __dealloc__(self):
        if self.watching:
            snapserv_userfault_unprotect(self.region)

    cdef int start(self, char *address, size_t pages) noexcept nogil:
        self.region = snapserv_userfault_protect(address, pages, _PAGE)
        return -1 if self.region == NULL else 0

    cdef int snapshot(self, char *view) noexcept nogil:
        return snapserv_userfault_snapshot(self.region, view)

    cdef void forget(self, char *view) noexcept nogil:
        snapserv_userfault_forget(self.region, view)

    cdef void count(self, uint64_t *faults, uint64_t *whole) noexcept nogil:
        faults[0] = snapserv_userfault_count(self.region)

    cdef void stop(self) noexcept nogil:
        snapserv_userfault_unprotect(self.region)


# ---------------------------------------------------------------------------------------------- pages that are counted


cdef class PagePool:
    """A file of pages that count who refers to them.

    Args:
        slots: How many pages it can have.
        by_remap_file_pages: Map with remap_file_pages(2) in place of mmap(2).

    Raises:
        OSError: ENOMEM, not so much address space.
    """

    cdef snapserv_pool *pool

    def __init__(self, size_t slots, *, bint by_remap_file_pages=False):
        if self.pool != NULL:
            raise RuntimeError("a pool is made once")
        self.pool = snapserv_pool_make(slots, _PAGE, SNAPSERV_REMAP_FILE_PAGES if by_remap_file_pages
                                       else SNAPSERV_MMAP)
        if self.pool == NULL:
            PyErr_SetFromErrno(OSError)

    def __dealloc__(self):
        if self.pool != NULL:
            snapserv_pool_free(self.pool)

    def zeros(self, size_t pages) -> Table:
        """Return a table of pages that are all zero.

        Raises:
            OSError: ENOMEM, the pool is full.
        """
        table = Table(self, pages)
        cdef uint32_t[::1] slots = table.slots
        if pages and snapserv_pool_take(self.pool, &slots[0], pages) < 0:
            table.slots = table.slots[:0]
            PyErr_SetFromErrno(OSError)
        return table

    @property
    def counts(self) -> dict[str, int]:
        """What has happened since it was made, and how much there is.

        ``calls`` are system calls that have mapped or protected something, ``faults`` first writes that were
        noticed; ``whole`` says how often there was no area left, and ``slots`` how many pages somebody refers to.
        """
        cdef snapserv_pool_counts counts
        snapserv_pool_count(self.pool, &counts)
        return {"calls": counts.calls, "faults": counts.faults, "whole": counts.whole, "slots": counts.slots}


@cython.no_gc_clear
cdef class Table:
    """Which pages of a pool some bytes are. It refers to each until it is dropped, or nobody has it any more."""

    cdef readonly PagePool pool
    cdef public object slots

    def __init__(self, PagePool pool, size_t pages):
        self.pool = pool
        self.slots = np.empty(pages, np.uint32)

    def __dealloc__(self):
        if self.pool is not None:
            self.drop()

    def drop(self) -> None:
        """Refer to nothing any more."""
        cdef uint32_t[::1] slots = self.slots
        cdef size_t count = slots.shape[0]
        self.slots = self.slots[:0]
        if count:
            with nogil:
                snapserv_pool_drop(self.pool.pool, &slots[0], count)

    def read(self, size_t offset, size_t size) -> bytes:
        """Return a copy of some bytes, which must be within the table."""
        cdef uint32_t[::1] slots = self.slots
        if offset > slots.shape[0] * _PAGE or size > slots.shape[0] * _PAGE - offset:
            raise ValueError("not within the table")
        cdef bytes content = PyBytes_FromStringAndSize(NULL, size)
        cdef char *into = PyBytes_AS_STRING(content)
        if size:
            with nogil:
                snapserv_pool_read(self.pool.pool, &slots[0], offset, size, into)
        return content

    def map(self, size_t address) -> None:
        """Map its pages from ``address`` on, where address space is reserved for all of them; read-only.

        Raises:
            OSError: ENOMEM, no area left; some of it is mapped.
        """
        cdef uint32_t[::1] slots = self.slots
        cdef int result
        with nogil:
            result = snapserv_pool_map(self.pool.pool, <char *><uintptr_t>address, &slots[0], slots.shape[0])
        if result < 0:
            PyErr_SetFromErrno(OSError)

    def renewed(self, const int64_t[::1] pages, size_t address) -> Table:
        """Return a table with the same pages, but for some, which are copied from memory.

        Args:
            pages: The numbers of those.
            address: Where page 0 is in memory.

        Raises:
            OSError: ENOMEM, the pool is full.
        """
        cdef Table renewed = Table(self.pool, 0)
        cdef uint32_t[::1] slots = self.slots.copy(), fresh = np.empty(pages.shape[0], np.uint32)
        cdef size_t i, count = pages.shape[0]
        if count and snapserv_pool_take(self.pool.pool, &fresh[0], count) < 0:
            PyErr_SetFromErrno(OSError)
        with nogil:
            snapserv_pool_share(self.pool.pool, &slots[0], slots.shape[0])
            for i in range(count):
                snapserv_pool_drop(self.pool.pool, &slots[pages[i]], 1)
                slots[pages[i]] = fresh[i]
                snapserv_pool_fill(self.pool.pool, fresh[i], <char *><uintptr_t>(address + pages[i] * _PAGE))
        renewed.slots = np.asarray(slots)
        return renewed


@cython.no_gc_clear
cdef class Remapped:
    """Memory that shows the pages of a table, each replaced by one of its own before it is first written.

    Args:
        table: What it shows first. It belongs to the memory from now on, and is empty afterwards.
        address: Where address space is reserved for it.

    Raises:
        OSError: ENOMEM, no area left; ENOSPC, too many such regions. The table is as it was.
    """

    cdef snapserv_remapped *region
    cdef PagePool pool
    cdef size_t pages

    def __init__(self, Table table, size_t address):
        if self.region != NULL:
            raise RuntimeError("a region is made once")
        cdef uint32_t[::1] slots = table.slots
        cdef size_t pages = slots.shape[0]
        self.pool = table.pool
        self.pages = pages
        with nogil:
            self.region = snapserv_remap(self.pool.pool, <char *><uintptr_t>address, &slots[0], pages)
        if self.region == NULL:
            PyErr_SetFromErrno(OSError)
        table.slots = table.slots[:0]

    def __dealloc__(self):
        self.end()

    def snapshot(self) -> Table:
        """Return its pages as they are at this instant, also where other threads write.

        Raises:
            OSError: ENOMEM.
        """
        cdef Table table = Table(self.pool, self.pages)
        cdef uint32_t[::1] slots = table.slots
        cdef int result
        with nogil:
            result = snapserv_remap_snapshot(self.region, &slots[0])
        if result < 0:
            table.slots = table.slots[:0]
            PyErr_SetFromErrno(OSError)
        return table

    def restore(self, Table table) -> None:
        """Show the pages of a table again, which stays as it is.

        Raises:
            OSError: ENOMEM, neither areas nor memory are left; some pages are put back, and others are not.
        """
        cdef uint32_t[::1] slots = table.slots
        cdef int result
        if <size_t>slots.shape[0] != self.pages:
            raise ValueError("a table of another size")
        with nogil:
            result = snapserv_remap_restore(self.region, &slots[0])
        if result < 0:
            PyErr_SetFromErrno(OSError)

    def end(self) -> None:
        """Show nothing any more. The memory is still mapped, and must not be written."""
        cdef snapserv_remapped *region = self.region
        self.region = NULL
        if region != NULL:
            with nogil:
                snapserv_remap_end(region)
