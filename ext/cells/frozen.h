/* A frozen snapshot: a process that blocks in C and knows four commands: clone a branch, tell what the kernel holds for
 * it, clone what a script makes of it, and have another server. */
#ifndef SNAPSERV_FROZEN_H
#define SNAPSERV_FROZEN_H

#include <stdint.h>

/* Descriptors of the caller that its clone is to close: what it has got ready for itself, for after the clone. */
struct snapserv_spares {
    int first;
    int count;
};

/* Clone the caller into a frozen sibling that listens on `child_control`, which is closed in the caller. The caller
 * answers the server here, on `control`: Python's first steps after a clone touch a hundred pages and copy each of
 * them, and the server need not wait for that.
 * `begun`, unless NULL, is called in the sibling before the server hears of it.
 * Returns 1 in the caller, with the time that the clone took in *clone_ns; 0 in a branch thawed from the sibling, with
 * its socket in *thawed; -1 with errno, and `child_control` closed. */
int snapserv_freeze(int control, int child_control, struct snapserv_spares spares, void (*begun)(void), int *thawed,
                    int64_t *clone_ns);

/* Be frozen: answer commands on `control`, and where that is closed, of the next server (see orphan.h); exit
 * where there is none. Returns only in a branch: its control socket. */
int snapserv_stay_frozen(int control);

/* How many threads this process has, or -1 with errno. */
int snapserv_count_threads(void);

#endif
