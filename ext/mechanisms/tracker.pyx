"""Which pages were written, told afterwards: the asynchronous half of `userfault.c`, seen from Python.

Functions raise OSError with the kernel's number; the callers in Python know what it means to the user.
Addresses and sizes are bytes. Pages are counted from the start of the memory.
"""

import os

import numpy as np

from cpython.exc cimport PyErr_SetFromErrno
from libc.stdint cimport uint64_t, uintptr_t

cdef extern from "mechanisms/userfault.h":
    int snapserv_open_userfault(int asynchronous, int *user_only) nogil
    int snapserv_userfault_track(int descriptor, char *start, size_t size) nogil

cdef extern from "memory/pagemap_scan.h":
    struct snapserv_page_region:
        unsigned long long start
        unsigned long long end
    long snapserv_scan_written(int pagemap, uint64_t start, uint64_t end, snapserv_page_region *found, uint64_t most,
                               unsigned long long *walked) nogil

cdef size_t _PAGE = os.sysconf("SC_PAGESIZE")
cdef enum:
    MOST_REGIONS = 2048


def open_userfault(*, bint asynchronous) -> tuple[int, bool]:
    """Return a descriptor of userfaultfd(2), and whether it sees only what the process writes in user mode.

    Raises:
        OSError: EPERM, not allowed; EINVAL, the kernel is too old; ENOSYS, it was built without.
    """
    cdef int user_only = 0
    cdef int descriptor = snapserv_open_userfault(asynchronous, &user_only)
    if descriptor < 0:
        PyErr_SetFromErrno(OSError)
    return descriptor, bool(user_only)


cdef class Tracker:
    """Tells which pages of private memory were written: by userfaultfd(2) and PAGEMAP_SCAN, with nobody asked.

    Args:
        address: Of the memory, page-aligned; it must not have huge pages.
        size: In bytes, whole pages.

    Raises:
        OSError: EPERM, not allowed; EINVAL, the kernel is too old (Linux 6.7 has it).
    """

    cdef uint64_t address, size
    cdef int descriptor, pagemap

    def __cinit__(self):
        self.descriptor = self.pagemap = -1

    def __init__(self, uint64_t address, uint64_t size):
        if self.descriptor >= 0:
            raise RuntimeError("a tracker is made once")
        self.address = address
        self.size = size
        self.descriptor, _ = open_userfault(asynchronous=True)
        self.pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        if snapserv_userfault_track(self.descriptor, <char *><uintptr_t>address, size) < 0:
            PyErr_SetFromErrno(OSError)

    def __dealloc__(self):
        self.end()

    def written(self):
        """Return the pages that were written since the last call, in order; at first those that are there.

        Returns:
            Numbers of pages, shape (n,), int64.

        Raises:
            OSError: The kernel cannot.
        """
        cdef snapserv_page_region[MOST_REGIONS] found
        cdef uint64_t at = self.address, stop = self.address + self.size
        cdef unsigned long long walked = 0
        cdef long count = 0, i
        pieces = [np.empty(0, np.int64)]
        while at < stop:
            with nogil:
                count = snapserv_scan_written(self.pagemap, at, stop, found, MOST_REGIONS, &walked)
            if count < 0:
                PyErr_SetFromErrno(OSError)
            for i in range(count):
                pieces.append(np.arange((found[i].start - self.address) // _PAGE,
                                        (found[i].end - self.address) // _PAGE))
            at = walked
        return np.concatenate(pieces)

    def end(self) -> None:
        """Track no more."""
        for descriptor in (self.descriptor, self.pagemap):
            if descriptor >= 0:
                os.close(descriptor)
        self.descriptor = self.pagemap = -1
