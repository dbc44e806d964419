"""Page-table entries of the arena, and having reads make no more of them than they touch: `page_entries.c`, seen from Python.

Addresses are bytes. Functions raise OSError with the kernel's number.
"""

import os

from cpython.exc cimport PyErr_SetFromErrno
from libc.stdint cimport uint64_t

cdef extern from "memory/page_entries.h":
    struct snapserv_entries:
        uint64_t private_pages
        uint64_t mapped_pages
    int snapserv_count_entries(uint64_t start, uint64_t end, unsigned one_in, snapserv_entries *into) nogil
    long snapserv_drop_mapped(uint64_t start, uint64_t end) nogil
    int snapserv_open_registration() nogil
    int snapserv_register(int registration, uint64_t start, uint64_t end) nogil
    int snapserv_unregister(int registration, uint64_t start, uint64_t end) nogil


def count_entries(uint64_t start, uint64_t end, unsigned one_in=1) -> tuple[int, int]:
    """Return how many pages between two addresses are private, and how many of a file have an entry of their own.

    By one block of 2 MiB in ``one_in``, from the first one on.

    Raises:
        OSError: ENOTTY, the kernel has no PAGEMAP_SCAN (Linux 6.7).
    """
    cdef snapserv_entries entries
    if one_in < 1:
        raise ValueError("one_in is less than 1")
    if snapserv_count_entries(start, end, one_in, &entries) < 0:
        PyErr_SetFromErrno(OSError)
    return entries.private_pages, entries.mapped_pages


def drop_mapped(uint64_t start, uint64_t end) -> int:
    """Drop the entries of single pages of a file; return how many they were.

    Only in a process that has one thread: what another makes private meanwhile would be lost.

    Raises:
        OSError: The kernel refused it. Some may have been dropped, and the contents are what they were.
    """
    cdef long dropped
    with nogil:
        dropped = snapserv_drop_mapped(start, end)
    if dropped < 0:
        PyErr_SetFromErrno(OSError)
    return dropped


cdef class Registration:
    """Memory of which a read maps the page that it touches, and no other, for as long as this is open.

    It is this process's alone. A clone has the descriptor, and not the registration: it is to close it.

    Raises:
        OSError: EPERM or ENOSYS, it is forbidden here; EINVAL, Linux before 5.19; EMFILE.
    """

    cdef readonly int descriptor
    cdef uint64_t device, inode

    def __cinit__(self):
        self.descriptor = -1

    def __init__(self):
        self.close()
        self.descriptor = snapserv_open_registration()
        if self.descriptor < 0:
            PyErr_SetFromErrno(OSError)
        status = os.fstat(self.descriptor)
        self.device, self.inode = status.st_dev, status.st_ino

    def __dealloc__(self):
        self.close()

    @property
    def is_open(self) -> bool:
        """Whether the descriptor is what it was: who closes all that he does not know closes this one as well."""
        if self.descriptor < 0:
            return False
        try:
            status = os.fstat(self.descriptor)
        except OSError:
            return False
        return status.st_dev == self.device and status.st_ino == self.inode

    def add(self, uint64_t start, uint64_t end) -> None:
        """Have it so for what is mapped between two addresses, of files on tmpfs.

        Raises:
            OSError: EBUSY, it is registered with another one; ENOMEM.
        """
        if snapserv_register(self.descriptor, start, end) < 0:
            PyErr_SetFromErrno(OSError)

    def remove(self, uint64_t start, uint64_t end) -> None:
        """Have it so no more."""
        if snapserv_unregister(self.descriptor, start, end) < 0:
            PyErr_SetFromErrno(OSError)

    def close(self) -> None:
        """Have it so nowhere any more."""
        if self.is_open:
            os.close(self.descriptor)
        self.descriptor = -1
