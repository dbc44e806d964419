#include "pages.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "twin.h"

/* Bits of an entry of /proc/PID/pagemap (proc_pid_pagemap(5)). */
#define PRESENT (1ull << 63)
#define SWAPPED (1ull << 62)
#define FILE_OR_SHARED (1ull << 61)
#define MAPPED_HERE_ALONE (1ull << 56)
#define NUMBER ((1ull << 55) - 1)

#define NO_PAGEMAP "its pagemap cannot be read"
#define PROTECTED "memory was written, and then protected"

const char *snapserv_find_zero(void)
{
    uint64_t entry = 0;
    int descriptor = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    volatile char *page = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (descriptor < 0 || page == MAP_FAILED || *page != 0 ||
        pread(descriptor, &entry, sizeof entry, (uintptr_t)page / PAGE * 8) != sizeof entry)
        entry = 0;
    __u64 walked;
    int scans = snapserv_scan_private(descriptor, (uintptr_t)page, (uintptr_t)page + PAGE, snapserv_kept->found,
                                      MOST_RUNS, &walked) >= 0;
    close(descriptor);
    munmap((void *)page, PAGE);
    snapserv_kept->zero = entry & NUMBER;
    /* Without numbers, which only root is told, a page that was moved would pass for one that was not written. */
    if (!scans)
        return "the kernel has no PAGEMAP_SCAN";
    return snapserv_kept->zero ? NULL : "page numbers are told only to root";
}

const char *snapserv_open_pages(void)
{
    snapserv_kept->mem = snapserv_kept->twins_pagemap = -1;
    snapserv_kept->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    return snapserv_kept->pagemap < 0 ? NO_PAGEMAP : NULL;
}

void snapserv_close_pages(void)
{
    if (snapserv_kept->twins_pagemap >= 0) {
        close(snapserv_kept->mem);
        close(snapserv_kept->twins_pagemap);
    }
    close(snapserv_kept->pagemap);
}

/* ---------------------------------------------------------------------------------------------- what differs */

/* Whether a page is there, and no page of a file: by its entry in the pagemap. The shared page of zeros is as good as
 * none where nothing but zeros could be seen. */
static int is_own(const struct snapserv_area *area, uint64_t entry)
{
    return (entry & (PRESENT | SWAPPED)) && !(entry & FILE_OR_SHARED) &&
           (area->inode || entry & SWAPPED || (entry & NUMBER) != snapserv_kept->zero);
}

/* The number tells also of a page that was moved there (mremap(2)), which the twin has elsewhere. That a page is mapped
 * here alone is looked at as well: between two readings the kernel may move pages, and use a number again. */
static int differs(const struct snapserv_area *area, uint64_t entry, uint64_t twins)
{
    int own = is_own(area, entry), is_twins = is_own(area, twins);
    return own != is_twins || (own && ((entry | twins) & SWAPPED || entry & MAPPED_HERE_ALONE ||
                                       (entry & NUMBER) != (twins & NUMBER)));
}

/* Whether a page differs by what both pagemaps say now: 1, 0, or -1. One that the kernel moves elsewhere between the
 * two readings seems to differ: it is looked at again. */
static int differs_now(const struct snapserv_area *area, uint64_t at)
{
    uint64_t entry, twins;
    int seems = 1;
    if (snapserv_open_twin() != NULL)
        return -1;
    for (int again = 0; seems && again < 4; again++) {
        if (again > 0)
            usleep(50 << again);
        if (snapserv_read_entries(snapserv_kept->pagemap, at, 1, &entry) < 0 ||
            snapserv_read_entries(snapserv_kept->twins_pagemap, at, 1, &twins) < 0)
            return -1;
        seems = differs(area, entry, twins);
    }
    return seems;
}

static void note_back(uint64_t at, uint32_t number)
{
    struct snapserv_back *next = &snapserv_kept->back[snapserv_kept->back_count];
    snapserv_kept->lacks |= !snapserv_kept->copied[number];
    if (snapserv_kept->back_count > 0 && next[-1].end == at &&
        next[-1].first + snapserv_pages(next[-1].start, at) == number)
        next[-1].end += PAGE;
    else if (snapserv_kept->back_count < MOST_BACK) {
        *next = (struct snapserv_back){at, at + PAGE, number};
        snapserv_kept->back_count++;
    } else
        snapserv_kept->looks_again = 1;
}

/* Compare pages with the twin's, and note which are to be put back. Returns NULL, or why that cannot be. */
static const char *compare(const struct snapserv_group *group, uint64_t start, uint64_t count)
{
    const struct snapserv_area *area = &snapserv_kept->areas[group->area];
    const struct snapserv_area *last = snapserv_kept->areas + snapserv_kept->area_count - 1;
    uint32_t first = group->first + (uint32_t)snapserv_pages(group->start, start);
    const uint64_t *entries = snapserv_kept->entries, *twins = snapserv_kept->numbers + first;
    if (snapserv_read_entries(snapserv_kept->pagemap, start, count, snapserv_kept->entries) < 0)
        return NO_PAGEMAP;
    for (uint64_t k = 0, at = start; k < count; k++, at += PAGE) {
        if (entries[k] == twins[k] && !(entries[k] & (SWAPPED | MAPPED_HERE_ALONE)))
            continue; /* at once, since it is so nearly always */
        while (area->end <= at && area < last)
            area++;
        if (at < area->start || at >= area->end || !snapserv_is_private(area) || !differs(area, entries[k], twins[k]))
            continue;
        if (snapserv_is_written(area))
            note_back(at, first + (uint32_t)k);
        else if (differs_now(area, at)) /* made writable, written, and protected again */
            return PROTECTED;
    }
    return NULL;
}

