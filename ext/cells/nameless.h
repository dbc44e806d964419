/* Files without a name: whoever has one open has its contents alone, so a clone that writes it needs a copy. */
#ifndef SNAPSERV_NAMELESS_H
#define SNAPSERV_NAMELESS_H

#include <stdint.h>

/* Whether the file of a descriptor has no name, and can still be written: a memfd, O_TMPFILE, or one that was removed.
 * Not where it is nobody's any more. */
int snapserv_is_nameless(int descriptor);

/* From now on a file is nobody's: what was mapped of it has been made private, so its contents do not matter. Of more
 * than 64 the rest is copied all the same. */
void snapserv_disown(uint64_t device, uint64_t inode);

/* Return a new nameless file with the same contents, in the same folder where there is one; or -1 with errno. */
int snapserv_copy_nameless(int descriptor);

#endif
