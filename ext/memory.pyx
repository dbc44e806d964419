"""Memory of this process and of others: mappings for the arena, private pages, and reading from outside.

Functions raise OSError with the kernel's number; the callers in Python know what it means to the user.
Addresses and sizes are bytes.
"""

import errno
import os

import numpy as np

from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport errno as c_errno
from libc.stdint cimport int64_t, uint64_t, uintptr_t

cdef extern from *:
    """
    #include <errno.h>
    #include <fcntl.h>
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
    #ifndef MAP_FIXED_NOREPLACE
    #define MAP_FIXED_NOREPLACE 0x100000
    #endif

    /* linux/fs.h of Linux 6.7 and later, under names of our own: older headers lack them. */
    struct snapserv_page_region { __u64 start, end, categories; };
    struct snapserv_scan {
        __u64 size, flags, start, end, walk_end, vec, vec_len, max_pages,
              category_inverted, category_mask, category_anyof_mask, return_mask;
    };
    enum { SCAN_FILE = 1 << 2, SCAN_PRESENT = 1 << 3, SCAN_SWAPPED = 1 << 4, SCAN_PFNZERO = 1 << 5 };
    #define SNAPSERV_PAGEMAP_SCAN _IOWR('f', 16, struct snapserv_scan)
    enum { SCAN_REGIONS = 2048 };

    /* List pages that are present or swapped and no file pages. Returns how many regions were found and sets
     * *walked to where to go on, or -1 with errno. */
    static long scan_some(int pagemap, __u64 start, __u64 end, struct snapserv_page_region *found, __u64 *walked)
    {
        struct snapserv_scan scan;
        memset(&scan, 0, sizeof scan);
        scan.size = sizeof scan;
        scan.start = start;
        scan.end = end;
        scan.vec = (__u64)(uintptr_t)found;
        scan.vec_len = SCAN_REGIONS;
        scan.category_inverted = SCAN_FILE | SCAN_PFNZERO;
        scan.category_mask = SCAN_FILE | SCAN_PFNZERO;
        scan.category_anyof_mask = SCAN_PRESENT | SCAN_SWAPPED;
        scan.return_mask = SCAN_PRESENT;
        long count = ioctl(pagemap, SNAPSERV_PAGEMAP_SCAN, &scan);
        *walked = scan.walk_end;
        return count;
    }
    """
    struct snapserv_page_region:
        unsigned long long start
        unsigned long long end
    long scan_some(int pagemap, uint64_t start, uint64_t end, snapserv_page_region *found,
                   unsigned long long *walked) nogil

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
    int MADV_DONTNEED, MADV_HUGEPAGE, MADV_NOHUGEPAGE
    void *MAP_FAILED

cdef extern from "huge_tmpfs.h":
    int snapserv_open_huge_tmpfs(uint64_t size, const char **refused) nogil

PAGE = 4096
HUGE_PAGE = 2 << 20
cdef uint64_t _PAGE = 4096
cdef uint64_t _HUGE = 2 << 20
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
    cdef int descriptor
    with nogil:
        descriptor = snapserv_open_huge_tmpfs(wanted, &refused)
    if descriptor < 0:
        raise OSError(c_errno, os.strerror(c_errno), (<bytes>refused).decode())
    return descriptor


