/* What is kept of a marked process's twin.
 *
 * The twin is frozen: neither which pages it has of its own nor what is in them changes. So what was read of it once
 * is kept, beside what is reset: the numbers of its pages, for as long as the kernel moves none (/proc/vmstat), and
 * the contents of those that children write to. */
#ifndef SNAPSERV_TWIN_H
#define SNAPSERV_TWIN_H

#include <stdint.h>

#include "standing.h"

#define SNAPSERV_UNREADABLE "the memory of its twin cannot be read"

static inline uint64_t snapserv_pages(uint64_t start, uint64_t end)
{
    return (end - start) / PAGE;
}

/* At the mark: group the areas that were listed, and make room for what will be kept of them. Returns NULL, or why
 * there is none. */
const char *snapserv_make_room(void);

/* Open the twin's memory and its pagemap, which stay its own if it should end now; once. Returns NULL, or why not. */
const char *snapserv_open_twin(void);

/* Read which pages the twin has of its own, and their numbers. Returns NULL, or why not. */
const char *snapserv_read_twin(void);

/* Read the twin's memory, which is open. Returns -1 where it cannot be read. */
int snapserv_read_twins_memory(uint64_t start, uint64_t end, void *into);

/* Copy a page of the twin's, by its number among all that are kept. Returns 1, 0 where there is no room, or -1. */
int snapserv_copy_twins_page(uint64_t at, uint32_t number);

/* How many pages the kernel has moved so far; -1 where it does not tell. */
int64_t snapserv_count_moved(void);

/* Read entries of a pagemap. Returns -1 where it cannot be read. */
int snapserv_read_entries(int pagemap, uint64_t start, uint64_t count, uint64_t *into);

/* Whether a process has no pages of its own there. */
int snapserv_has_none(int pagemap, uint64_t start, uint64_t end);

/* Note which stretches of a large area have pages of the process's own. Returns -1 where the kernel does not tell. */
int snapserv_note_stretches(int pagemap, const struct snapserv_group *group, unsigned char *into);

/* The stretch of a large area with some number: where it starts, and how many pages it has. */
uint64_t snapserv_stretch_at(const struct snapserv_group *group, uint64_t number, uint64_t *start);

#endif
