#ifndef SNAPSERV_VIEWS_H
#define SNAPSERV_VIEWS_H

#include <stddef.h>

/* The open snapshots of a shared mapping of a file: private mappings of the same file. Each sees a page through the
 * file until it is made to take a copy of its own, which must be before the page is next written. */
enum { SNAPSERV_MOST_VIEWS = 1024 };

struct snapserv_views {
    char *start[SNAPSERV_MOST_VIEWS];
    int count;
};

/* Have every snapshot take a copy of a page: a write that changes nothing. One that has a copy keeps it. */
static inline void snapserv_copy_to_views(struct snapserv_views *views, size_t offset)
{
    for (int i = 0; i < views->count; i++) {
        volatile char *byte = views->start[i] + offset;
        *byte = *byte;
    }
}

static inline void snapserv_forget_view(struct snapserv_views *views, char *start)
{
    for (int i = 0; i < views->count; i++)
        if (views->start[i] == start) {
            views->start[i] = views->start[--views->count];
            break;
        }
}

#endif
