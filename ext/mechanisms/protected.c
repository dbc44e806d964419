#include "protected.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "views.h"
#include "write_faults.h"

struct snapserv_protected {
    char *start;
    size_t pages, page_bytes;
    atomic_flag busy;
    struct snapserv_views views;
    uint64_t faults, whole;
    unsigned char writable[]; /* a byte a page */
};

static void make_writable(struct snapserv_protected *region, size_t page)
{
    if (region->writable[page])
        return; /* another thread was quicker */
    region->faults++;
    snapserv_copy_to_views(&region->views, page * region->page_bytes);
    region->writable[page] = 1;
    if (mprotect(region->start + page * region->page_bytes, region->page_bytes, PROT_READ | PROT_WRITE) == 0)
        return;
    /* No area left to cut one page out (vm.max_map_count). All of it becomes one area again, once every page is safe. */
    region->whole++;
    for (size_t other = 0; other < region->pages; other++)
        if (!region->writable[other]) {
            snapserv_copy_to_views(&region->views, other * region->page_bytes);
            region->writable[other] = 1;
        }
    mprotect(region->start, region->pages * region->page_bytes, PROT_READ | PROT_WRITE);
}

static int on_write(void *owner, char *address)
{
    struct snapserv_protected *region = owner;
    snapserv_hold(&region->busy);
    make_writable(region, (address - region->start) / region->page_bytes);
    snapserv_release(&region->busy);
    return 0;
}

struct snapserv_protected *snapserv_protect(char *start, size_t pages, size_t page_bytes)
{
    struct snapserv_protected *region = calloc(1, sizeof *region + pages);
    if (region == NULL)
        return NULL;
    region->start = start;
    region->pages = pages;
    region->page_bytes = page_bytes;
    memset(region->writable, 1, pages);
    if (snapserv_watch(start, pages * page_bytes, on_write, region) < 0) {
        free(region);
        return NULL;
    }
    return region;
}

void snapserv_unprotect(struct snapserv_protected *region)
{
    snapserv_hold(&region->busy);
    mprotect(region->start, region->pages * region->page_bytes, PROT_READ | PROT_WRITE);
    snapserv_release(&region->busy);
    snapserv_unwatch(region->start);
    free(region);
}

int snapserv_protected_snapshot(struct snapserv_protected *region, char *view)
{
    int result = -1;
    snapserv_hold(&region->busy);
    if (region->views.count == SNAPSERV_MOST_VIEWS) {
        errno = ENOSPC;
    } else if (mprotect(region->start, region->pages * region->page_bytes, PROT_READ) == 0) {
        /* From here on no page changes but through the handler, which waits for us. */
        memset(region->writable, 0, region->pages);
        region->views.start[region->views.count++] = view;
        result = 0;
    }
    snapserv_release(&region->busy);
    return result;
}

void snapserv_protected_forget(struct snapserv_protected *region, char *view)
{
    snapserv_hold(&region->busy);
    snapserv_forget_view(&region->views, view);
    if (region->views.count == 0) {
        memset(region->writable, 1, region->pages);
        mprotect(region->start, region->pages * region->page_bytes, PROT_READ | PROT_WRITE);
    }
    snapserv_release(&region->busy);
}

void snapserv_protected_counts(struct snapserv_protected *region, uint64_t *faults, uint64_t *whole)
{
    snapserv_hold(&region->busy);
    *faults = region->faults;
    *whole = region->whole;
    snapserv_release(&region->busy);
}
