/* A file of huge pages, without a change to the system's settings. */
#ifndef SNAPSERV_HUGE_TMPFS_H
#define SNAPSERV_HUGE_TMPFS_H

#include <stdint.h>

/* Open an unnamed file of `size` bytes on a tmpfs of its own that uses huge pages wherever it can. The file
 * system has no mount point and goes when the last descriptor and mapping of the file go. An ordinary user gets it
 * through a user namespace. Returns a descriptor, or -1 with errno and, in *refused, the step that failed. */
int snapserv_open_huge_tmpfs(uint64_t size, const char **refused);

#endif
