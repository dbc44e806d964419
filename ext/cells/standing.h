/* The files and the areas of memory of a marked process, and which of its pages are its own. */
#ifndef SNAPSERV_STANDING_H
#define SNAPSERV_STANDING_H

#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <ucontext.h>

#include "memory/pagemap_scan.h"
#include "settings.h"

enum {
    PAGE = 4096,
    MOST_AREAS = 8192,
    MOST_FILES = 64,
    MOST_RUNS = 512,
    MOST_NOTE = 4096,
    MOST_ENTRIES = 512, /* of a pagemap, read at a time: as many as one huge page is long */
    STACK = 64 << 10,
};
static const uint64_t MOST_PAGES = 1 << 22; /* that could be written: 16 GiB, to look through each time */

/* Bits of an entry of /proc/PID/pagemap. */
#define PRESENT (1ull << 63)
#define SWAPPED (1ull << 62)
#define FILE_OR_SHARED (1ull << 61)
#define MAPPED_HERE_ALONE (1ull << 56)
#define NUMBER ((1ull << 55) - 1)

struct snapserv_area {
    uint64_t start, end, offset, inode;
    uint32_t device, permissions;
    enum { ORDINARY, STACK_AREA, HEAP_AREA, RING, KERNELS } kind;
};

struct snapserv_file {
    int descriptor;
    mode_t mode;
    dev_t device, special;
    ino_t inode;
    off_t offset;
    uint64_t flags;
    int is_locked;
    int first; /* of those that share its position, by their place in the list; -1 where the kernel does not tell */
};

struct snapserv_run {
    uint64_t start, end;
    int protection;
};

/* All that must not be reset itself: in memory that is shared with the twin, and so is no part of what is reset. */
struct snapserv_kept {
    ucontext_t marked, aside;
    pid_t original, twin;
    uint64_t twin_since; /* in clock ticks since boot, as proc_pid_stat(5) has it */
    int is_reset;
    size_t note_size;
    unsigned char note[MOST_NOTE];
    /* What the kernel held at the mark. */
    int area_count, file_count;
    struct snapserv_area areas[MOST_AREAS];
    struct snapserv_file files[MOST_FILES];
    struct snapserv_settings settings;
    struct rusage children;
    uint64_t brk;
    uint64_t zero; /* the number of the page of zeros that all processes share */
    int *tid;      /* where the C library keeps the thread's id: the clone of the twin writes its own there */
    /* What it holds now, and room to work in. */
    int now_count, now_file_count, added_count, lost_count;
    struct snapserv_area now[MOST_AREAS];
    struct snapserv_file now_files[MOST_FILES];
    struct snapserv_settings now_settings;
    struct snapserv_run added[MOST_RUNS], lost[MOST_RUNS];
    int mem, pagemap, twins_pagemap; /* the twin's memory, this process's pagemap and the twin's */
    char text[32 << 10];
    uint64_t entries[MOST_ENTRIES], twins_entries[MOST_ENTRIES];
    struct snapserv_page_region found[MOST_RUNS];
    _Alignas(64) unsigned char stack[STACK];
};

extern struct snapserv_kept *snapserv_kept;

/* Whether the pages of an area are to be put back: nobody else sees what is written to them. */
static inline int snapserv_is_written(const struct snapserv_area *area)
{
    return (area->permissions & 0xff) == 'p' && (area->permissions >> 16 & 0xff) == 'w';
}

/* Read a decimal number. Returns where it ends. */
const char *snapserv_read_number(const char *at, int base, uint64_t *value);

/* Whether neither this process nor its twin has pages of its own there: at most MOST_ENTRIES. */
int snapserv_has_none(uint64_t start, uint64_t end);

/* Read entries of both pagemaps from `start` on, at most MOST_ENTRIES. Returns how many, or 0. */
uint64_t snapserv_read_entries(uint64_t start, uint64_t end);

/* Whether the page of an area whose entries were read as number `k` is another one than the twin's. */
int snapserv_differs(const struct snapserv_area *area, uint64_t k);

/* Write down what the kernel holds for this process. Returns NULL, or why it cannot be reset. */
const char *snapserv_write_down(int control, int child_control);

/* Compare the open files with those at the mark, before any is opened for the reset. Returns NULL, or what differs. */
const char *snapserv_compare_files(void);

/* Compare the rest, and list what has been mapped since, and what is to be mapped again. Returns NULL, or what differs
 * that cannot be reset. */
const char *snapserv_compare(void);

#endif
