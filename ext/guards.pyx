"""Memory whose first writes are noticed and copied: `write_faults.c`, seen from Python."""

import os

from cpython.exc cimport PyErr_SetFromErrno
from libc.stdint cimport uint64_t, uintptr_t

cdef extern from "write_faults.h":
    struct snapserv_guarded:
        pass
    snapserv_guarded *snapserv_guard(char *start, size_t pages, size_t page_bytes) nogil
    void snapserv_unguard(snapserv_guarded *guarded) nogil
    int snapserv_guard_snapshot(snapserv_guarded *guarded, char *view) nogil
    void snapserv_guard_forget(snapserv_guarded *guarded, char *view) nogil
    void snapserv_guard_counts(snapserv_guarded *guarded, uint64_t *faults, uint64_t *whole) nogil

cdef size_t _PAGE = os.sysconf("SC_PAGESIZE")


cdef class Guard:
    """Watches over a shared mapping of a file, whose snapshots are private mappings of the same file.

    Args:
        address: Of the mapping, page-aligned.
        size: In bytes, whole pages.

    Raises:
        OSError: ENOSPC, too many at once; ENOMEM.
    """

    cdef snapserv_guarded *guarded

    def __init__(self, size_t address, size_t size):
        if self.guarded != NULL:
            raise RuntimeError("a guard is made once")
        self.guarded = snapserv_guard(<char *><uintptr_t>address, size // _PAGE, _PAGE)
        if self.guarded == NULL:
            PyErr_SetFromErrno(OSError)

    def __dealloc__(self):
        self.end()

    def add(self, size_t view) -> None:
        """Have every page copied into the private mapping at ``view`` before it is written.

        From this call on the mapping has the contents of this instant, also where other threads write.

        Raises:
            OSError: ENOSPC, too many snapshots; ENOMEM, no area left. Nothing has changed.
        """
        cdef int result
        with nogil:
            result = snapserv_guard_snapshot(self.guarded, <char *><uintptr_t>view)
        if result < 0:
            PyErr_SetFromErrno(OSError)

    def remove(self, size_t view) -> None:
        """Copy nothing into the mapping at ``view`` any more: it may be unmapped."""
        if self.guarded != NULL:
            with nogil:
                snapserv_guard_forget(self.guarded, <char *><uintptr_t>view)

    @property
    def counts(self) -> tuple[int, int]:
        """How many first writes were noticed, and how often there was no area left for a single page."""
        cdef uint64_t faults = 0, whole = 0
        if self.guarded != NULL:
            snapserv_guard_counts(self.guarded, &faults, &whole)
        return faults, whole

    def end(self) -> None:
        """Watch no more; the memory is writable."""
        cdef snapserv_guarded *guarded = self.guarded
        self.guarded = NULL
        if guarded != NULL:
            with nogil:
                snapserv_unguard(guarded)
