#include "page_pool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "write_faults.h"

enum { MOST_AROUND = 512, BALLAST_PAGES = 6 };

struct snapserv_pool {
    int descriptor;
    enum snapserv_remapping how;
    size_t page_bytes, most;
    size_t made;     /* slots that were ever given out; the file is as long */
    char *window;    /* all of the file, for copying */
    uint32_t *users; /* of each slot */
    uint32_t *idle;  /* a stack of slots that were given back: their pages are holes of the file */
    size_t idle_count;
    char *ballast;   /* areas to give up where there are no more: mmap(2) refuses even what would take none */
    atomic_flag busy;
    struct snapserv_pool_counts counts;
};

struct snapserv_remapped {
    struct snapserv_pool *pool;
    char *start;
    size_t pages;
    uint32_t *slots;
    uint32_t *spare;          /* room for as many: memory cannot be asked for in a signal handler */
    unsigned char writable[]; /* a byte a page */
};

static void *lazy_memory(size_t size)
{
    return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

static void take_ballast(struct snapserv_pool *pool)
{
    pool->ballast = mmap(NULL, BALLAST_PAGES * pool->page_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int page = 0; pool->ballast != MAP_FAILED && page < BALLAST_PAGES; page += 2)
        mprotect(pool->ballast + page * pool->page_bytes, pool->page_bytes, PROT_READ); /* areas apart */
}

static void drop_ballast(struct snapserv_pool *pool)
{
    if (pool->ballast != MAP_FAILED)
        munmap(pool->ballast, BALLAST_PAGES * pool->page_bytes);
    pool->ballast = MAP_FAILED;
}

struct snapserv_pool *snapserv_pool_make(size_t slots, size_t page_bytes, enum snapserv_remapping how)
{
    struct snapserv_pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL)
        return NULL;
    pool->how = how;
    pool->page_bytes = page_bytes;
    pool->most = slots < UINT32_MAX ? slots : UINT32_MAX;
    pool->descriptor = memfd_create("snapserv-pool", MFD_CLOEXEC);
    pool->users = lazy_memory(pool->most * sizeof *pool->users);
    pool->idle = lazy_memory(pool->most * sizeof *pool->idle);
    pool->window = pool->descriptor < 0 ? MAP_FAILED
                                        : mmap(NULL, pool->most * page_bytes, PROT_READ | PROT_WRITE,
                                               MAP_SHARED | MAP_NORESERVE, pool->descriptor, 0);
    take_ballast(pool);
    if (pool->users != MAP_FAILED && pool->idle != MAP_FAILED && pool->window != MAP_FAILED)
        return pool;
    int number = errno;
    snapserv_pool_free(pool);
    errno = number;
    return NULL;
}

void snapserv_pool_free(struct snapserv_pool *pool)
{
    drop_ballast(pool);
    if (pool->window != MAP_FAILED)
        munmap(pool->window, pool->most * pool->page_bytes);
    if (pool->users != MAP_FAILED)
        munmap(pool->users, pool->most * sizeof *pool->users);
    if (pool->idle != MAP_FAILED)
        munmap(pool->idle, pool->most * sizeof *pool->idle);
    if (pool->descriptor >= 0)
        close(pool->descriptor);
    free(pool);
}

/* ------------------------------------------------------------------------------ slots; the pool is held by the caller */

static char *content(struct snapserv_pool *pool, uint32_t slot)
{
    return pool->window + (size_t)slot * pool->page_bytes;
}

/* How many slots of a table, from `first` on, follow one another in the file too. */
static size_t run_of(const uint32_t *slots, size_t first, size_t count)
{
    size_t run = 1;
    while (first + run < count && slots[first + run] == slots[first] + run)
        run++;
    return run;
}

/* Take slots that follow one another, at the end of the file. */
static int take_new(struct snapserv_pool *pool, uint32_t *slots, size_t count)
{
    if (count > pool->most - pool->made || ftruncate(pool->descriptor, (pool->made + count) * pool->page_bytes) < 0) {
        errno = ENOMEM;
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        slots[i] = pool->made++;
        pool->users[slots[i]] = 1;
    }
    pool->counts.slots += count;
    return 0;
}

static int take_one(struct snapserv_pool *pool, uint32_t *slot)
{
    if (pool->idle_count == 0)
        return take_new(pool, slot, 1);
    *slot = pool->idle[--pool->idle_count];
    pool->users[*slot] = 1;
    pool->counts.slots++;
    return 0;
}

static void drop(struct snapserv_pool *pool, const uint32_t *slots, size_t count)
{
    for (size_t i = count; i-- > 0;) { /* from the last one, so that they are taken again in order */
        if (--pool->users[slots[i]] != 0)
            continue;
        pool->idle[pool->idle_count++] = slots[i];
        pool->counts.slots--;
        size_t run = 1;
        while (i > 0 && slots[i - 1] + 1 == slots[i] && pool->users[slots[i - 1]] == 1) {
            i--;
            run++;
            pool->users[slots[i]] = 0;
            pool->idle[pool->idle_count++] = slots[i];
            pool->counts.slots--;
        }
        fallocate(pool->descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)slots[i] * pool->page_bytes,
                  run * pool->page_bytes);
    }
}

