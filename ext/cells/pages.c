#include "pages.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "standing.h"

/* Bits of an entry of /proc/PID/pagemap (proc_pid_pagemap(5)). */
#define PRESENT (1ull << 63)
#define SWAPPED (1ull << 62)
#define FILE_OR_SHARED (1ull << 61)
#define MAPPED_HERE_ALONE (1ull << 56)
#define NUMBER ((1ull << 55) - 1)

enum { MOST_GAP = 64 /* pages that are read in vain rather than asked past */ };

static const char *const UNREADABLE = "the memory of its twin cannot be read";
static const char *const NO_PAGEMAP = "its pagemap cannot be read";
static const char *const PROTECTED = "memory was written, and then protected";

static uint64_t pages_of(uint64_t start, uint64_t end)
{
    return (end - start) / PAGE;
}

/* ------------------------------------------------------------------------------------------------- the mark */

/* Group private areas: those that lie near each other are read in one go, and large ones where they have pages.
 * Returns how many pages' numbers are to be kept, or MOST_KEPT for too many. */
static uint64_t group_areas(void)
{
    struct snapserv_group *groups = snapserv_kept->groups;
    uint64_t first = 0;
    int count = 0, stretches = 0;
    for (int i = 0; i < snapserv_kept->area_count; i++) {
        const struct snapserv_area *area = &snapserv_kept->areas[i];
        uint64_t pages = pages_of(area->start, area->end);
        if (!snapserv_is_private(area))
            continue;
        struct snapserv_group *last = count > 0 && groups[count - 1].kind == TOGETHER ? &groups[count - 1] : NULL;
        if (pages <= MOST_TOGETHER && last != NULL && pages_of(last->end, area->start) <= MOST_GAP &&
            pages_of(last->start, area->end) <= MOST_TOGETHER) {
            first += pages_of(last->end, area->end);
            last->end = area->end;
            continue;
        }
        groups[count++] = (struct snapserv_group){
            .start = area->start,
            .end = area->end,
            .first = (uint32_t)first,
            .area = i,
            .kind = pages <= MOST_TOGETHER ? TOGETHER : snapserv_is_written(area) ? LARGE : LARGE_PROTECTED,
        };
        if (groups[count - 1].kind != LARGE_PROTECTED)
            first += pages;
        if (groups[count - 1].kind == LARGE) {
            groups[count - 1].stretch = stretches;
            stretches += (int)(pages / STRETCH) + 1;
        }
        if (first >= MOST_KEPT)
            return MOST_KEPT;
    }
    snapserv_kept->group_count = count;
    return first;
}

const char *snapserv_make_room(void)
{
    uint64_t kept = group_areas();
    if (kept >= MOST_KEPT)
        return "it has too much memory";
    const char *told = getenv("SNAPSERV_TWIN_KEPT");
    snapserv_kept->is_kept = told == NULL || strcmp(told, "0") != 0;
    snapserv_kept->moved = -1;
    snapserv_kept->copy_count = 0;
    size_t numbers = kept * sizeof *snapserv_kept->numbers, copied = kept * sizeof *snapserv_kept->copied;
    size_t head = (numbers + copied + PAGE - 1) / PAGE * PAGE;
    char *room = mmap(NULL, head + (size_t)MOST_COPIES * PAGE, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED)
        return "there is no memory for it";
    snapserv_kept->room = room;
    snapserv_kept->numbers = (uint64_t *)room;
    snapserv_kept->copied = (uint32_t *)(room + numbers);
    snapserv_kept->copies = (unsigned char *)room + head;
    return NULL;
}

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

/* -------------------------------------------------------------------------------------------------- the twin */

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

/* Open the twin's memory and its pagemap, which stay its own if it should end now. */
static const char *open_twin(void)
{
    char path[40];
    if (snapserv_kept->twins_pagemap >= 0)
        return NULL;
    snprintf(path, sizeof path, "/proc/%d/mem", (int)snapserv_kept->twin);
    int mem = open(path, O_RDONLY | O_CLOEXEC);
    snprintf(path, sizeof path, "/proc/%d/pagemap", (int)snapserv_kept->twin);
    int pagemap = open(path, O_RDONLY | O_CLOEXEC);
    if (mem >= 0 && pagemap >= 0 && snapserv_kept->twin_since &&
        snapserv_started(snapserv_kept->twin) == snapserv_kept->twin_since) {
        snapserv_kept->mem = mem;
        snapserv_kept->twins_pagemap = pagemap;
        return NULL;
    }
    close(mem);
    close(pagemap);
    return UNREADABLE;
}

