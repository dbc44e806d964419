#ifndef SNAPSERV_PAGEMAP_SCAN_H
#define SNAPSERV_PAGEMAP_SCAN_H

#include <linux/types.h>
#include <stdint.h>
#include <sys/ioctl.h>

/* PAGEMAP_SCAN (Linux 6.7, Documentation/admin-guide/mm/pagemap.rst), under names of our own: older headers lack it. */
struct snapserv_page_region {
    __u64 start, end, categories;
};

struct snapserv_scan {
    __u64 size, flags, start, end, walk_end, vec, vec_len, max_pages;
    __u64 category_inverted, category_mask, category_anyof_mask, return_mask;
};

enum {
    SNAPSERV_SCAN_WRITTEN = 1 << 1,
    SNAPSERV_SCAN_FILE = 1 << 2,
    SNAPSERV_SCAN_PRESENT = 1 << 3,
    SNAPSERV_SCAN_SWAPPED = 1 << 4,
    SNAPSERV_SCAN_HUGE = 1 << 6,
    SNAPSERV_SCAN_PROTECT_MATCHING = 1 << 0, /* a flag, as the next */
    SNAPSERV_SCAN_ONLY_TRACKED = 1 << 1,
};

/* List the regions of [start, end) that `scan` asks for, into `found`. Returns how many there are and sets *walked to
 * where to go on, or -1 with errno. */
static inline long snapserv_scan_some(int pagemap, struct snapserv_scan scan, __u64 start, __u64 end,
                                      struct snapserv_page_region *found, __u64 most, __u64 *walked)
{
    scan.size = sizeof scan;
    scan.start = start;
    scan.end = end;
    scan.vec = (__u64)(uintptr_t)found;
    scan.vec_len = most;
    long count = ioctl(pagemap, _IOWR('f', 16, struct snapserv_scan), &scan);
    *walked = scan.walk_end;
    /* Where the kernel went through its own buffer of 512 ranges more than once and reached the end, its walk_end can
     * lie before ranges that it has reported (seen on Linux 6.18): they would come twice. */
    if (count > 0 && found[count - 1].end > *walked)
        *walked = found[count - 1].end;
    return count;
}

/* Pages that are present or swapped and no file pages. The zero page is no file page: where KSM has put it in place of
 * a private page full of zeros, that page still differs from the base image. */
static inline long snapserv_scan_private(int pagemap, __u64 start, __u64 end, struct snapserv_page_region *found,
                                         __u64 most, __u64 *walked)
{
    struct snapserv_scan scan = {
        .category_inverted = SNAPSERV_SCAN_FILE,
        .category_mask = SNAPSERV_SCAN_FILE,
        .category_anyof_mask = SNAPSERV_SCAN_PRESENT | SNAPSERV_SCAN_SWAPPED,
        .return_mask = SNAPSERV_SCAN_PRESENT,
    };
    return snapserv_scan_some(pagemap, scan, start, end, found, most, walked);
}

/* Pages that were written since they were last protected through userfaultfd(2); each is protected again at once. */
static inline long snapserv_scan_written(int pagemap, __u64 start, __u64 end, struct snapserv_page_region *found,
                                         __u64 most, __u64 *walked)
{
    struct snapserv_scan scan = {
        .flags = SNAPSERV_SCAN_PROTECT_MATCHING | SNAPSERV_SCAN_ONLY_TRACKED,
        .category_mask = SNAPSERV_SCAN_WRITTEN,
        .return_mask = SNAPSERV_SCAN_WRITTEN,
    };
    return snapserv_scan_some(pagemap, scan, start, end, found, most, walked);
}

#endif