/* ----------------------------------------------------------------------------------------------------------- mappings */

static int map_run(struct snapserv_pool *pool, char *start, uint32_t slot, size_t pages, int protection)
{
    size_t size = pages * pool->page_bytes;
    pool->counts.calls++;
    if (pool->how == SNAPSERV_REMAP_FILE_PAGES) {
        if (remap_file_pages(start, size, 0, slot, 0) < 0)
            return -1;
        if (protection == PROT_READ)
            return 0;
        pool->counts.calls++;
        return mprotect(start, size, protection);
    }
    void *mapped = mmap(start, size, protection, MAP_SHARED | MAP_FIXED, pool->descriptor,
                        (off_t)slot * pool->page_bytes);
    return mapped == MAP_FAILED ? -1 : 0;
}

static int map_table(struct snapserv_pool *pool, char *start, const uint32_t *slots, size_t count)
{
    /* remap_file_pages moves pages of a mapping, so there must be one. */
    if (pool->how == SNAPSERV_REMAP_FILE_PAGES) {
        pool->counts.calls++;
        if (mmap(start, count * pool->page_bytes, PROT_READ, MAP_SHARED | MAP_FIXED, pool->descriptor, 0) == MAP_FAILED)
            return -1;
    }
    for (size_t page = 0, run; page < count; page += run) {
        run = run_of(slots, page, count);
        if (map_run(pool, start + page * pool->page_bytes, slots[page], run, PROT_READ) < 0)
            return -1;
    }
    return 0;
}

static int protect(struct snapserv_remapped *region, size_t page, size_t pages, int protection)
{
    struct snapserv_pool *pool = region->pool;
    pool->counts.calls++;
    return mprotect(region->start + page * pool->page_bytes, pages * pool->page_bytes, protection);
}

/* Show copies of a table's pages that nobody else has and that lie in order: one area, all of it writable. */
static int become_whole(struct snapserv_remapped *region, const uint32_t *slots)
{
    struct snapserv_pool *pool = region->pool;
    uint32_t *fresh = region->spare;
    int result = protect(region, 0, region->pages, PROT_READ); /* no area is cut: every one gets it whole */
    if (result == 0)
        result = take_new(pool, fresh, region->pages);
    if (result == 0) {
        for (size_t page = 0; page < region->pages; page++)
            memcpy(content(pool, fresh[page]), content(pool, slots[page]), pool->page_bytes);
        pool->counts.calls++;
        drop_ballast(pool);
        void *mapped = mmap(region->start, region->pages * pool->page_bytes, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_FIXED, pool->descriptor, (off_t)fresh[0] * pool->page_bytes);
        take_ballast(pool);
        if (mapped == MAP_FAILED) {
            drop(pool, fresh, region->pages);
            result = -1;
        }
    }
    if (result == 0) {
        drop(pool, region->slots, region->pages);
        region->spare = region->slots;
        region->slots = fresh;
        memset(region->writable, 1, region->pages);
        pool->counts.whole++;
    } else {
        memset(region->writable, 0, region->pages);
    }
    return result;
}

static int make_writable(struct snapserv_remapped *region, size_t page)
{
    struct snapserv_pool *pool = region->pool;
    if (region->writable[page])
        return 0; /* another thread was quicker */
    pool->counts.faults++;
    uint32_t slot = region->slots[page], fresh;
    if (pool->users[slot] == 1) {
        /* Nor does anybody share what follows, often: that saves a fault, a call and an area for each of those. */
        size_t run = 1;
        while (run < MOST_AROUND && page + run < region->pages && pool->users[region->slots[page + run]] == 1)
            run++;
        if (protect(region, page, run, PROT_READ | PROT_WRITE) < 0)
            return become_whole(region, region->slots);
        memset(&region->writable[page], 1, run);
    } else {
        if (take_one(pool, &fresh) < 0)
            return -1;
        memcpy(content(pool, fresh), content(pool, slot), pool->page_bytes);
        if (map_run(pool, region->start + page * pool->page_bytes, fresh, 1, PROT_READ | PROT_WRITE) < 0) {
            /* Also where the first of two calls was done: the new page has the same bytes, and nobody writes it. */
            int result = become_whole(region, region->slots);
            if (result == 0 || pool->how == SNAPSERV_MMAP)
                drop(pool, &fresh, 1);
            return result;
        }
        pool->users[slot]--;
        region->slots[page] = fresh;
        region->writable[page] = 1;
    }
    return 0;
}

static int on_write(void *owner, char *address)
{
    struct snapserv_remapped *region = owner;
    snapserv_hold(&region->pool->busy);
    int result = make_writable(region, (address - region->start) / region->pool->page_bytes);
    snapserv_release(&region->pool->busy);
    return result;
}

/* ------------------------------------------------------------------------------------------------------ what others call */

