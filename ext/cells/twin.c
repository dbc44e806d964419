#include "twin.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MOST_GAP = 64 /* pages that are read in vain rather than asked past */ };

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
        uint64_t pages = snapserv_pages(area->start, area->end);
        if (!snapserv_is_private(area))
            continue;
        struct snapserv_group *last = count > 0 && groups[count - 1].kind == TOGETHER ? &groups[count - 1] : NULL;
        if (pages <= MOST_TOGETHER && last != NULL && snapserv_pages(last->end, area->start) <= MOST_GAP &&
            snapserv_pages(last->start, area->end) <= MOST_TOGETHER) {
            first += snapserv_pages(last->end, area->end);
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

/* -------------------------------------------------------------------------------------------------- the twin */

/* Open the twin's memory and its pagemap, which stay its own if it should end now. */
const char *snapserv_open_twin(void)
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
    return SNAPSERV_UNREADABLE;
}

/* How many pages the kernel has moved so far; -1 where it does not tell. */
int64_t snapserv_count_moved(void)
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

int snapserv_read_entries(int pagemap, uint64_t start, uint64_t count, uint64_t *into)
{
    ssize_t size = count * 8;
    return pread(pagemap, into, size, start / PAGE * 8) == size ? 0 : -1;
}

/* Note which stretches of a large area have pages of their own. Returns -1 where the kernel does not tell. */
int snapserv_note_stretches(int pagemap, const struct snapserv_group *group, unsigned char *into)
{
    memset(into, 0, snapserv_pages(group->start, group->end) / STRETCH + 1);
    for (__u64 at = group->start, walked = 0; at < group->end; at = walked) {
        long count = snapserv_scan_private(pagemap, at, group->end, snapserv_kept->found, MOST_RUNS, &walked);
        if (count < 0 || walked <= at)
            return -1;
        for (long i = 0; i < count; i++)
            for (uint64_t page = snapserv_pages(group->start, snapserv_kept->found[i].start) / STRETCH;
                 page <= (snapserv_pages(group->start, snapserv_kept->found[i].end) - 1) / STRETCH; page++)
                into[page] = 1;
    }
    return 0;
}

int snapserv_has_none(int pagemap, uint64_t start, uint64_t end)
{
    __u64 walked;
    return snapserv_scan_private(pagemap, start, end, snapserv_kept->found, MOST_RUNS, &walked) == 0;
}

/* The stretch of a large area with some number: where it starts, and how many pages it has. */
uint64_t snapserv_stretch_at(const struct snapserv_group *group, uint64_t number, uint64_t *start)
{
    *start = group->start + number * STRETCH * PAGE;
    uint64_t left = snapserv_pages(*start, group->end);
    return left < STRETCH ? left : STRETCH;
}

static int read_twins_group(struct snapserv_group *group)
{
    int pagemap = snapserv_kept->twins_pagemap;
    unsigned char *stretches = snapserv_kept->twins_stretches + group->stretch;
    uint64_t *into = snapserv_kept->numbers + group->first, start;
    if (group->kind == TOGETHER)
        return snapserv_read_entries(pagemap, group->start, snapserv_pages(group->start, group->end), into);
    if (group->kind == LARGE_PROTECTED) {
        group->twin_has = !snapserv_has_none(pagemap, group->start, group->end);
        return 0;
    }
    if (snapserv_note_stretches(pagemap, group, stretches) < 0)
        return -1;
    for (uint64_t i = 0; i * STRETCH < snapserv_pages(group->start, group->end); i++) {
        uint64_t count = snapserv_stretch_at(group, i, &start);
        if (stretches[i] && snapserv_read_entries(pagemap, start, count, into + i * STRETCH) < 0)
            return -1;
    }
    return 0;
}

/* Read which pages the twin has of its own, and their numbers. */
const char *snapserv_read_twin(void)
{
    const char *why = snapserv_open_twin();
    if (why != NULL)
        return why;
    snapserv_kept->moved = snapserv_count_moved(); /* first: what is moved meanwhile counts as moved since */
    for (int i = 0; i < snapserv_kept->group_count; i++)
        if (read_twins_group(&snapserv_kept->groups[i]) < 0)
            return SNAPSERV_UNREADABLE;
    /* Without a twin its pagemap is empty, and so is what was read of it. */
    uint64_t first = snapserv_kept->areas[0].start;
    int is_there = snapserv_read_entries(snapserv_kept->twins_pagemap, first, 1, snapserv_kept->entries) == 0;
    return is_there ? NULL : SNAPSERV_UNREADABLE;
}

int snapserv_read_twins_memory(uint64_t start, uint64_t end, void *into)
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
int snapserv_copy_twins_page(uint64_t at, uint32_t number)
{
    int free = snapserv_kept->copy_count;
    if (!snapserv_kept->is_kept || free == MOST_COPIES)
        return 0;
    if (snapserv_read_twins_memory(at, at + PAGE, snapserv_kept->copies + (size_t)free * PAGE) < 0)
        return -1;
    snapserv_kept->copied[number] = ++snapserv_kept->copy_count;
    return 1;
}

