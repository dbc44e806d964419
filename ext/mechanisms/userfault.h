#ifndef SNAPSERV_USERFAULT_H
#define SNAPSERV_USERFAULT_H

#include <stddef.h>
#include <stdint.h>

/* Writes that userfaultfd(2) tells of: see Documentation/admin-guide/mm/userfaultfd.rst.
 *
 * Protection is a bit of each page's entry in the page table, so it costs no areas, whatever is written. */

/* Return a descriptor that can protect memory of files (Linux 5.19), or with `async` private memory without telling
 * anybody (Linux 6.7). Of the process's own writes only, where the kernel allows no more without privileges:
 * `*user_only` is set then. -1 with errno. */
int snapserv_open_userfault(int async, int *user_only);

/* Synchronously: a thread of its own copies each page into the snapshots before it is first written.
 * The region is a shared mapping of a file, and its snapshots are private mappings of it (views.h). */
struct snapserv_userfault;

/* Protect `pages` pages at `start`, and start the thread. NULL with errno. */
struct snapserv_userfault *snapserv_userfault_protect(char *start, size_t pages, size_t page_bytes);

/* Protect no more and end the thread; the memory is writable afterwards. */
void snapserv_userfault_unprotect(struct snapserv_userfault *region);

/* From now on, writes are copied into `view` first. 0, or -1 with errno, ENOSPC: too many snapshots. */
int snapserv_userfault_snapshot(struct snapserv_userfault *region, char *view);

/* Forget a snapshot's view, which may be unmapped afterwards. */
void snapserv_userfault_forget(struct snapserv_userfault *region, char *view);

/* How many faults were answered. */
uint64_t snapserv_userfault_count(struct snapserv_userfault *region);

/* Asynchronously: protect [start, start + size) of private memory through `descriptor`. 0, or -1 with errno. */
int snapserv_userfault_track(int descriptor, char *start, size_t size);

#endif
