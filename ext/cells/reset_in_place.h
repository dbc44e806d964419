/* Taking a whole process back: its memory and registers become again what they were at a mark, whatever wrote them.
 *
 * A twin, cloned at the mark and frozen, keeps that moment. What this process writes after it the kernel copies first.
 * So where both have another physical page at an address (/proc/PID/pagemap, proc_pid_pagemap(5)), it is read back from
 * the twin, also where a page was moved there; what has been mapped since is unmapped, and what was unmapped is mapped
 * again. What the kernel holds for the process does not go back, but for the positions in its files: it is compared, and
 * where it differs nothing is taken back. */
#ifndef SNAPSERV_RETRACE_H
#define SNAPSERV_RETRACE_H

#include <stddef.h>
#include <stdint.h>

/* Mark this moment. The twin is a frozen sibling that listens on `child_control`; the server is answered on `control`,
 * as by snapserv_freeze.
 * Returns 1 in the caller, and 2 in it each time that it has been taken back here; 0 in a branch thawed from the twin,
 * with its socket in *thawed; -1 with errno; -2 with *refused, which says why this process cannot go back, and with
 * `child_control` still open. */
int snapserv_retrace_mark(int control, int child_control, int *thawed, int64_t *clone_ns, const char **refused);

/* Take this process back to its mark, where `note` is found again by snapserv_retrace_note. Returns only where that is
 * refused, with nothing changed: why. */
const char *snapserv_retrace_back(const void *note, size_t size);

/* What was handed to snapserv_retrace_back last, and in *size how much of it. */
const void *snapserv_retrace_note(size_t *size);

#endif