/* How many pages the kernel has moved so far; -1 where it does not tell. */
static int64_t count_moved(void)
{
    static const char name[] = "\npgmigrate_success ";
    char *text = snapserv_kept->text, *line = NULL;
    size_t held = 0;
    uint64_t count;
    int descriptor = open("/proc/vmstat", O_RDONLY | O_CLOEXEC);
    ssize_t got;
    while (line == NULL && (got = read(descriptor, text + held, sizeof snapserv_kept->text - 1 - held)) > 0) {
        text[held += got] = '\0';
        line = strstr(text, name);
        if (line != NULL && strchr(line + 1, '\n') == NULL)
            line = NULL; /* cut off: more comes */
    }
    close(descriptor);
    if (line == NULL)
        return -1;
    snapserv_read_number(line + sizeof name - 1, 10, &count);
    return (int64_t)count;
}

static int read_entries(int pagemap, uint64_t start, uint64_t count, uint64_t *into)
{
    ssize_t size = count * 8;
    return pread(pagemap, into, size, start / PAGE * 8) == size ? 0 : -1;
}

/* Note which stretches of a large area have pages of their own. Returns -1 where the kernel does not tell. */
static int note_stretches(int pagemap, const struct snapserv_group *group, unsigned char *into)
{
    memset(into, 0, pages_of(group->start, group->end) / STRETCH + 1);
    for (__u64 at = group->start, walked = 0; at < group->end; at = walked) {
        long count = snapserv_scan_private(pagemap, at, group->end, snapserv_kept->found, MOST_RUNS, &walked);
        if (count < 0 || walked <= at)
            return -1;
        for (long i = 0; i < count; i++)
            for (uint64_t page = pages_of(group->start, snapserv_kept->found[i].start) / STRETCH;
                 page <= (pages_of(group->start, snapserv_kept->found[i].end) - 1) / STRETCH; page++)
                into[page] = 1;
    }
    return 0;
}

static int has_none(int pagemap, uint64_t start, uint64_t end)
{
    __u64 walked;
    return snapserv_scan_private(pagemap, start, end, snapserv_kept->found, MOST_RUNS, &walked) == 0;
}

/* The stretch of a large area with some number: where it starts, and how many pages it has. */
static uint64_t stretch_at(const struct snapserv_group *group, uint64_t number, uint64_t *start)
{
    *start = group->start + number * STRETCH * PAGE;
    uint64_t left = pages_of(*start, group->end);
    return left < STRETCH ? left : STRETCH;
}

static int read_twins_group(struct snapserv_group *group)
{
    int pagemap = snapserv_kept->twins_pagemap;
    unsigned char *stretches = snapserv_kept->twins_stretches + group->stretch;
    uint64_t *into = snapserv_kept->numbers + group->first, start;
    if (group->kind == TOGETHER)
        return read_entries(pagemap, group->start, pages_of(group->start, group->end), into);
    if (group->kind == LARGE_PROTECTED) {
        group->twin_has = !has_none(pagemap, group->start, group->end);
        return 0;
    }
    if (note_stretches(pagemap, group, stretches) < 0)
        return -1;
    for (uint64_t i = 0; i * STRETCH < pages_of(group->start, group->end); i++) {
        uint64_t count = stretch_at(group, i, &start);
        if (stretches[i] && read_entries(pagemap, start, count, into + i * STRETCH) < 0)
            return -1;
    }
    return 0;
}

/* Read which pages the twin has of its own, and their numbers. */
static const char *read_twin(void)
{
    const char *why = open_twin();
    if (why != NULL)
        return why;
    snapserv_kept->moved = count_moved(); /* first: what is moved meanwhile counts as moved since */
    for (int i = 0; i < snapserv_kept->group_count; i++)
        if (read_twins_group(&snapserv_kept->groups[i]) < 0)
            return UNREADABLE;
    /* Without a twin its pagemap is empty, and so is what was read of it. */
    return read_entries(snapserv_kept->twins_pagemap, snapserv_kept->areas[0].start, 1, snapserv_kept->entries) < 0
               ? UNREADABLE
               : NULL;
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
    if (open_twin() != NULL)
        return -1;
    for (int again = 0; seems && again < 4; again++) {
        if (again > 0)
            usleep(50 << again);
        if (read_entries(snapserv_kept->pagemap, at, 1, &entry) < 0 ||
            read_entries(snapserv_kept->twins_pagemap, at, 1, &twins) < 0)
            return -1;
        seems = differs(area, entry, twins);
    }
    return seems;
}

