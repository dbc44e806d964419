#ifndef SNAPSERV_PAGE_POOL_H
#define SNAPSERV_PAGE_POOL_H

#include <stddef.h>
#include <stdint.h>

/* A file of pages that count who refers to them, and memory that is put together from it page by page.
 *
 * Each page of the file is a slot. What a region or a snapshot contains is a table: for each of its pages, the slot.
 * So a snapshot is a copy of a table, at any depth, and equal pages that came from one another are one slot. */
struct snapserv_pool;

enum snapserv_remapping {
    SNAPSERV_MMAP,            /* one mmap(2) with MAP_FIXED for each run of slots */
    SNAPSERV_REMAP_FILE_PAGES /* remap_file_pages(2), which keeps the protection: mprotect(2) comes on top */
};

/* Make an empty pool of at most `slots` slots. NULL with errno. */
struct snapserv_pool *snapserv_pool_make(size_t slots, size_t page_bytes, enum snapserv_remapping how);

/* Give it all back: nothing may refer to it any more. */
void snapserv_pool_free(struct snapserv_pool *pool);

/* Fill a table with slots of one reference each, whose pages are all zero. -1 with ENOMEM: the pool is full. */
int snapserv_pool_take(struct snapserv_pool *pool, uint32_t *slots, size_t count);

/* Refer to the slots of a table once more. */
void snapserv_pool_share(struct snapserv_pool *pool, const uint32_t *slots, size_t count);

/* Refer to them once less. The pages of those that nobody refers to go back to the kernel. */
void snapserv_pool_drop(struct snapserv_pool *pool, const uint32_t *slots, size_t count);

/* Copy a page's bytes into its slot. */
void snapserv_pool_fill(struct snapserv_pool *pool, uint32_t slot, const char *content);

/* Copy bytes out of the pages of a table, from byte `offset` of it on. */
void snapserv_pool_read(struct snapserv_pool *pool, const uint32_t *slots, size_t offset, size_t size, char *into);

/* Map a table's pages from `start` on, where address space is reserved, read-only. -1 with errno: ENOMEM where the
 * kernel has no area left; some of it is mapped then. */
int snapserv_pool_map(struct snapserv_pool *pool, char *start, const uint32_t *slots, size_t count);

struct snapserv_pool_counts {
    uint64_t calls;       /* system calls that have mapped or protected something */
    uint64_t faults;      /* first writes that were noticed */
    uint64_t whole;       /* how often there was no area left, and a region was copied to be one area again */
    uint64_t slots;       /* that somebody refers to */
};
void snapserv_pool_count(struct snapserv_pool *pool, struct snapserv_pool_counts *counts);

/* A region: memory that shows a table, whose pages are remapped before they are written where others share them. */
struct snapserv_remapped;

/* Show a table from `start` on, whose references become the region's. NULL with errno, and they stay the caller's. */
struct snapserv_remapped *snapserv_remap(struct snapserv_pool *pool, char *start, const uint32_t *slots, size_t count);

/* End it: the references are dropped; the memory must not be touched any more, but to unmap it. */
void snapserv_remap_end(struct snapserv_remapped *region);

/* Protect the region, and write a copy of its table, with references of its own, into `slots`. -1 with errno. */
int snapserv_remap_snapshot(struct snapserv_remapped *region, uint32_t *slots);

/* Show another table of the same length, whose references stay the caller's. -1 with ENOMEM: there is neither area
 * nor memory left; some pages are put back then and others are not. */
int snapserv_remap_restore(struct snapserv_remapped *region, const uint32_t *slots);

#endif
