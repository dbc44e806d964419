/* What the kernel holds for a marked process, and what of its memory is its own: compared, and never put back. */
#ifndef SNAPSERV_STANDING_H
#define SNAPSERV_STANDING_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <ucontext.h>

#include "pagemap_scan.h"
#include "retrace.h"

enum {
    PAGE = 4096,
    MOST_AREAS = 8192,
    MOST_FILES = 64,
    MOST_RUNS = 512,
    MOST_ENTRIES = 512, /* of a pagemap, read at a time: as many as one huge page is long */
    STACK = 64 << 10,
    STATUS = 8192,
};
static const uint64_t MOST_PAGES = 1 << 22; /* that could be written: 16 GiB, to look through each time */

/* Bits of an entry of /proc/PID/pagemap. */
#define PRESENT (1ull << 63)
#define SWAPPED (1ull << 62)
#define FILE_OR_SHARED (1ull << 61)
#define MAPPED_HERE_ALONE (1ull << 56)

struct snapserv_area {
    uint64_t start, end, offset, inode;
    uint32_t device, permissions;
    enum { ORDINARY, STACK_AREA, HEAP_AREA, KERNELS } kind;
};

struct snapserv_file {
    int descriptor;
    mode_t mode;
    dev_t device, special;
    ino_t inode;
    off_t offset;
};

struct snapserv_run {
    uint64_t start, end;
    int protection;
};

/* All that must not go back itself: in memory that is shared with the twin, and so is no part of what goes back. */
struct snapserv_kept {
    ucontext_t marked, aside;
    pid_t original, twin;
    uint64_t twin_since; /* in clock ticks since boot, as proc_pid_stat(5) has it */
    int is_back;
    size_t note_size;
    unsigned char note[SNAPSERV_MOST_NOTE];
    /* What the kernel held at the mark. */
    int area_count, file_count;
    struct snapserv_area areas[MOST_AREAS];
    struct snapserv_file files[MOST_FILES];
    char status[STATUS], folder[PATH_MAX];
    struct rusage children;
    uint64_t brk;
    /* Whether a page was there, one bit for each of the writable areas, in their order: a mapping of its own. */
    uint64_t *was_there;
    /* What it holds now, and room to work in. */
    int now_count, now_file_count, added_count, lost_count;
    struct snapserv_area now[MOST_AREAS];
    struct snapserv_file now_files[MOST_FILES];
    char now_status[STATUS], now_folder[PATH_MAX];
    struct snapserv_run added[MOST_RUNS], lost[MOST_RUNS];
    int mem, pagemap; /* the twin's memory, and this process's pagemap */
    char text[32 << 10];
    uint64_t entries[MOST_ENTRIES];
    struct snapserv_page_region found[MOST_RUNS];
    _Alignas(64) unsigned char stack[STACK];
};

extern struct snapserv_kept *snapserv_kept;

/* Whether the pages of an area are to be put back: nobody else sees what is written to them. */
static inline int snapserv_is_written(const struct snapserv_area *area)
{
    return (area->permissions & 0xff) == 'p' && (area->permissions >> 16 & 0xff) == 'w';
}

static inline uint64_t snapserv_pages_of(const struct snapserv_area *area)
{
    return (area->end - area->start) / PAGE;
}

/* Whether a page is there, and no page of a file: by its entry in the pagemap. */
static inline int snapserv_is_own(uint64_t entry)
{
    return (entry & (PRESENT | SWAPPED)) && !(entry & FILE_OR_SHARED);
}

/* Read a small file of /proc whole, as a string. Returns its size, or -1. */
ssize_t snapserv_read_small(const char *path, char *into, size_t size);

/* Read a decimal number. Returns where it ends. */
const char *snapserv_read_number(const char *at, int base, uint64_t *value);

/* Read entries of this process's pagemap from `address` on, at most MOST_ENTRIES. Returns how many, or 0. */
uint64_t snapserv_read_entries(uint64_t address, uint64_t pages);

/* Whether none of the next MOST_ENTRIES pages is this process's own; answered only in large areas, where asking is
 * quicker than reading. `pages` is how many are left of the area. */
int snapserv_has_none(uint64_t address, uint64_t pages);

/* List where the page of zeros is mapped. Returns how many ranges, and sets *walked, or -1. */
long snapserv_scan_zeros(uint64_t start, uint64_t end, uint64_t *walked);

/* Write down what the kernel holds for this process. Returns NULL, or why it cannot go back. */
const char *snapserv_write_down(int control, int child_control);

/* Compare it with what was written down, and list what has been mapped since, and what is to be mapped again. Returns
 * NULL, or what differs that cannot go back. */
const char *snapserv_compare(void);

#endif
