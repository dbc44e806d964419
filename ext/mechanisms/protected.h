#ifndef SNAPSERV_PROTECTED_H
#define SNAPSERV_PROTECTED_H

#include <stddef.h>
#include <stdint.h>

/* Memory whose first write to each page after a snapshot is noticed by mprotect(2) and SIGSEGV, and copied first.
 *
 * A protected region is a shared mapping of a file, and its snapshots are private mappings of it (views.h). */
struct snapserv_protected;

/* Protect `pages` pages at `start`. NULL with errno. */
struct snapserv_protected *snapserv_protect(char *start, size_t pages, size_t page_bytes);

/* Protect no more; the memory is writable afterwards. */
void snapserv_unprotect(struct snapserv_protected *region);

/* From now on, writes are copied into `view` first, a private mapping of the same file. 0, or -1 with errno:
 * ENOSPC where there are too many snapshots; ENOMEM where the kernel has no area left. Nothing has changed then. */
int snapserv_protected_snapshot(struct snapserv_protected *region, char *view);

/* Forget a snapshot's view, which may be unmapped afterwards. */
void snapserv_protected_forget(struct snapserv_protected *region, char *view);

/* How many faults were answered, and how many times there was no area left for a single page. */
void snapserv_protected_counts(struct snapserv_protected *region, uint64_t *faults, uint64_t *whole);

#endif