/* A large area that is protected: of one that has pages of its own, which is rare, both pagemaps are read each time. */
static const char *compare_protected(const struct snapserv_group *group)
{
    const struct snapserv_area *area = &snapserv_kept->areas[group->area];
    uint64_t *entries = snapserv_kept->entries, *twins = entries + STRETCH, start;
    if (!group->twin_has && snapserv_has_none(snapserv_kept->pagemap, group->start, group->end))
        return NULL;
    if (snapserv_open_twin() != NULL)
        return SNAPSERV_UNREADABLE;
    for (uint64_t i = 0; i * STRETCH < snapserv_pages(group->start, group->end); i++) {
        uint64_t count = snapserv_stretch_at(group, i, &start);
        if (snapserv_read_entries(snapserv_kept->pagemap, start, count, entries) < 0 ||
            snapserv_read_entries(snapserv_kept->twins_pagemap, start, count, twins) < 0)
            return SNAPSERV_UNREADABLE;
        for (uint64_t k = 0; k < count; k++)
            if (differs(area, entries[k], twins[k]) && differs_now(area, start + k * PAGE))
                return PROTECTED;
    }
    return NULL;
}

/* ---------------------------------------------------------------------------------------------- putting back */

/* Put back what was noted, from the copies or else from the twin, as much as possible at a time. */
static int put_noted_back(void)
{
    for (int i = 0; i < snapserv_kept->back_count; i++) {
        const struct snapserv_back *back = &snapserv_kept->back[i];
        uint64_t since = back->start;
        for (uint64_t at = back->start; at < back->end; at += PAGE) {
            uint32_t number = back->first + (uint32_t)snapserv_pages(back->start, at);
            if (!snapserv_kept->copied[number]) {
                int copied = snapserv_copy_twins_page(at, number);
                if (copied < 0)
                    return -1;
                if (!copied)
                    continue;
            }
            if (snapserv_read_twins_memory(since, at, (void *)(uintptr_t)since) < 0)
                return -1;
            /* Most have been written to, and yet are as they were: as reference counts are. */
            const unsigned char *copy = snapserv_kept->copies + (size_t)(snapserv_kept->copied[number] - 1) * PAGE;
            if (memcmp((void *)(uintptr_t)at, copy, PAGE) != 0)
                memcpy((void *)(uintptr_t)at, copy, PAGE);
            since = at + PAGE;
        }
        if (snapserv_read_twins_memory(since, back->end, (void *)(uintptr_t)since) < 0)
            return -1;
    }
    return 0;
}

static const char *forget_noted(int puts_back)
{
    if (puts_back) {
        if (put_noted_back() < 0)
            return SNAPSERV_UNREADABLE;
        snapserv_kept->back_count = 0;
    }
    return NULL;
}

static const char *compare_large(const struct snapserv_group *group, int puts_back)
{
    const unsigned char *twins = snapserv_kept->twins_stretches + group->stretch;
    const char *why = NULL;
    uint64_t start;
    if (snapserv_note_stretches(snapserv_kept->pagemap, group, snapserv_kept->stretches) < 0)
        return NO_PAGEMAP;
    for (uint64_t i = 0; i * STRETCH < snapserv_pages(group->start, group->end) && why == NULL; i++) {
        if (!twins[i] && !snapserv_kept->stretches[i])
            continue;
        uint64_t count = snapserv_stretch_at(group, i, &start);
        why = compare(group, start, count);
        if (why == NULL)
            why = forget_noted(puts_back);
    }
    return why;
}

/* Compare all pages with the twin's, and note which differ, or put them back at once. */
static const char *compare_all(int puts_back)
{
    const char *why = NULL;
    snapserv_kept->back_count = snapserv_kept->lacks = snapserv_kept->looks_again = 0;
    for (int i = 0; i < snapserv_kept->group_count && why == NULL; i++) {
        const struct snapserv_group *group = &snapserv_kept->groups[i];
        if (group->kind == LARGE_PROTECTED)
            why = puts_back ? NULL : compare_protected(group);
        else if (group->kind == LARGE)
            why = compare_large(group, puts_back);
        else if ((why = compare(group, group->start, snapserv_pages(group->start, group->end))) == NULL)
            why = forget_noted(puts_back);
    }
    return why;
}

const char *snapserv_look_at_pages(int anew)
{
    int is_fresh = 0;
    const char *why;
    for (;; is_fresh = 1) {
        is_fresh |= !snapserv_kept->is_kept || snapserv_kept->moved < 0;
        if (is_fresh && (why = snapserv_read_twin()) != NULL)
            return why;
        if ((why = compare_all(0)) != NULL)
            return why;
        /* Where the kernel has moved pages since the twin's were read, a number may be that of another page now. */
        if (is_fresh || snapserv_count_moved() == snapserv_kept->moved)
            break;
    }
    snapserv_kept->looks_again |= anew;
    return snapserv_kept->lacks || snapserv_kept->looks_again ? snapserv_open_twin() : NULL;
}

int snapserv_put_pages_back(void)
{
    if (snapserv_kept->looks_again)
        return compare_all(1) == NULL ? 0 : -1;
    return put_noted_back();
}