def reserve(size: int) -> int:
    """Return the start of ``size`` bytes of address space that nothing can touch, aligned to huge pages."""
    cdef size_t wanted = size
    cdef size_t padded = wanted + _HUGE
    cdef void *start = mmap(NULL, padded, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    if start == MAP_FAILED:
        PyErr_SetFromErrno(OSError)
    cdef uintptr_t begin = <uintptr_t>start
    cdef uintptr_t aligned = (begin + _HUGE - 1) & ~(_HUGE - 1)
    if aligned > begin:
        munmap(<void *>begin, aligned - begin)
    if begin + padded > aligned + wanted:
        munmap(<void *>(aligned + wanted), begin + padded - aligned - wanted)
    return aligned


def unmap(address: int, size: int) -> None:
    """Give address space back."""
    if size and munmap(<void *><uintptr_t>address, size) < 0:
        PyErr_SetFromErrno(OSError)


def map_file(address: int, size: int, descriptor: int, *, shared: bool, huge: bool) -> None:
    """Map a file over ``address``, readable and writable; privately unless ``shared``.

    With ``huge`` the mapping is advised to use huge pages.
    """
    cdef int flags = MAP_FIXED | (MAP_SHARED if shared else MAP_PRIVATE | MAP_NORESERVE)
    _map(address, size, flags, descriptor)
    if huge:
        _advise(address, size, MADV_HUGEPAGE)


def map_anonymous(address: int, size: int, *, huge: bool) -> None:
    """Map fresh zero pages over ``address``, private, in huge pages or surely not in huge pages."""
    _map(address, size, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1)
    _advise(address, size, MADV_HUGEPAGE if huge else MADV_NOHUGEPAGE)


def view(address: int, size: int):
    """Return a writable memoryview of ``size`` bytes at ``address``; the caller keeps them mapped."""
    if size == 0:
        return memoryview(bytearray())
    cdef unsigned char[::1] bytes_there = <unsigned char[:size:1]><unsigned char *><uintptr_t>address
    return memoryview(bytes_there)


cdef _map(address, size, int flags, int descriptor):
    cdef void *start = mmap(<void *><uintptr_t>address, size, PROT_READ | PROT_WRITE, flags, descriptor, 0)
    if start == MAP_FAILED:
        PyErr_SetFromErrno(OSError)


cdef _advise(address, size, int advice):
    # EINVAL where the kernel has no huge pages at all: the mapping is as good as it gets then.
    if madvise(<void *><uintptr_t>address, size, advice) < 0 and c_errno != errno.EINVAL:
        PyErr_SetFromErrno(OSError)


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
        OSError: ENOENT or ESRCH, no such process; EACCES, not ours to look at.
    """
    cdef snapserv_page_region[MOST_REGIONS] found
    cdef uint64_t at = start, stop = end
    cdef unsigned long long walked = 0
    cdef long count, i
    cdef uint64_t[:, ::1] out
    pieces = []
    cdef int pagemap = os.open(f"/proc/{pid or 'self'}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        while at < stop:
            with nogil:
                count = scan_some(pagemap, at, stop, found, &walked)
            if count < 0:
                if c_errno in (errno.ENOTTY, errno.EINVAL, errno.ENOSYS, errno.EPERM):
                    return scan_private_pagemap(pid, start, end)
                PyErr_SetFromErrno(OSError)
            if count:
                piece = np.empty((count, 2), np.uint64)
                out = piece
                for i in range(count):
                    out[i, 0] = found[i].start
                    out[i, 1] = found[i].end
                pieces.append(piece)
            if walked <= at:
                break
            at = walked
    finally:
        os.close(pagemap)
    return _joined(np.concatenate(pieces)) if pieces else np.empty((0, 2), np.uint64)


def scan_private_pagemap(pid: int, start: int, end: int):
    """Return what `scan_private` does, by reading 8 bytes a page of /proc/PID/pagemap (proc_pid_pagemap(5)).

    Bit 63 says present, 62 swapped, 61 page of a file or shared. The zero page counts as private here where the
    page frame numbers are hidden, since nothing else tells it.
    """
    pieces = []
    cdef uint64_t at = start
    with open(f"/proc/{pid or 'self'}/pagemap", "rb", buffering=0) as pagemap:
        while at < end:
            pages = min((end - at) // _PAGE, 1 << 18)
            entries = np.frombuffer(os.pread(pagemap.fileno(), pages * 8, at // _PAGE * 8), np.uint64)
            if len(entries) == 0:
                break
            private = (entries >> np.uint64(62) != 0) & (entries >> np.uint64(61) & np.uint64(1) == 0)
            numbers = np.flatnonzero(private).astype(np.uint64)
            starts = at + numbers * np.uint64(_PAGE)
            pieces.append(np.stack((starts, starts + np.uint64(_PAGE)), axis=1))
            at += len(entries) * _PAGE
    return _joined(np.concatenate(pieces)) if pieces else np.empty((0, 2), np.uint64)


def _joined(ranges):
    """Join ranges that touch."""
    if len(ranges) < 2:
        return ranges
    first = np.concatenate(([True], ranges[1:, 0] != ranges[:-1, 1]))
    last = np.concatenate((first[1:], [True]))
    return np.stack((ranges[first, 0], ranges[last, 1]), axis=1)


# --------------------------------------------------------------------------------------------- other processes


def read_process(pid: int, const uint64_t[::1] addresses, size_t each, unsigned char[::1] into) -> None:
    """Copy ``each`` bytes from every address of the process ``pid``, one after the other, into ``into``.

    By process_vm_readv(2); through /proc/PID/mem where that call is refused (seccomp filters of some containers).

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
    cdef int number
    cdef int process = pid
    with nogil:
        number = _read_vectors(process, &addresses[0], count, each, &into[0])
    if number in (errno.EPERM, errno.ENOSYS):
        _read_mem(pid, addresses, each, into)
    elif number:
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
            return errno_fault()
        done += got
    return 0


cdef extern from "errno.h":
    int EFAULT

cdef inline int errno_fault() noexcept nogil:
    return EFAULT


def _read_mem(pid, const uint64_t[::1] addresses, size_t each, unsigned char[::1] into):
    cdef int descriptor = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    cdef Py_ssize_t i
    cdef size_t done
    cdef ssize_t got
    try:
        for i in range(addresses.shape[0]):
            done = 0
            while done < each:
                got = pread(descriptor, &into[i * each + done], each - done, <int64_t>(addresses[i] + done))
                if got < 0:
                    PyErr_SetFromErrno(OSError)
                if got == 0:
                    raise ProcessLookupError(errno.ESRCH, "the process ended")
                done += got
    finally:
        os.close(descriptor)
