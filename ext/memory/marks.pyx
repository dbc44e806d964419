"""Putting pages back: what a process has written since a mark, found by what was private then and is now.

Addresses are bytes; pages are the system's; a block is the 2 MiB that one huge page maps.
"""

import os

import numpy as np

from libc.stdint cimport uint64_t, uintptr_t
from libc.string cimport memcmp, memcpy

cdef extern from *:
    """
    #include <errno.h>
    #include <sys/mman.h>
    #include <sys/syscall.h>
    #include <sys/uio.h>
    #include <unistd.h>

    enum { MOST_DROPS = 512, OWN_PROCESS = -10000 /* PIDFD_SELF_THREAD, Linux 6.14 */ };

    struct drops {
        struct iovec ranges[MOST_DROPS];
        int count;
    };

    /* Drop the pages of all ranges (MADV_DONTNEED), in one call where the kernel takes one for one's own process: it
     * then goes through the processor's address caches once. Returns 0, or the error's number. */
    static int drop_all(struct drops *drops)
    {
        int count = drops->count;
        drops->count = 0;
    #ifdef SYS_process_madvise
        size_t size = 0;
        for (int i = 0; i < count; i++)
            size += drops->ranges[i].iov_len;
        if (count > 1 && syscall(SYS_process_madvise, OWN_PROCESS, drops->ranges, (size_t)count, MADV_DONTNEED, 0) ==
                             (ssize_t)size)
            return 0;
    #endif
        for (int i = 0; i < count; i++) /* a page that is dropped twice is dropped once */
            if (madvise(drops->ranges[i].iov_base, drops->ranges[i].iov_len, MADV_DONTNEED) < 0)
                return errno;
        return 0;
    }

    static int drop(struct drops *drops, uint64_t start, uint64_t end)
    {
        drops->ranges[drops->count++] = (struct iovec){(void *)(uintptr_t)start, end - start};
        return drops->count == MOST_DROPS ? drop_all(drops) : 0;
    }
    """
    struct drops:
        int count
    int drop(drops *into, uint64_t start, uint64_t end) nogil
    int drop_all(drops *noted) nogil

PAGE = os.sysconf("SC_PAGESIZE")
cdef uint64_t _PAGE = PAGE
cdef enum:
    BLOCK = 0x200000  # 2 MiB


def gather(const uint64_t[:, ::1] ranges):
    """Return a copy of the memory in some address ranges, one after the other, uint8."""
    cdef size_t total = 0, at = 0
    cdef Py_ssize_t i
    for i in range(ranges.shape[0]):
        total += ranges[i, 1] - ranges[i, 0]
    content = np.empty(total, np.uint8)
    cdef unsigned char[::1] into = content
    with nogil:
        for i in range(ranges.shape[0]):
            memcpy(&into[at], <void *><uintptr_t>ranges[i, 0], ranges[i, 1] - ranges[i, 0])
            at += ranges[i, 1] - ranges[i, 0]
    return content


def put_back(const uint64_t[:, ::1] now, const uint64_t[:, ::1] kept, const unsigned char[::1] content,
             uint64_t start, uint64_t end) -> tuple[int, int]:
    """Make memory what it was when ``kept`` was private and had ``content``, and the rest stood on its base image.

    Pages that have become private since are dropped, so that the base image shows again. Where a block has none
    that was kept, all of it is dropped: then the kernel can map it as one huge page again, and the next scan is
    quick. Pages that were private then are compared with their content, and copied where they differ.

    Args:
        now: Address ranges that are private now, shape (n, 2), in order and apart.
        kept: Those that were, in order and apart.
        content: Their bytes then, one after the other.
        start: The first address of the memory.
        end: The one after its last: nothing beyond is touched.

    Returns:
        How many pages were dropped, and how many were copied.

    Raises:
        OSError: madvise(2) failed; the pages before are put back, and those after are not.
    """
    cdef Py_ssize_t i, k = 0, count = kept.shape[0]
    cdef uint64_t at, stop, run, low, high, done = start
    cdef size_t offset = 0
    cdef long dropped = 0, copied = 0
    cdef int number = 0
    cdef drops noted
    noted.count = 0
    with nogil:
        for i in range(now.shape[0]):
            at = now[i, 0]
            stop = now[i, 1]
            while at < stop and not number:
                while k < count and kept[k, 1] <= at:
                    k += 1
                if k < count and kept[k, 0] <= at:
                    at = kept[k, 1]
                    continue
                run = min(stop, kept[k, 0]) if k < count else stop
                dropped += (run - at) // _PAGE
                # Grow to whole blocks at both ends, as far as nothing of them was kept or is not ours.
                low = at & ~<uint64_t>(BLOCK - 1)
                high = (run + BLOCK - 1) & ~<uint64_t>(BLOCK - 1)
                if low < start or (k > 0 and kept[k - 1, 1] > low):
                    low = at
                if high > end or (k < count and kept[k, 0] < high):
                    high = run
                low = max(low, min(done, at))
                if run > done:
                    number = drop(&noted, low, high)
                done = max(done, high)
                at = run
            if number:
                break
        if not number:
            number = drop_all(&noted)
        for k in range(count if not number else 0):
            at = kept[k, 0]
            while at < kept[k, 1]:
                if memcmp(<void *><uintptr_t>at, &content[offset], _PAGE) != 0:
                    memcpy(<void *><uintptr_t>at, &content[offset], _PAGE)
                    copied += 1
                at += _PAGE
                offset += _PAGE
    if number:
        raise OSError(number, os.strerror(number))
    return dropped, copied
