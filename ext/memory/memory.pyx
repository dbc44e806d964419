"""Memory of this process and of others: mappings for the arena, private pages, and reading from outside.

Functions raise OSError with the kernel's number; the callers in Python know what it means to the user.
Addresses and sizes are bytes.
"""

import os

import numpy as np

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport EFAULT, EINVAL, EIO, ENOSYS, ENOTTY, EPERM, ESRCH, errno as c_errno
from libc.stdint cimport int64_t, uint64_t, uintptr_t

cdef extern from "memory/pagemap_scan.h":
    struct snapserv_page_region:
        unsigned long long start
        unsigned long long end
    long snapserv_scan_private(int pagemap, uint64_t start, uint64_t end, snapserv_page_region *found, uint64_t most,
                               unsigned long long *walked) nogil

cdef extern from *:
    """
    #include <linux/types.h>
    #include <stdint.h>
    #include <string.h>
    #include <sys/ioctl.h>
    #include <sys/mman.h>
    #include <sys/uio.h>
    #include <unistd.h>

    #ifndef MADV_POPULATE_WRITE
    #define MADV_POPULATE_WRITE 23
    #endif
    #ifndef MADV_COLLAPSE
    #define MADV_COLLAPSE 25
    #endif
    """
    struct iovec:
        void *iov_base
        size_t iov_len
    ssize_t process_vm_readv(int pid, iovec *here, unsigned long here_count,
                             iovec *there, unsigned long there_count, unsigned long flags) nogil
    ssize_t pread(int descriptor, void *into, size_t size, int64_t offset) nogil

    void *mmap(void *address, size_t size, int protection, int flags, int descriptor, int64_t offset) nogil
    int munmap(void *address, size_t size) nogil
    int madvise(void *address, size_t size, int advice) nogil
    int MAP_ANONYMOUS, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED
    int PROT_NONE, PROT_READ, PROT_WRITE
    int MADV_COLLAPSE, MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_POPULATE_WRITE
    void *MAP_FAILED

cdef extern from "<sys/resource.h>":
    struct rusage:
        long ru_minflt
    int RUSAGE_SELF
    int getrusage(int who, rusage *usage) nogil

cdef extern from "memory/huge_tmpfs.h":
    int snapserv_open_huge_tmpfs(uint64_t size, const char **refused) nogil

PAGE = os.sysconf("SC_PAGESIZE")
HUGE_PAGE = 2 << 20
cdef uint64_t _PAGE = PAGE
cdef uint64_t _HUGE = HUGE_PAGE
cdef enum:
    MOST_VECTORS = 1024  # IOV_MAX, see readv(2)
    MOST_REGIONS = 2048


# ------------------------------------------------------------------------------------------------- mappings


def open_huge_tmpfs(size: int) -> int:
    """Return a descriptor of an unnamed file of ``size`` bytes on a tmpfs of huge pages of its own.

    Raises:
        OSError: ``filename`` of the error names the step that the kernel refused.
    """
    cdef const char *refused = b""
    cdef uint64_t wanted = size
    cdef int descriptor, number = 0
    with nogil:
        descriptor = snapserv_open_huge_tmpfs(wanted, &refused)
        if descriptor < 0:
            number = c_errno
    if descriptor < 0:
        raise OSError(number, os.strerror(number), (<bytes>refused).decode())
    return descriptor


