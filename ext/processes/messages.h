/* What the server and its cells say to each other: the prefix of every message, and those that are sent from C. */
#ifndef SNAPSERV_MESSAGES_H
#define SNAPSERV_MESSAGES_H

#include <stddef.h>
#include <stdint.h>

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
    SNAPSERV_FAILED = 6,    /* on the socket meant for a new process: struct snapserv_failure; there is no process */
    SNAPSERV_INTERRUPT = 7, /* server to a live cell: uint64_t number of the request to stop */
    SNAPSERV_FROZE = 8,     /* cell to server: the answer to "freeze": int64_t nanoseconds of the clone */
    SNAPSERV_DESCRIBE = 9,  /* server to a frozen cell: prefix only */
    SNAPSERV_RECORD = 10,   /* its answer: struct snapserv_record, see record.h */
    SNAPSERV_BECOME = 11,   /* server to a frozen cell: struct snapserv_becoming, with a socket and a script attached */
    SNAPSERV_SETTLE = 12,   /* server to a frozen cell: struct snapserv_settlement */
};

/* A clone is to become what a script says, and answers on the socket that came along. */
struct snapserv_becoming {
    uint64_t above; /* the descriptors that came along must be out of the script's way: at least this */
};

/* A cell of another server is this one's from now on, and where this one is killed waits for the next one there. */
struct snapserv_settlement {
    int64_t grace_ns;
    char adoption[108];
};

struct snapserv_hello {
    int64_t pid;
    int64_t clone_ns; /* from before the clone until the child ran */
};

struct snapserv_failure {
    int64_t error;      /* an errno */
    int64_t descriptor; /* the one that could not be given an offset of its own; -1 where no process could be made */
};

/* The clock of all times that are told, in nanoseconds. */
int64_t snapserv_now_ns(void);

/* Send one small message whole, without a header. The socket's buffer is empty when this is called, so it never blocks
 * long. Returns -1 where the server is gone. */
int snapserv_send(int control, enum snapserv_kind kind, const void *payload, size_t size);

/* Tell the server on `control` which process this is. Returns -1 where the server is gone. */
int snapserv_say_hello(int control, int64_t clone_ns);

#endif
