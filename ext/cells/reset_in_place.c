#include "reset_in_place.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "frozen.h"
#include "standing.h"

#ifndef PR_SET_PTRACER
#define PR_SET_PTRACER 0x59616d61
#endif

/* ------------------------------------------------------------------------------------------------- the mark */

/* When a process started (proc_pid_stat(5), field 22), so that another with its number is not taken for it; or 0. */
static uint64_t started(pid_t pid)
{
    char path[40], *at = snapserv_kept->text;
    uint64_t since;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (snapserv_read_small(path, at, sizeof snapserv_kept->text) <= 0 || (at = strrchr(at, ')')) == NULL)
        return 0;
    for (int field = 2; field < 22 && at != NULL; field++)
        at = strchr(at + 1, ' ');
    if (at == NULL)
        return 0;
    snapserv_read_number(at + 1, 10, &since);
    return since;
}

static void be_twin(void)
{
    /* Where a security module lets only ancestors read a process (ptrace_scope 1): this sibling as well. */
    prctl(PR_SET_PTRACER, (unsigned long)snapserv_kept->original, 0, 0, 0);
    snapserv_kept->twin = getpid();
    snapserv_kept->twin_since = started(snapserv_kept->twin);
}

int snapserv_reset_mark(int control, int child_control, int *thawed, int64_t *clone_ns, const char **refused)
{
    struct snapserv_spares none = {0, 0};
    *refused = snapserv_write_down(control, child_control);
    if (*refused != NULL)
        return -2;
    snapserv_kept->original = getpid();
    snapserv_kept->is_reset = 0;
    if (getcontext(&snapserv_kept->marked) < 0)
        return -1;
    if (snapserv_kept->is_reset)
        return 2;
    int made = snapserv_freeze(control, child_control, none, be_twin, thawed, clone_ns);
    if (made > 0) /* only now: where the twin was forked by a child, that one has been waited for */
        getrusage(RUSAGE_CHILDREN, &snapserv_kept->children);
    return made;
}

/* ------------------------------------------------------------------------------------------------ the reset */

/* Half of this process is of one moment and half of another: it ends. The server clones another. */
static void give_up(void)
{
    _exit(1);
}

static void put_back(uint64_t start, uint64_t end)
{
    while (start < end) {
        ssize_t got = pread(snapserv_kept->mem, (void *)(uintptr_t)start, end - start, start);
        if (got <= 0)
            give_up();
        start += got;
    }
}

/* Put back the pages of an area that differ from the twin's. */
static void put_area_back(const struct snapserv_area *area)
{
    uint64_t since = 0; /* where the run that is to be put back begins; 0 for none */
    for (uint64_t at = area->start; at < area->end;) {
        uint64_t stretch = at + MOST_ENTRIES * PAGE;
        /* In large areas, where asking is quicker than reading. */
        if (!since && area->end - at > 8 * MOST_ENTRIES * PAGE && snapserv_has_none(at, stretch)) {
            at = stretch;
            continue;
        }
        uint64_t count = snapserv_read_entries(at, area->end);
        if (count == 0)
            give_up();
        for (uint64_t k = 0; k < count; k++, at += PAGE) {
            int differs = snapserv_differs(area, k);
            if (differs && !since)
                since = at;
            else if (!differs && since) {
                put_back(since, at);
                since = 0;
            }
        }
    }
    if (since)
        put_back(since, area->end);
}

static void close_all(void)
{
    close(snapserv_kept->mem);
    close(snapserv_kept->twins_pagemap);
    close(snapserv_kept->pagemap);
}

/* Runs on a stack of its own, and calls nothing that allocates: whatever it wrote elsewhere would not be reset. */
static void reset(void)
{
    const struct snapserv_run *added = snapserv_kept->added, *lost = snapserv_kept->lost;
    /* Twice: the heap can shrink only while all of it is mapped, and grow only where nothing else is. */
    syscall(SYS_brk, snapserv_kept->brk);
    for (int i = 0; i < snapserv_kept->added_count; i++)
        if (munmap((void *)(uintptr_t)added[i].start, added[i].end - added[i].start) < 0)
            give_up();
    if ((uint64_t)syscall(SYS_brk, snapserv_kept->brk) != snapserv_kept->brk)
        give_up();
    for (int i = 0; i < snapserv_kept->lost_count; i++)
        if (mmap((void *)(uintptr_t)lost[i].start, lost[i].end - lost[i].start, lost[i].protection,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
            give_up();
    for (int i = 0; i < snapserv_kept->file_count; i++) {
        const struct snapserv_file *file = &snapserv_kept->files[i];
        if (file->descriptor > 2 && file->offset != snapserv_kept->now_files[i].offset)
            lseek(file->descriptor, file->offset, SEEK_SET);
    }
    for (int i = 0; i < snapserv_kept->area_count; i++)
        if (snapserv_is_written(&snapserv_kept->areas[i]))
            put_area_back(&snapserv_kept->areas[i]);
    /* Without a twin its pagemap is empty, and so is what was compared with it. */
    if (snapserv_read_entries(snapserv_kept->areas[0].start, snapserv_kept->areas[0].end) == 0)
        give_up();
    *snapserv_kept->tid = snapserv_kept->original;
    close_all();
    snapserv_kept->is_reset = 1;
    setcontext(&snapserv_kept->marked);
    give_up();
}

/* Open the twin's memory and both pagemaps, which stay theirs if the twin should end now. Returns -1 where that cannot
 * be. */
static int open_all(void)
{
    char path[40];
    snprintf(path, sizeof path, "/proc/%d/mem", (int)snapserv_kept->twin);
    snapserv_kept->mem = open(path, O_RDONLY | O_CLOEXEC);
    snprintf(path, sizeof path, "/proc/%d/pagemap", (int)snapserv_kept->twin);
    snapserv_kept->twins_pagemap = open(path, O_RDONLY | O_CLOEXEC);
    snapserv_kept->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (snapserv_kept->mem >= 0 && snapserv_kept->twins_pagemap >= 0 && snapserv_kept->pagemap >= 0 &&
        snapserv_kept->twin_since && started(snapserv_kept->twin) == snapserv_kept->twin_since)
        return 0;
    close_all();
    return -1;
}

const char *snapserv_reset_in_place(const void *note, size_t size)
{
    if (snapserv_kept == NULL || snapserv_kept->twin == 0 || snapserv_kept->original != getpid())
        return "it has no mark";
    if (size > sizeof snapserv_kept->note)
        return "the note is too long";
    const char *refused = snapserv_compare_files();
    if (refused != NULL)
        return refused;
    if (open_all() < 0)
        return "the memory of its twin cannot be read";
    refused = snapserv_compare();
    if (refused == NULL && getcontext(&snapserv_kept->aside) < 0)
        refused = "its registers cannot be read";
    if (refused != NULL) {
        close_all();
        return refused;
    }
    memcpy(snapserv_kept->note, note, size);
    snapserv_kept->note_size = size;
    snapserv_kept->aside.uc_stack.ss_sp = snapserv_kept->stack;
    snapserv_kept->aside.uc_stack.ss_size = sizeof snapserv_kept->stack;
    snapserv_kept->aside.uc_link = NULL;
    sigfillset(&snapserv_kept->aside.uc_sigmask);
    makecontext(&snapserv_kept->aside, reset, 0);
    setcontext(&snapserv_kept->aside);
    give_up();
    return NULL;
}

const void *snapserv_reset_note(size_t *size)
{
    *size = snapserv_kept->note_size;
    return snapserv_kept->note;
}
