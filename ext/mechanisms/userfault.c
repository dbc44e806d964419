#include "userfault.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "views.h"

/* What older headers lack of linux/userfaultfd.h. */
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#define WP_PAGEFAULTS (1ull << 0)
#define WP_FILES (1ull << 12)       /* UFFD_FEATURE_WP_HUGETLBFS_SHMEM, Linux 5.19 */
#define WP_UNPOPULATED (1ull << 13) /* UFFD_FEATURE_WP_UNPOPULATED, Linux 6.4 */
#define WP_ASYNC (1ull << 15)       /* UFFD_FEATURE_WP_ASYNC, Linux 6.7 */

enum { MOST_MESSAGES = 64 };

int snapserv_open_userfault(int async, int *user_only)
{
    *user_only = 0;
    int descriptor = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0 && errno == EPERM) {
        *user_only = 1;
        descriptor = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    }
    if (descriptor < 0)
        return -1;
    struct uffdio_api api = {
        .api = UFFD_API,
        .features = async ? WP_PAGEFAULTS | WP_UNPOPULATED | WP_ASYNC : WP_PAGEFAULTS | WP_FILES,
    };
    if (ioctl(descriptor, UFFDIO_API, &api) < 0) {
        int number = errno;
        close(descriptor);
        errno = number;
        return -1;
    }
    return descriptor;
}

static int write_protect(int descriptor, char *start, size_t size, int protect)
{
    struct uffdio_writeprotect change = {
        .range = {.start = (uintptr_t)start, .len = size},
        .mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
    };
    int result;
    do
        result = ioctl(descriptor, UFFDIO_WRITEPROTECT, &change);
    while (result < 0 && errno == EAGAIN); /* the memory's mappings are being changed */
    return result;
}

int snapserv_userfault_track(int descriptor, char *start, size_t size)
{
    struct uffdio_register registered = {
        .range = {.start = (uintptr_t)start, .len = size},
        .mode = UFFDIO_REGISTER_MODE_WP,
    };
    return ioctl(descriptor, UFFDIO_REGISTER, &registered);
}

struct snapserv_userfault {
    int descriptor, ended;
    char *start;
    size_t pages, page_bytes;
    pthread_t thread;
    pthread_mutex_t lock; /* every view has a copy of a page, or the page is protected: while nobody holds it */
    struct snapserv_views views;
    uint64_t faults;
};

static void *answer(void *argument)
{
    struct snapserv_userfault *region = argument;
    struct pollfd waiting[] = {{.fd = region->descriptor, .events = POLLIN}, {.fd = region->ended, .events = POLLIN}};
    struct uffd_msg messages[MOST_MESSAGES];
    while (1) {
        if (poll(waiting, 2, -1) < 0)
            continue; /* EINTR: every signal is blocked here, but for those that nobody can block */
        if (waiting[1].revents)
            return NULL;
        ssize_t got = read(region->descriptor, messages, sizeof messages);
        pthread_mutex_lock(&region->lock);
        for (ssize_t i = 0; i < got / (ssize_t)sizeof *messages; i++) {
            if (messages[i].event != UFFD_EVENT_PAGEFAULT)
                continue;
            size_t offset = (char *)(uintptr_t)messages[i].arg.pagefault.address - region->start;
            offset -= offset % region->page_bytes;
            /* A page may be told of twice, by two threads; and snapshots may have been taken in between. Whatever
             * has happened, it is protected or everybody has a copy, so one more is right or changes nothing. */
            region->faults++;
            snapserv_copy_to_views(&region->views, offset);
            write_protect(region->descriptor, region->start + offset, region->page_bytes, 0);
        }
        pthread_mutex_unlock(&region->lock);
    }
}

static int start_thread(struct snapserv_userfault *region)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* the thread inherits it: signals are for the others */
    int number = pthread_create(&region->thread, NULL, answer, region);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return number;
}

struct snapserv_userfault *snapserv_userfault_protect(char *start, size_t pages, size_t page_bytes)
{
    int user_only;
    struct snapserv_userfault *region = calloc(1, sizeof *region);
    if (region == NULL)
        return NULL;
    region->start = start;
    region->pages = pages;
    region->page_bytes = page_bytes;
    pthread_mutex_init(&region->lock, NULL);
    region->ended = eventfd(0, EFD_CLOEXEC);
    region->descriptor = snapserv_open_userfault(0, &user_only);
    int number = region->ended < 0 || region->descriptor < 0 ? errno : 0;
    if (number == 0 && snapserv_userfault_track(region->descriptor, start, pages * page_bytes) < 0)
        number = errno;
    if (number == 0)
        number = start_thread(region);
    if (number == 0)
        return region;
    if (region->descriptor >= 0)
        close(region->descriptor);
    if (region->ended >= 0)
        close(region->ended);
    pthread_mutex_destroy(&region->lock);
    free(region);
    errno = number;
    return NULL;
}

void snapserv_userfault_unprotect(struct snapserv_userfault *region)
{
    /* Nobody waits for the thread any more, once nothing is protected. */
    write_protect(region->descriptor, region->start, region->pages * region->page_bytes, 0);
    eventfd_write(region->ended, 1);
    pthread_join(region->thread, NULL);
    close(region->descriptor);
    close(region->ended);
    pthread_mutex_destroy(&region->lock);
    free(region);
}

int snapserv_userfault_snapshot(struct snapserv_userfault *region, char *view)
{
    int result = -1;
    pthread_mutex_lock(&region->lock);
    if (region->views.count == SNAPSERV_MOST_VIEWS) {
        errno = ENOSPC;
    } else if (write_protect(region->descriptor, region->start, region->pages * region->page_bytes, 1) == 0) {
        /* From here on no page changes but through the thread, which waits for us. */
        region->views.start[region->views.count++] = view;
        result = 0;
    }
    pthread_mutex_unlock(&region->lock);
    return result;
}

void snapserv_userfault_forget(struct snapserv_userfault *region, char *view)
{
    pthread_mutex_lock(&region->lock);
    snapserv_forget_view(&region->views, view);
    if (region->views.count == 0)
        write_protect(region->descriptor, region->start, region->pages * region->page_bytes, 0);
    pthread_mutex_unlock(&region->lock);
}

uint64_t snapserv_userfault_count(struct snapserv_userfault *region)
{
    pthread_mutex_lock(&region->lock);
    uint64_t faults = region->faults;
    pthread_mutex_unlock(&region->lock);
    return faults;
}
