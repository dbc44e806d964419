/* Which descriptors are open. */
#ifndef SNAPSERV_DESCRIPTORS_H
#define SNAPSERV_DESCRIPTORS_H

/* Call `take` with the number of each open descriptor above stderr; with -1 before the first one, and again where it must
 * begin anew. It may open none, and close none. Returns 0, or -1 with errno. Allocates nothing: a clone that writes to its
 * heap copies pages. */
int snapserv_each_descriptor(void (*take)(int number, void *given), void *given);

#endif
