"""New memory in the place of old: a fresh base image for a segment, or a copy that is shared with nobody.

Both happen in the process that writes, between two of its steps. Who was cloned before keeps what was mapped then.
Addresses and sizes are bytes, and multiples of 2 MiB. Functions raise OSError with the kernel's number.
"""

import os

from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport EINVAL, errno
from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #include <sys/mman.h>

    #ifndef MADV_POPULATE_WRITE
    #define MADV_POPULATE_WRITE 23
    #endif
    """
    void *mmap(void *address, size_t size, int protection, int flags, int descriptor, int64_t offset) nogil
    void *mremap(void *address, size_t size, size_t new_size, int flags, void *new_address) nogil
    int munmap(void *address, size_t size) nogil
    int madvise(void *address, size_t size, int advice) nogil
    int MAP_ANONYMOUS, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED
    int MREMAP_FIXED, MREMAP_MAYMOVE
    int PROT_NONE, PROT_READ, PROT_WRITE
    int MADV_DOFORK, MADV_DONTFORK, MADV_HUGEPAGE, MADV_POPULATE_WRITE
    void *MAP_FAILED

cdef enum:
    HUGE = 0x200000  # 2 MiB


cdef class Image:
    """A base image in the making: a new file, mapped twice where no clone of this process sees it.

    Populated a piece at a time, it then takes the place of memory of the same size. The descriptor may be closed at
    once: nobody can reach the file but through the mappings.

    Raises:
        OSError: ENOMEM, no address space.
    """

    cdef char *shared
    cdef char *private
    cdef readonly size_t size
    cdef readonly size_t populated

    def __init__(self, size_t size, int descriptor):
        if self.size:
            raise RuntimeError("an image is made once")
        self.shared = _map_aligned(size, MAP_SHARED, descriptor)
        if self.shared == NULL:
            PyErr_SetFromErrno(OSError)
        self.private = _map_aligned(size, MAP_PRIVATE | MAP_NORESERVE, descriptor)
        if self.private == NULL:
            number = errno
            munmap(self.shared, size)
            raise OSError(number, os.strerror(number))
        self.size = size
        _advise(<size_t>self.shared, size, MADV_HUGEPAGE)
        for address in (<size_t>self.shared, <size_t>self.private):
            _advise(address, size, MADV_DONTFORK)

    @property
    def address(self) -> int:
        """Where it is filled; 0 once it has been put in its place, or given up."""
        return <uintptr_t>self.shared

    def __dealloc__(self):
        self.abandon()

    def populate(self, size_t most) -> bool:
        """Take up to ``most`` more bytes from the kernel, a multiple of 2 MiB; return whether all are there.

        Raises:
            OSError: ENOMEM, EFAULT or ENOSPC: there is no more. An error now is no SIGBUS later.
        """
        cdef size_t piece = min(most, self.size - self.populated)
        if piece:
            _advise(<size_t>self.shared + self.populated, piece, MADV_POPULATE_WRITE)
            self.populated += piece
        return self.populated == self.size

    def replace(self, size_t address) -> None:
        """Copy the memory at ``address`` into the file, and map it privately there instead.

        Whoever was cloned before keeps what was mapped there. The image is used up.

        Raises:
            OSError: ENOMEM; nothing has changed.
        """
        if not self.size or self.populated < self.size:
            raise ValueError("the image is not populated")
        cdef int number = 0
        with nogil:
            memcpy(self.shared, <void *>address, self.size)
            if mremap(self.private, self.size, self.size, MREMAP_MAYMOVE | MREMAP_FIXED, <void *>address) == MAP_FAILED:
                number = errno
        if number:
            self.abandon()
            raise OSError(number, os.strerror(number))
        munmap(self.shared, self.size)
        size, self.size = self.size, 0
        _advise(address, size, MADV_DOFORK)
        _advise(address, size, MADV_HUGEPAGE)

    def abandon(self) -> None:
        """Give everything back."""
        if self.size:
            munmap(self.shared, self.size)
            munmap(self.private, self.size)
        self.size = 0

    def forget(self) -> None:
        """Be no image any more, in a clone, which has not got the mappings."""
        self.size = 0


cdef char *_map_aligned(size_t size, int flags, int descriptor) noexcept nogil:
    """Map memory at a multiple of 2 MiB, readable and writable; NULL with errno where it cannot be had."""
    cdef char *start = <char *>mmap(NULL, size + HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    if start == <char *>MAP_FAILED:
        return NULL
    cdef char *aligned = <char *>((<uintptr_t>start + HUGE - 1) & ~<uintptr_t>(HUGE - 1))
    if aligned > start:
        munmap(start, aligned - start)
    munmap(aligned + size, start + HUGE - aligned)
    if mmap(aligned, size, PROT_READ | PROT_WRITE, MAP_FIXED | flags, descriptor, 0) == MAP_FAILED:
        munmap(aligned, size)  # which leaves errno alone where it succeeds
        return NULL
    return aligned


def detach(size_t address, size_t size) -> None:
    """Copy memory into anonymous memory of this process's own, in huge pages, and put that in its place.

    What is about to be written whole is copied 2 MiB at a time, instead of by a fault for each 4 KiB.

    Raises:
        OSError: ENOMEM; nothing has changed.
    """
    cdef int number = 0
    cdef size_t done = 0, piece
    cdef char *fresh
    with nogil:
        fresh = _map_aligned(size, MAP_PRIVATE | MAP_ANONYMOUS, -1)
        if fresh == NULL:
            number = errno
        else:
            madvise(fresh, size, MADV_HUGEPAGE)
            # One huge page at a time: the kernel has just cleared it, so it is in the cache when it is filled.
            while done < size and not number:
                piece = min(<size_t>HUGE, size - done)
                if madvise(fresh + done, piece, MADV_POPULATE_WRITE) < 0 and errno != EINVAL:
                    number = errno
                else:
                    memcpy(fresh + done, <char *>address + done, piece)
                    done += piece
            if not number and mremap(fresh, size, size, MREMAP_MAYMOVE | MREMAP_FIXED,
                                     <void *>address) == MAP_FAILED:
                number = errno
            if number:
                munmap(fresh, size)
    if number:
        raise OSError(number, os.strerror(number))


cdef _advise(size_t address, size_t size, int advice):
    # EINVAL where the kernel does not know the advice: the mapping is as good as it gets then.
    if madvise(<void *>address, size, advice) < 0 and errno != EINVAL:
        PyErr_SetFromErrno(OSError)
