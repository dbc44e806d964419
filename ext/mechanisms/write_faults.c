#include "write_faults.h"

#include <errno.h>
#include <signal.h>

enum { MOST = 256 };

static struct watched {
    _Atomic(char *) start; /* set last: the handler looks at nothing else of a place without one */
    size_t size;
    snapserv_on_write on_write;
    void *owner;
} watched[MOST];
static int count;
static struct sigaction before;

static void on_fault(int number, siginfo_t *info, void *context)
{
    int saved = errno;
    char *address = info->si_addr;
    if (info->si_code == SEGV_ACCERR)
        for (int i = 0; i < MOST; i++) {
            char *start = atomic_load(&watched[i].start);
            if (start == NULL || address < start || address >= start + watched[i].size)
                continue;
            if (watched[i].on_write(watched[i].owner, address) < 0)
                break;
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

int snapserv_watch(char *start, size_t size, snapserv_on_write on_write, void *owner)
{
    int place = 0;
    while (place < MOST && atomic_load(&watched[place].start) != NULL)
        place++;
    if (place == MOST) {
        errno = ENOSPC;
        return -1;
    }
    if (count == 0) {
        struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
        sigemptyset(&action.sa_mask);
        if (sigaction(SIGSEGV, &action, &before) < 0)
            return -1;
    }
    count++;
    watched[place].size = size;
    watched[place].on_write = on_write;
    watched[place].owner = owner;
    atomic_store(&watched[place].start, start);
    return 0;
}

void snapserv_unwatch(char *start)
{
    for (int i = 0; i < MOST; i++)
        if (atomic_load(&watched[i].start) == start)
            atomic_store(&watched[i].start, NULL);
    if (--count == 0)
        sigaction(SIGSEGV, &before, NULL);
}
