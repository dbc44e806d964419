/* Open files of a clone: each gets an offset of its own, since a forked descriptor shares its parent's. */
#ifndef SNAPSERV_REOPENING_H
#define SNAPSERV_REOPENING_H

/* Give every regular file and every folder above stderr an open file description of its own, at the present offset.
 * Returns 0; or -1 with errno, and in *descriptor the one that could not be opened again, or -1. */
int snapserv_reopen_files(int *descriptor);

#endif
