/* A frozen snapshot: a process that blocks in C and knows one command, "clone a branch". */
#ifndef SNAPSERV_FROZEN_H
#define SNAPSERV_FROZEN_H

#include <stdint.h>
#include <sys/types.h>

/* Every message between the server and a cell starts with this, in the machine's byte order: both ends are on
 * one machine. A message is a prefix, `header_bytes` of msgpack and `payload_bytes` of raw data. */
struct snapserv_prefix {
    uint32_t kind;
    uint32_t header_bytes;
    uint64_t payload_bytes;
};

enum snapserv_kind {
    SNAPSERV_REQUEST = 1,   /* server to a live cell: header, payload, perhaps a descriptor */
    SNAPSERV_REPLY = 2,     /* cell to server: the final answer to a request */
    SNAPSERV_PROGRESS = 3,  /* cell to server: header only */
    SNAPSERV_CLONE = 4,     /* server to a frozen cell: prefix only, with the branch's socket attached */
    SNAPSERV_HELLO = 5,     /* a new process to the server: struct snapserv_hello */
    SNAPSERV_FAILED = 6,    /* on the socket meant for a new process: int64_t errno; there is no process */
    SNAPSERV_INTERRUPT = 7, /* server to a live cell: uint64_t number of the request to stop */
    SNAPSERV_FROZE = 8,     /* cell to server: the answer to "freeze": int64_t nanoseconds of the clone */
};

struct snapserv_hello {
    int64_t pid;
    int64_t clone_ns; /* from before the clone until the child ran */
};

/* Descriptors of the caller that its clone is to close: what it has got ready for itself, for after the clone. */
struct snapserv_spares {
    int first;
    int count;
};

/* Clone the caller into a frozen sibling that listens on `child_control`, which is closed in the caller. The caller
 * answers the server here, on `control`: Python's first steps after a clone touch a hundred pages and copy each of
 * them, and the server need not wait for that.
 * `begun`, unless NULL, is called in the sibling before the server hears of it.
 * Returns 1 in the caller, with the time that the clone took in *clone_ns; 0 in a branch thawed from the sibling, with
 * its socket in *thawed; -1 with errno, and `child_control` closed. */
int snapserv_freeze(int control, int child_control, struct snapserv_spares spares, void (*begun)(void), int *thawed,
                    int64_t *clone_ns);

/* Tell the server on `control` which process this is. Returns -1 where the server is gone. */
int snapserv_say_hello(int control, int64_t clone_ns);

/* Be frozen: answer clone commands on `control`, and where that is closed, of the next server (see orphan.h); exit
 * where there is none. Returns only in a branch: its control socket. */
int snapserv_stay_frozen(int control);

/* Give every regular file above stderr an open file description of its own, at the present offset.
 * Returns how many could not be reopened and stay shared. */
int snapserv_reopen_files(void);

/* How many threads this process has, or -1 with errno. */
int snapserv_count_threads(void);

#endif
