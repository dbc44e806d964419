/* What the kernel holds for a process besides its memory and its files: compared, and never reset. */
#ifndef SNAPSERV_SETTINGS_H
#define SNAPSERV_SETTINGS_H

#include <limits.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

enum { SNAPSERV_STATUS = 8192, SNAPSERV_SIGNALS = 65, SNAPSERV_VALUES = 64 };

struct snapserv_settings {
    char status[SNAPSERV_STATUS], folder[PATH_MAX];
    struct rlimit limits[RLIM_NLIMITS];
    uint64_t actions[SNAPSERV_SIGNALS][4]; /* as the kernel has them */
    stack_t alternate;
    int64_t values[SNAPSERV_VALUES]; /* of prctl(2) and its like, of the scheduler, of namespaces */
};

/* Read a small file of /proc whole, as a string. Returns its size, or -1. */
ssize_t snapserv_read_small(const char *path, char *into, size_t size);

/* Read what this process has. Returns -1 where the kernel does not tell. */
int snapserv_read_settings(struct snapserv_settings *into);

/* Returns NULL, or what differs. */
const char *snapserv_compare_settings(const struct snapserv_settings *now, const struct snapserv_settings *marked);

/* Whether something would go on where this process is reset: timers, children. Returns NULL, or what. */
const char *snapserv_runs_on_its_own(void);

#endif