static void note_back(uint64_t at, uint32_t number)
{
    struct snapserv_back *next = &snapserv_kept->back[snapserv_kept->back_count];
    snapserv_kept->lacks |= !snapserv_kept->copied[number];
    if (snapserv_kept->back_count > 0 && next[-1].end == at && next[-1].first + pages_of(next[-1].start, at) == number)
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
    uint32_t first = group->first + (uint32_t)pages_of(group->start, start);
    const uint64_t *entries = snapserv_kept->entries, *twins = snapserv_kept->numbers + first;
    if (read_entries(snapserv_kept->pagemap, start, count, snapserv_kept->entries) < 0)
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
    if (!group->twin_has && has_none(snapserv_kept->pagemap, group->start, group->end))
        return NULL;
    if (open_twin() != NULL)
        return UNREADABLE;
    for (uint64_t i = 0; i * STRETCH < pages_of(group->start, group->end); i++) {
        uint64_t count = stretch_at(group, i, &start);
        if (read_entries(snapserv_kept->pagemap, start, count, entries) < 0 ||
            read_entries(snapserv_kept->twins_pagemap, start, count, twins) < 0)
            return UNREADABLE;
        for (uint64_t k = 0; k < count; k++)
            if (differs(area, entries[k], twins[k]) && differs_now(area, start + k * PAGE))
                return PROTECTED;
    }
    return NULL;
}

/* ---------------------------------------------------------------------------------------------- putting back */

static int read_twins_memory(uint64_t start, uint64_t end, void *into)
{
    for (char *to = into; start < end;) {
        ssize_t got = pread(snapserv_kept->mem, to, end - start, start);
        if (got <= 0)
            return -1;
        start += got;
        to += got;
    }
    return 0;
}

/* Copy a page of the twin's, if there is room. Returns 0 where there is none, or -1. */
static int copy_twins_page(uint64_t at, uint32_t number)
{
    int free = snapserv_kept->copy_count;
    if (!snapserv_kept->is_kept || free == MOST_COPIES)
        return 0;
    if (read_twins_memory(at, at + PAGE, snapserv_kept->copies + (size_t)free * PAGE) < 0)
        return -1;
    snapserv_kept->copied[number] = ++snapserv_kept->copy_count;
    return 1;
}

/* Put back what was noted, from the copies or else from the twin, as much as possible at a time. */
static int put_noted_back(void)
{
    for (int i = 0; i < snapserv_kept->back_count; i++) {
        const struct snapserv_back *back = &snapserv_kept->back[i];
        uint64_t since = back->start;
        for (uint64_t at = back->start; at < back->end; at += PAGE) {
            uint32_t number = back->first + (uint32_t)pages_of(back->start, at);
            if (!snapserv_kept->copied[number]) {
                int copied = copy_twins_page(at, number);
                if (copied < 0)
                    return -1;
                if (!copied)
                    continue;
            }
            if (read_twins_memory(since, at, (void *)(uintptr_t)since) < 0)
                return -1;
            /* Most have been written to, and yet are as they were: as reference counts are. */
            const unsigned char *copy = snapserv_kept->copies + (size_t)(snapserv_kept->copied[number] - 1) * PAGE;
            if (memcmp((void *)(uintptr_t)at, copy, PAGE) != 0)
                memcpy((void *)(uintptr_t)at, copy, PAGE);
            since = at + PAGE;
        }
        if (read_twins_memory(since, back->end, (void *)(uintptr_t)since) < 0)
            return -1;
    }
    return 0;
}

static const char *forget_noted(int puts_back)
{
    if (puts_back) {
        if (put_noted_back() < 0)
            return UNREADABLE;
        snapserv_kept->back_count = 0;
    }
    return NULL;
}

static const char *compare_large(const struct snapserv_group *group, int puts_back)
{
    const unsigned char *twins = snapserv_kept->twins_stretches + group->stretch;
    const char *why = NULL;
    uint64_t start;
    if (note_stretches(snapserv_kept->pagemap, group, snapserv_kept->stretches) < 0)
        return NO_PAGEMAP;
    for (uint64_t i = 0; i * STRETCH < pages_of(group->start, group->end) && why == NULL; i++) {
        if (!twins[i] && !snapserv_kept->stretches[i])
            continue;
        uint64_t count = stretch_at(group, i, &start);
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
        else if ((why = compare(group, group->start, pages_of(group->start, group->end))) == NULL)
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
        if (is_fresh && (why = read_twin()) != NULL)
            return why;
        if ((why = compare_all(0)) != NULL)
            return why;
        /* Where the kernel has moved pages since the twin's were read, a number may be that of another page now. */
        if (is_fresh || count_moved() == snapserv_kept->moved)
            break;
    }
    snapserv_kept->looks_again |= anew;
    return snapserv_kept->lacks || snapserv_kept->looks_again ? open_twin() : NULL;
}

int snapserv_put_pages_back(void)
{
    if (snapserv_kept->looks_again)
        return compare_all(1) == NULL ? 0 : -1;
    return put_noted_back();
}
