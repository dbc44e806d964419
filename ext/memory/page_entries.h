/* Page-table entries of private mappings of tmpfs files: how many there are, dropping those that only map the file, and
 * having reads make no more of them than they touch.
 *
 * A write to a page of a huge page splits its mapping, and the next read there maps all 512 pages at once (Linux 6.11; 16
 * of them before). Every fork then copies those entries. What is registered with userfaultfd(2) for write protection is
 * mapped a page at a time instead. Nothing is ever protected, so nobody is ever told of a fault. */
#ifndef SNAPSERV_PAGE_ENTRIES_H
#define SNAPSERV_PAGE_ENTRIES_H

#include <stddef.h>
#include <stdint.h>

struct snapserv_entries {
    uint64_t private_pages; /* pages of this process's own, present or swapped */
    uint64_t mapped_pages;  /* pages of the file, each mapped by an entry of its own */
};

/* Count what is in [start, end), by one block of 2 MiB in `one_in`. Returns -1 with errno: ENOTTY where the kernel has no
 * PAGEMAP_SCAN (Linux 6.7). */
int snapserv_count_entries(uint64_t start, uint64_t end, unsigned one_in, struct snapserv_entries *into);

/* Drop the entries of the second kind. The next read maps the page again. Of a process that has one thread: what another
 * makes private meanwhile would be lost. Signals wait. Returns how many were dropped, or -1 with errno: the contents are
 * what they were. */
long snapserv_drop_mapped(uint64_t start, uint64_t end);

/* Open a descriptor for the two that follow: FIRST_SPARED or above, so that it is in nobody's way. Memory is registered for
 * as long as it is open, in this process alone: a clone has the descriptor, and not the registration. Returns -1 with
 * errno: EPERM or ENOSYS where it is forbidden, EINVAL before Linux 5.19. */
int snapserv_open_registration(void);
int snapserv_register(int registration, uint64_t start, uint64_t end);
int snapserv_unregister(int registration, uint64_t start, uint64_t end);

#endif
