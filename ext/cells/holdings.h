/* What this process holds outside of private memory, as the kernel lists it: quickly, since each snapshot asks. */
#ifndef SNAPSERV_HOLDINGS_H
#define SNAPSERV_HOLDINGS_H

#include <stddef.h>
#include <stdint.h>

struct snapserv_shared {
    uint64_t start, end, offset, inode;
    uint32_t major, minor;
    int is_executable;
    char name[256]; /* empty where it is longer */
};

/* Find the first area from `from` on that is written and shared, and is not what a mark shares with its twin, by
 * PROCMAP_QUERY (Linux 6.11) on `maps`, which is /proc/self/maps opened. Returns 1; 0 where there is none; -1 with errno,
 * ENOTTY where the kernel has no such call. */
int snapserv_next_shared(int maps, uint64_t from, struct snapserv_shared *into);

/* Put private anonymous memory with the same contents in the place of a shared area. Returns -1 with errno. */
int snapserv_make_private(uint64_t start, uint64_t end, int is_executable);

struct snapserv_descriptor {
    int number;
    uint32_t mode;
    uint64_t device, inode, special;
};

/* List the open descriptors above stderr, at most `most`. Returns how many there are, or -1 with errno. */
int snapserv_list_descriptors(struct snapserv_descriptor *into, int most);

/* Glance at all of it, without a word of Python: each snapshot does. `ours` are descriptors that do not count, and nor do
 * the ledger and what is shared where `building` lies. Returns 0, with a number in *sum that is another one where the
 * descriptors have changed; 1 where something is shared; -1 with errno, ENOTTY where the kernel has no quick way to tell. */
int snapserv_glance(const int *ours, int count, int ledger, uint64_t building, uint64_t *sum);

#endif
