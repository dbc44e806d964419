/* What a cell does when its server is gone: wait for the next one, for a while. */
#ifndef SNAPSERV_ORPHAN_H
#define SNAPSERV_ORPHAN_H

#include <stdint.h>

/* Where the next server will listen, for how long to wait for it, and the descriptor of the server's ledger, which
 * every cell holds for it. To be called once, before the first clone. Returns -1 with errno ENAMETOOLONG. */
int snapserv_orphan_configure(const char *path, int64_t grace_ns, int ledger);

/* Wait for others than before: this process has another server. */
int snapserv_orphan_settle(const char *path, int64_t grace_ns);

/* The ledger's descriptor; -1 without one. */
int snapserv_ledger(void);

/* Let the server read this process, where Yama lets only ancestors do that and it is none. A clone does not inherit
 * this (Documentation/admin-guide/LSM/Yama.rst). */
void snapserv_let_read(void);

/* There is no next server, and never will be: the last one has ended as it should, and has taken its socket away, or
 * the time is over. */
enum { SNAPSERV_NEVER = -2 };

/* Connect to a server and say hello, having waited for so long. Returns the socket; -1 where there is none yet. */
int snapserv_try_server(int64_t waited_ns);

/* Wait for a server for as long as is allowed. Returns the socket, or SNAPSERV_NEVER. */
int snapserv_find_server(void);

#endif
