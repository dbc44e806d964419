/* The files and the areas of memory of a marked process, and all that is kept of it. */
#ifndef SNAPSERV_STANDING_H
#define SNAPSERV_STANDING_H

#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <ucontext.h>

#include "memory/pagemap_scan.h"
#include "reset_in_place.h"
#include "settings.h"

enum {
    PAGE = 4096,
    MOST_AREAS = 8192,
    MOST_FILES = 64,
    MOST_RUNS = 512,
    STRETCH = 512,        /* pages: as many as one huge page has */
    MOST_TOGETHER = 4096, /* pages whose entries in a pagemap are read at a time */
    MOST_BACK = 8192,
    MOST_COPIES = 4096,  /* of pages: 16 MiB */
    MOST_KEPT = 1 << 23, /* pages whose numbers are kept: of 32 GiB of address space */
    STACK = 64 << 10,
};
static const uint64_t MOST_PAGES = 1 << 22; /* that could be written: 16 GiB, to look through each time */

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

/* Areas whose pages are looked at together. */
struct snapserv_group {
    uint64_t start, end;
    uint32_t first; /* the number of its first page, among all that are kept */
    int area;       /* the first that it is of */
    int stretch;    /* of a large one: the number of its first stretch */
    int twin_has;   /* of a large one that is protected: whether the twin has pages of its own there */
    enum { TOGETHER, LARGE, LARGE_PROTECTED } kind;
};

/* Pages that are to be put back. */
struct snapserv_back {
    uint64_t start, end;
    uint32_t first;
};

/* All that must not be reset itself: in memory that is shared with the twin, and so is no part of what is reset. */
struct snapserv_kept {
    ucontext_t marked, aside, back_there;
    const char *refused;
    pid_t original, twin;
    uint64_t twin_since; /* in clock ticks since boot, as proc_pid_stat(5) has it */
    int is_reset;
    size_t note_size;
    unsigned char note[SNAPSERV_MOST_NOTE];
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
    int pagemap, mem, twins_pagemap; /* this process's pagemap; the twin's memory and pagemap, -1 until needed */
    char text[32 << 10];
    struct snapserv_page_region found[MOST_RUNS];
    uint64_t entries[MOST_TOGETHER]; /* of this process's pagemap */
    unsigned char stretches[MOST_KEPT / STRETCH + 1];
    /* What differs. */
    int back_count, lacks, looks_again; /* whether the twin must be read for it, and all be looked at again */
    struct snapserv_back back[MOST_BACK];
    /* What is kept of the twin: all of it in `room`, but for which stretches of large areas have pages of its own. */
    int group_count, is_kept, copy_count;
    int64_t moved; /* how many pages the kernel had moved when their numbers were read; -1 before */
    struct snapserv_group groups[MOST_AREAS];
    unsigned char twins_stretches[MOST_KEPT / STRETCH + MOST_AREAS];
    void *room;
    uint64_t *numbers;     /* entries of its pagemap */
    uint32_t *copied;      /* which copy is of a page, counted from 1; 0 for none */
    unsigned char *copies; /* contents of its pages */
    _Alignas(64) unsigned char stack[STACK];
};

extern struct snapserv_kept *snapserv_kept;

static inline int snapserv_is_private(const struct snapserv_area *area)
{
    return (area->permissions & 0xff) == 'p';
}

/* Whether the pages of an area are to be put back: nobody else sees what is written to them. */
static inline int snapserv_is_written(const struct snapserv_area *area)
{
    return snapserv_is_private(area) && (area->permissions >> 16 & 0xff) == 'w';
}

/* Read a decimal number. Returns where it ends. */
const char *snapserv_read_number(const char *at, int base, uint64_t *value);

/* When a process started (proc_pid_stat(5), field 22), so that another with its number is not taken for it; or 0. */
uint64_t snapserv_started(pid_t pid);

/* Write down what the kernel holds for this process. Returns NULL, or why it cannot be reset. */
const char *snapserv_write_down(int control, int child_control);

/* Compare the open files with those at the mark, before any is opened for the reset. Returns NULL, or what differs. */
const char *snapserv_compare_files(void);

/* Compare the rest but for pages, and list what has been mapped since, and what is to be mapped again. Returns NULL, or
 * what differs that cannot be reset. */
const char *snapserv_compare(void);

#endif
