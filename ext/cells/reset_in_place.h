/* Resetting a whole process in place: its memory and registers become again what they were at a mark, whatever wrote
 * them.
 *
 * A twin, cloned at the mark and frozen, keeps that moment. What this process writes after it the kernel copies first.
 * So where both have another physical page at an address (/proc/PID/pagemap, proc_pid_pagemap(5)), it is read back from
 * the twin, also where a page was moved there; what has been mapped since is unmapped, and what was unmapped is mapped
 * again. What the kernel holds for the process is not reset, but for the positions in its files: it is compared, and
 * where it differs nothing is reset. */
#ifndef SNAPSERV_RESET_IN_PLACE_H
#define SNAPSERV_RESET_IN_PLACE_H

#include <stddef.h>
#include <stdint.h>

enum { SNAPSERV_MOST_NOTE = 1 << 20 };

/* Mark this moment. The twin is a frozen sibling that listens on `child_control`; the server is answered on `control`,
 * as by snapserv_freeze.
 * Returns 1 in the caller, and 2 in it each time that it has been reset to here; 0 in a branch thawed from the twin,
 * with its socket in *thawed; -1 with errno; -2 with *refused, which says why this process cannot be reset, and with
 * `child_control` still open. */
int snapserv_reset_mark(int control, int child_control, int *thawed, int64_t *clone_ns, const char **refused);

/* Reset this process to its mark, where `note` is found again by snapserv_reset_note. Returns only where that is
 * refused, with nothing changed: why. */
const char *snapserv_reset_in_place(const void *note, size_t size);

/* What was handed to snapserv_reset_in_place last, and in *size how much of it. */
const void *snapserv_reset_note(size_t *size);

#endif
