/* Where a process's temporary files are, as the C library is told. */
#ifndef SNAPSERV_TEMPORARY_H
#define SNAPSERV_TEMPORARY_H

#include <stddef.h>

/* Have TMPDIR say `path`. Whoever has kept the pointer that getenv(3) returned since the first call sees each. Returns -1
 * with errno where it is too long. */
int snapserv_put_temporary(const char *path);

/* Whether TMPDIR still is what was put there: a simulation may have set it otherwise. */
int snapserv_owns_temporary(void);

/* Whether a folder has nothing in it: 1, 0, or -1 with errno. */
int snapserv_is_empty(const char *path);

/* Keep the open file of a descriptor, with its lock, for as long as this process or a clone of it lives, or until it is let
 * go: it is mapped. Returns where, or NULL with errno. */
void *snapserv_hold_open(int descriptor);
int snapserv_let_go(void *held);

#endif
