#ifndef SNAPSERV_WRITE_FAULTS_H
#define SNAPSERV_WRITE_FAULTS_H

#include <stddef.h>
#include <stdint.h>

/* Memory whose first write to each page after a snapshot is noticed, by mprotect(2) and SIGSEGV, and copied first.
 *
 * A guarded region is a shared mapping of a file, and its snapshots are private mappings of the same file. While a
 * page is protected, the snapshots see it through the file. Before it is written, every snapshot is made to take a
 * copy of its own, by a write to its private mapping. */
struct snapserv_guarded;

/* Guard `pages` pages at `start`. Installs the signal handler with the first region. NULL with errno. */
struct snapserv_guarded *snapserv_guard(char *start, size_t pages, size_t page_bytes);

/* Stop guarding; its memory is writable afterwards. The previous handler is put back with the last region. */
void snapserv_unguard(struct snapserv_guarded *guarded);

/* From now on, writes are copied into `view` first, a private mapping of the same file. 0, or -1 with errno:
 * ENOSPC where there are too many snapshots; ENOMEM where the kernel has no area left. Nothing has changed then. */
int snapserv_guard_snapshot(struct snapserv_guarded *guarded, char *view);

/* Forget a snapshot's view, which may be unmapped afterwards. */
void snapserv_guard_forget(struct snapserv_guarded *guarded, char *view);

/* How many faults were answered, and how many times there was no area left for a single page. */
void snapserv_guard_counts(struct snapserv_guarded *guarded, uint64_t *faults, uint64_t *whole);

#endif