cdef class Reservation:
    """Address space that nothing can touch until something is mapped over it, aligned to huge pages.

    A ``memoryview`` of it covers all of it and keeps it: the address space goes back to the kernel, with
    what was mapped there, when neither the reservation nor a view of it is referred to, or by `release`. It is at
    ``near``, if that is a multiple of a huge page and free there.

    Raises:
        OSError: ENOMEM, more than the process may have (RLIMIT_AS, or what the processor can address).
    """

    cdef readonly size_t address
    cdef readonly size_t size

    def __init__(self, size_t size, size_t near=0):
        if self.address:
            raise RuntimeError("a reservation is made once")
        cdef size_t padded = size + _HUGE
        if padded < size:
            raise OverflowError("size does not fit in the address space")
        cdef void *start = mmap(<void *>near, padded, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        if start == MAP_FAILED:
            PyErr_SetFromErrno(OSError)
        cdef uintptr_t begin = <uintptr_t>start
        cdef uintptr_t aligned = (begin + _HUGE - 1) & ~(_HUGE - 1)
        if aligned > begin:
            munmap(<void *>begin, aligned - begin)
        munmap(<void *>(aligned + size), begin + padded - aligned - size)
        self.address = aligned
        self.size = size

    def __dealloc__(self):
        if self.size:
            munmap(<void *>self.address, self.size)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, <void *>self.address, self.size, 0, flags)

    def shrink(self, size_t size) -> None:
        """Give all but the first ``size`` bytes back, a multiple of the page size."""
        if size >= self.size:
            return
        if munmap(<void *>(self.address + size), self.size - size) < 0:
            PyErr_SetFromErrno(OSError)
        self.size = size

    def release(self) -> None:
        """Give everything back now. No view of it may be touched afterwards."""
        self.shrink(0)

    def blank(self, size_t offset, size_t size) -> None:
        """Take away what is mapped from ``offset`` on, and keep the address space."""
        self._check(offset, size)
        _map(self.address + offset, size, PROT_NONE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1)

    def map_file(self, size_t offset, size_t size, int descriptor, *, bint shared) -> None:
        """Map a file from ``offset`` on, readable and writable, in huge pages if it has them.

        Privately unless ``shared``: the kernel then copies each page that is written first.
        """
        self._check(offset, size)
        # A private mapping is charged as its pages are written: they are counted when they are, not beforehand.
        cdef int flags = MAP_SHARED if shared else MAP_PRIVATE | MAP_NORESERVE
        _map(self.address + offset, size, PROT_READ | PROT_WRITE, MAP_FIXED | flags, descriptor)
        _advise(self.address + offset, size, MADV_HUGEPAGE)

    def map_anonymous(self, size_t offset, size_t size, *, bint huge) -> None:
        """Map fresh zero pages from ``offset`` on, private, in huge pages or surely not in huge pages."""
        self._check(offset, size)
        _map(self.address + offset, size, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1)
        _advise(self.address + offset, size, MADV_HUGEPAGE if huge else MADV_NOHUGEPAGE)

    def populate(self, size_t offset, size_t size) -> None:
        """Take the pages from ``offset`` on from the kernel now (MADV_POPULATE_WRITE, Linux 5.14; else later)."""
        self._check(offset, size)
        _advise(self.address + offset, size, MADV_POPULATE_WRITE)

    cdef _check(self, size_t offset, size_t size):
        # MAP_FIXED replaces whatever is there: one byte too far would be memory of somebody else.
        if offset > self.size or size > self.size - offset:
            raise ValueError(f"{size:,} bytes at {offset:,} are not within the {self.size:,} that are reserved")


cdef _map(size_t address, size_t size, int protection, int flags, int descriptor):
    if mmap(<void *>address, size, protection, flags, descriptor, 0) == MAP_FAILED:
        PyErr_SetFromErrno(OSError)


cdef _advise(size_t address, size_t size, int advice):
    # EINVAL where the kernel does not know the advice: the mapping is as good as it gets then.
    cdef int number = 0
    with nogil:
        if madvise(<void *>address, size, advice) < 0:
            number = c_errno
    if number not in (0, EINVAL):
        raise OSError(number, os.strerror(number))


def count_faults() -> int:
    """Return how many page faults this process has had that needed no reading from disk (getrusage(2))."""
    cdef rusage usage
    if getrusage(RUSAGE_SELF, &usage) < 0:
        PyErr_SetFromErrno(OSError)
    return usage.ru_minflt


