/* Where a process's temporary files are, as the C library is told. */
#ifndef SNAPSERV_TEMPORARY_H
#define SNAPSERV_TEMPORARY_H

#include <stddef.h>

/* Have this process's temporary files be in the folder `path`, and TMPDIR say so. Whoever has kept the pointer that
 * getenv(3) returned since the first call sees each. Returns whether TMPDIR is that, and a simulation has not set it
 * otherwise, or -1 with errno. */
int snapserv_put_temporary(const char *path);

/* Whether something is in that folder, or this process works in it, so that its clones would as well. */
int snapserv_uses_temporary(void);

/* Whether something is in the folder of the first call, and it is another one now. */
int snapserv_has_strays(void);

/* Whether a folder has nothing in it: 1, 0, or -1 with errno. */
int snapserv_is_empty(const char *path);

/* Keep the open file of a descriptor, with its lock, for as long as this process or a clone of it lives, or until it is let
 * go: it is mapped. Returns where, or NULL with errno. */
void *snapserv_hold_open(int descriptor);
int snapserv_let_go(void *held);

#endif