int snapserv_pool_take(struct snapserv_pool *pool, uint32_t *slots, size_t count)
{
    int result = 0;
    snapserv_hold(&pool->busy);
    if (count > pool->idle_count) {
        result = take_new(pool, slots, count);
    } else {
        for (size_t i = 0; i < count; i++)
            take_one(pool, &slots[i]);
    }
    snapserv_release(&pool->busy);
    return result;
}

void snapserv_pool_share(struct snapserv_pool *pool, const uint32_t *slots, size_t count)
{
    snapserv_hold(&pool->busy);
    for (size_t i = 0; i < count; i++)
        pool->users[slots[i]]++;
    snapserv_release(&pool->busy);
}

void snapserv_pool_drop(struct snapserv_pool *pool, const uint32_t *slots, size_t count)
{
    snapserv_hold(&pool->busy);
    drop(pool, slots, count);
    snapserv_release(&pool->busy);
}

void snapserv_pool_fill(struct snapserv_pool *pool, uint32_t slot, const char *bytes)
{
    memcpy(content(pool, slot), bytes, pool->page_bytes);
}

void snapserv_pool_read(struct snapserv_pool *pool, const uint32_t *slots, size_t offset, size_t size, char *into)
{
    while (size > 0) {
        size_t page = offset / pool->page_bytes, within = offset % pool->page_bytes;
        size_t run = run_of(slots, page, page + (within + size + pool->page_bytes - 1) / pool->page_bytes);
        size_t bytes = run * pool->page_bytes - within;
        if (bytes > size)
            bytes = size;
        memcpy(into, content(pool, slots[page]) + within, bytes);
        into += bytes;
        offset += bytes;
        size -= bytes;
    }
}

int snapserv_pool_map(struct snapserv_pool *pool, char *start, const uint32_t *slots, size_t count)
{
    snapserv_hold(&pool->busy);
    int result = map_table(pool, start, slots, count);
    snapserv_release(&pool->busy);
    return result;
}

void snapserv_pool_count(struct snapserv_pool *pool, struct snapserv_pool_counts *counts)
{
    snapserv_hold(&pool->busy);
    *counts = pool->counts;
    snapserv_release(&pool->busy);
}

struct snapserv_remapped *snapserv_remap(struct snapserv_pool *pool, char *start, const uint32_t *slots, size_t count)
{
    struct snapserv_remapped *region = calloc(1, sizeof *region + count);
    if (region == NULL)
        return NULL;
    region->pool = pool;
    region->start = start;
    region->pages = count;
    region->slots = malloc(count * sizeof *slots);
    region->spare = malloc(count * sizeof *slots);
    if (region->slots == NULL || region->spare == NULL)
        goto failed;
    memcpy(region->slots, slots, count * sizeof *slots);
    if (snapserv_pool_map(pool, start, slots, count) < 0 ||
        snapserv_watch(start, count * pool->page_bytes, on_write, region) < 0)
        goto failed;
    return region;
failed:;
    int number = errno;
    free(region->slots);
    free(region->spare);
    free(region);
    errno = number;
    return NULL;
}

void snapserv_remap_end(struct snapserv_remapped *region)
{
    snapserv_unwatch(region->start);
    snapserv_pool_drop(region->pool, region->slots, region->pages);
    free(region->slots);
    free(region->spare);
    free(region);
}

int snapserv_remap_snapshot(struct snapserv_remapped *region, uint32_t *slots)
{
    snapserv_hold(&region->pool->busy);
    int result = protect(region, 0, region->pages, PROT_READ);
    if (result == 0) {
        /* From here on no page changes but through the handler, which waits for us. */
        memset(region->writable, 0, region->pages);
        memcpy(slots, region->slots, region->pages * sizeof *slots);
        for (size_t page = 0; page < region->pages; page++)
            region->pool->users[slots[page]]++;
    }
    snapserv_release(&region->pool->busy);
    return result;
}

int snapserv_remap_restore(struct snapserv_remapped *region, const uint32_t *slots)
{
    struct snapserv_pool *pool = region->pool;
    int result = 0;
    snapserv_hold(&pool->busy);
    /* What is writable is nobody else's, so it is not the table's. */
    for (size_t page = 0, run; page < region->pages && result == 0; page += run) {
        run = 1;
        if (region->slots[page] == slots[page])
            continue;
        while (page + run < region->pages && slots[page + run] == slots[page] + run &&
               region->slots[page + run] != slots[page + run])
            run++;
        if (map_run(pool, region->start + page * pool->page_bytes, slots[page], run, PROT_READ) < 0) {
            result = become_whole(region, slots);
            break;
        }
        if (pool->how == SNAPSERV_REMAP_FILE_PAGES) /* it kept what the pages were allowed */
            result = protect(region, page, run, PROT_READ);
        for (size_t i = page; i < page + run; i++)
            pool->users[slots[i]]++;
        drop(pool, &region->slots[page], run);
        memcpy(&region->slots[page], &slots[page], run * sizeof *slots);
        memset(&region->writable[page], 0, run);
    }
    snapserv_release(&pool->busy);
    return result;
}
