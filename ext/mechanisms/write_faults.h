#ifndef SNAPSERV_WRITE_FAULTS_H
#define SNAPSERV_WRITE_FAULTS_H

#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>

/* Writes to memory that was protected with mprotect(2): who has protected it is asked, in the signal handler of
 * SIGSEGV. All who protect memory share this one handler, which is installed while there is anybody. */

/* Make the page at `address` writable, or see that another thread has. Runs in a signal handler: system calls and
 * memory only. 0, or -1 where it cannot be done: then the fault ends the process, as it would have done. */
typedef int (*snapserv_on_write)(void *owner, char *address);

/* Ask `on_write` about writes within [start, start + size). 0, or -1 with errno: ENOSPC where too many ask. */
int snapserv_watch(char *start, size_t size, snapserv_on_write on_write, void *owner);

/* Ask no more. The handler that was there before comes back with the last one. */
void snapserv_unwatch(char *start);

/* A lock for what the handler shares with others: whoever holds it never writes to memory that is watched. */
static inline void snapserv_hold(atomic_flag *busy)
{
    while (atomic_flag_test_and_set_explicit(busy, memory_order_acquire))
        sched_yield();
}

static inline void snapserv_release(atomic_flag *busy)
{
    atomic_flag_clear_explicit(busy, memory_order_release);
}

#endif
