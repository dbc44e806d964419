#include "write_faults.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { MOST_REGIONS = 256, MOST_VIEWS = 1024 };

struct snapserv_guarded {
    char *start;
    size_t pages, page_bytes;
    atomic_flag busy; /* held for a few system calls at most, also by the handler; never across anything that waits */
    char *views[MOST_VIEWS];
    int view_count;
    uint64_t faults, whole;
    unsigned char writable[]; /* a byte a page */
};

static _Atomic(struct snapserv_guarded *) regions[MOST_REGIONS];
static int region_count;
static struct sigaction before;

static void hold(struct snapserv_guarded *guarded)
{
    while (atomic_flag_test_and_set_explicit(&guarded->busy, memory_order_acquire))
        ;
}

static void release(struct snapserv_guarded *guarded)
{
    atomic_flag_clear_explicit(&guarded->busy, memory_order_release);
}

/* Have every snapshot take a copy of a page: a write that changes nothing. One that has a copy keeps it. */
static void copy_to_views(struct snapserv_guarded *guarded, size_t page)
{
    for (int i = 0; i < guarded->view_count; i++) {
        volatile char *byte = guarded->views[i] + page * guarded->page_bytes;
        *byte = *byte;
    }
}

static void make_writable(struct snapserv_guarded *guarded, size_t page)
{
    if (guarded->writable[page])
        return; /* another thread was quicker */
    guarded->faults++;
    copy_to_views(guarded, page);
    guarded->writable[page] = 1;
    if (mprotect(guarded->start + page * guarded->page_bytes, guarded->page_bytes, PROT_READ | PROT_WRITE) == 0)
        return;
    /* No area left to cut one page out (vm.max_map_count). All of it becomes one area again, once every page is safe. */
    guarded->whole++;
    for (size_t other = 0; other < guarded->pages; other++)
        if (!guarded->writable[other]) {
            copy_to_views(guarded, other);
            guarded->writable[other] = 1;
        }
    mprotect(guarded->start, guarded->pages * guarded->page_bytes, PROT_READ | PROT_WRITE);
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    int saved = errno;
    char *address = info->si_addr;
    if (info->si_code == SEGV_ACCERR)
        for (int i = 0; i < MOST_REGIONS; i++) {
            struct snapserv_guarded *guarded = atomic_load(&regions[i]);
            if (guarded == NULL || address < guarded->start ||
                address >= guarded->start + guarded->pages * guarded->page_bytes)
                continue;
            hold(guarded);
            make_writable(guarded, (address - guarded->start) / guarded->page_bytes);
            release(guarded);
            errno = saved;
            return;
        }
    /* Not ours. Whoever was there before decides; by default the fault happens again, and ends the process. */
    errno = saved;
    if (before.sa_flags & SA_SIGINFO)
        before.sa_sigaction(number, info, context);
    else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN)
        before.sa_handler(number);
    else
        sigaction(SIGSEGV, &before, NULL);
}

struct snapserv_guarded *snapserv_guard(char *start, size_t pages, size_t page_bytes)
{
    int slot = 0;
    while (slot < MOST_REGIONS && atomic_load(&regions[slot]) != NULL)
        slot++;
    if (slot == MOST_REGIONS) {
        errno = ENOSPC;
        return NULL;
    }
    struct snapserv_guarded *guarded = calloc(1, sizeof *guarded + pages);
    if (guarded == NULL)
        return NULL;
    guarded->start = start;
    guarded->pages = pages;
    guarded->page_bytes = page_bytes;
    memset(guarded->writable, 1, pages);
    if (region_count == 0) {
        struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
        sigemptyset(&action.sa_mask);
        if (sigaction(SIGSEGV, &action, &before) < 0) {
            free(guarded);
            return NULL;
        }
    }
    region_count++;
    atomic_store(&regions[slot], guarded);
    return guarded;
}

void snapserv_unguard(struct snapserv_guarded *guarded)
{
    hold(guarded);
    mprotect(guarded->start, guarded->pages * guarded->page_bytes, PROT_READ | PROT_WRITE);
    release(guarded);
    for (int i = 0; i < MOST_REGIONS; i++)
        if (atomic_load(&regions[i]) == guarded)
            atomic_store(&regions[i], NULL);
    if (--region_count == 0)
        sigaction(SIGSEGV, &before, NULL);
    free(guarded);
}

int snapserv_guard_snapshot(struct snapserv_guarded *guarded, char *view)
{
    int result = -1;
    hold(guarded);
    if (guarded->view_count == MOST_VIEWS) {
        errno = ENOSPC;
    } else if (mprotect(guarded->start, guarded->pages * guarded->page_bytes, PROT_READ) == 0) {
        /* From here on no page changes but through the handler, which waits for us. */
        memset(guarded->writable, 0, guarded->pages);
        guarded->views[guarded->view_count++] = view;
        result = 0;
    }
    release(guarded);
    return result;
}

void snapserv_guard_forget(struct snapserv_guarded *guarded, char *view)
{
    hold(guarded);
    for (int i = 0; i < guarded->view_count; i++)
        if (guarded->views[i] == view) {
            guarded->views[i] = guarded->views[--guarded->view_count];
            break;
        }
    if (guarded->view_count == 0) {
        memset(guarded->writable, 1, guarded->pages);
        mprotect(guarded->start, guarded->pages * guarded->page_bytes, PROT_READ | PROT_WRITE);
    }
    release(guarded);
}

void snapserv_guard_counts(struct snapserv_guarded *guarded, uint64_t *faults, uint64_t *whole)
{
    hold(guarded);
    *faults = guarded->faults;
    *whole = guarded->whole;
    release(guarded);
}
