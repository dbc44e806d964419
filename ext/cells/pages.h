/* Which pages of a marked process are others than its twin's, and putting those back. */
#ifndef SNAPSERV_PAGES_H
#define SNAPSERV_PAGES_H

#include <stdint.h>

/* Learn the number of the shared page of zeros. Returns NULL, or why the kernel does not tell. */
const char *snapserv_find_zero(void);

/* Open this process's pagemap, for as long as it is looked at and put back. Returns NULL, or why not. */
const char *snapserv_open_pages(void);
void snapserv_close_pages(void);

/* Look for pages that differ, and keep which; `anew` says that memory is missing, which will be there when they are
 * put back. Returns NULL, or why they cannot be put back. Runs on a stack that is no part of what is reset. */
const char *snapserv_look_at_pages(int anew);

/* Put back what snapserv_look_at_pages has found. Returns -1 where it could not: half of it is put back then. */
int snapserv_put_pages_back(void);

#endif