def collapse(start: int, end: int) -> bool:
    """Have the kernel make huge pages of the memory between two addresses (MADV_COLLAPSE, Linux 6.1; madvise(2)).

    Returns:
        Whether all of it is huge pages now. If not, some may be: there may be no more free, or the kernel may not
        know how.
    """
    cdef size_t address = start, size = end - start
    cdef int made
    with nogil:
        made = madvise(<void *>address, size, MADV_COLLAPSE)
    return made == 0


# -------------------------------------------------------------------------------------------- private pages


def scan_private(pid: int, start: int, end: int):
    """Return the private pages of a process between two addresses: those that are not pages of a file.

    Of a private mapping of a file, a page is private once it was written: it is then an anonymous page, present or
    swapped. Found by PAGEMAP_SCAN (Linux 6.7, Documentation/admin-guide/mm/pagemap.rst), or by
    `scan_private_pagemap` where the kernel has no such call.

    Args:
        pid: The process; 0 for this one.
        start: The first address, page-aligned.
        end: The address after the last, page-aligned.

    Returns:
        Address ranges, shape (n, 2), uint64: in order and apart.

    Raises:
        ProcessLookupError: No such process, or it ended meanwhile.
        PermissionError: Not ours to look at.
    """
    cdef snapserv_page_region[MOST_REGIONS] found
    cdef uint64_t at = start, stop = end
    cdef unsigned long long walked = 0
    cdef long count, i
    cdef int number = 0
    cdef uint64_t[:, ::1] out
    pieces = []
    cdef int pagemap = _open_of(pid, "pagemap")
    try:
        while at < stop:
            with nogil:
                count = snapserv_scan_private(pagemap, at, stop, found, MOST_REGIONS, &walked)
                if count < 0:
                    number = c_errno
            if number in (ENOTTY, EINVAL, ENOSYS, EPERM):
                return scan_private_pagemap(pid, start, end)
            if number:
                raise OSError(number, os.strerror(number))
            if count:
                piece = np.empty((count, 2), np.uint64)
                out = piece
                for i in range(count):
                    out[i, 0] = found[i].start
                    out[i, 1] = found[i].end
                pieces.append(piece)
            at = walked
        # The memory of a process that ends is taken apart under the scan, which then finds too little and says
        # nothing. A read gives nothing from that moment on: if it still gives something, the scan was whole.
        if at > start and not os.pread(pagemap, 8, start // _PAGE * 8):
            raise ProcessLookupError(ESRCH, f"process {pid} ended")
    finally:
        os.close(pagemap)
    return _joined(np.concatenate(pieces)) if pieces else np.empty((0, 2), np.uint64)


def scan_private_pagemap(pid: int, start: int, end: int):
    """Return what `scan_private` does, by reading 8 bytes a page of /proc/PID/pagemap (proc_pid_pagemap(5)).

    Bit 63 says present, 62 swapped, 61 page of a file or shared.

    Raises:
        ProcessLookupError: No such process, or it ended meanwhile.
        PermissionError: Not ours to look at.
    """
    pieces = []
    cdef uint64_t at = start
    cdef int pagemap = _open_of(pid, "pagemap")
    try:
        while at < end:
            pages = min((end - at) // _PAGE, 1 << 18)
            entries = np.frombuffer(os.pread(pagemap, pages * 8, at // _PAGE * 8), np.uint64)
            if len(entries) == 0:
                raise ProcessLookupError(ESRCH, f"process {pid} ended")
            private = (entries >> np.uint64(62) != 0) & (entries >> np.uint64(61) & np.uint64(1) == 0)
            starts = at + np.flatnonzero(private).astype(np.uint64) * np.uint64(_PAGE)
            pieces.append(np.stack((starts, starts + np.uint64(_PAGE)), axis=1))
            at += len(entries) * _PAGE
    finally:
        os.close(pagemap)
    return _joined(np.concatenate(pieces)) if pieces else np.empty((0, 2), np.uint64)


def _joined(ranges):
    """Join ranges that touch."""
    if len(ranges) < 2:
        return ranges
    first = np.concatenate(([True], ranges[1:, 0] != ranges[:-1, 1]))
    last = np.concatenate((first[1:], [True]))
    return np.stack((ranges[first, 0], ranges[last, 1]), axis=1)


def _open_of(pid: int, name: str) -> int:
    """Open a file of /proc/PID; a process that is not there is ESRCH, as it is for system calls."""
    try:
        return os.open(f"/proc/{pid or 'self'}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ProcessLookupError(ESRCH, f"no process {pid}") from None


# --------------------------------------------------------------------------------------------- other processes


def read_process(pid: int, const uint64_t[::1] addresses, size_t each, unsigned char[::1] into, *,
                 bint files=False) -> None:
    """Copy ``each`` bytes from every address of the process ``pid``, one after the other, into ``into``.

    Through /proc/PID/mem, which leaves pages shared. process_vm_readv(2) is twice as fast, but pins what it reads, and
    since Linux 5.19 an anonymous page that is shared after a fork is copied for whom it is pinned for: who reads a
    snapshot in that way makes it private. So it is used only where ``files`` says that all of it is pages of files,
    or where /proc/PID/mem is refused.

    Raises:
        ProcessLookupError: No such process.
        PermissionError: Neither way is allowed.
        OSError: EFAULT, an address that is not mapped there.
    """
    cdef Py_ssize_t count = addresses.shape[0]
    if <size_t>into.shape[0] != each * count:
        raise ValueError("into does not have the size of what is read")
    if each == 0 or count == 0:
        return
    cdef int number = EPERM, descriptor = -1
    cdef int process = pid
    if files:
        with nogil:
            number = _read_vectors(process, &addresses[0], count, each, &into[0])
    if number in (EPERM, ENOSYS):
        try:
            descriptor = _open_of(pid, "mem")
        except PermissionError:
            with nogil:
                number = _read_vectors(process, &addresses[0], count, each, &into[0])
    if descriptor >= 0:
        try:
            with nogil:
                number = _read_mem(descriptor, &addresses[0], count, each, &into[0])
        finally:
            os.close(descriptor)
    if number:
        raise OSError(number, os.strerror(number))


cdef int _read_vectors(int pid, const uint64_t *addresses, Py_ssize_t count, size_t each,
                       unsigned char *into) noexcept nogil:
    """Return 0, or the error's number. The kernel may copy less than asked: it goes on where it stopped."""
    cdef iovec here
    cdef iovec[MOST_VECTORS] there
    cdef size_t total = each * count, done = 0, index, within, wanted, left
    cdef Py_ssize_t vectors
    cdef ssize_t got
    while done < total:
        index = done // each
        within = done % each
        wanted = 0
        vectors = 0
        while vectors < MOST_VECTORS and index + vectors < <size_t>count:
            left = each - within if vectors == 0 else each
            there[vectors].iov_base = <void *><uintptr_t>(
                addresses[index + vectors] + (within if vectors == 0 else 0))
            there[vectors].iov_len = left
            wanted += left
            vectors += 1
        here.iov_base = into + done
        here.iov_len = wanted
        got = process_vm_readv(pid, &here, 1, there, vectors, 0)
        if got < 0:
            return c_errno
        if got == 0:
            return EFAULT
        done += got
    return 0


cdef int _read_mem(int descriptor, const uint64_t *addresses, Py_ssize_t count, size_t each,
                   unsigned char *into) noexcept nogil:
    """Return 0, or the error's number, in the words of process_vm_readv: mem says EIO for EFAULT, 0 for ESRCH."""
    cdef Py_ssize_t i
    cdef size_t done
    cdef ssize_t got
    for i in range(count):
        done = 0
        while done < each:
            got = pread(descriptor, into + i * each + done, each - done, <int64_t>(addresses[i] + done))
            if got < 0:
                return EFAULT if c_errno == EIO else c_errno
            if got == 0:
                return ESRCH
            done += got
    return 0
