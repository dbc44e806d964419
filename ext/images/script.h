/* How a process is made what an image says: a list of system calls, written by `snapserv.images.script` and run where
 * nothing else lies. It depends on nothing: no C library, no thread-local storage, no memory but its own. */
#ifndef SNAPSERV_SCRIPT_H
#define SNAPSERV_SCRIPT_H

#include <stdint.h>

/* All that is the script's own lies in these, where neither the kernel nor a C library puts anything by itself. */
#define SNAPSERV_HOME 0x100000000000ull      /* the loader's program, in a process that begins with it */
#define SNAPSERV_SCRIPT_AT 0x100100000000ull /* the script */
#define SNAPSERV_STACK_AT 0x100200000000ull  /* a stack to run it on */
#define SNAPSERV_HOME_END 0x110000000000ull
enum { SNAPSERV_STACK_SIZE = 1 << 16, SNAPSERV_SLOTS = 16 };

enum snapserv_slot {
    SNAPSERV_SLOT_SCRIPT = 0,  /* the script's descriptor */
    SNAPSERV_SLOT_CONTROL = 1, /* the descriptor of the new process's control socket */
    SNAPSERV_SLOT_VDSO = 2,    /* where the kernel has put its code; 0 in a process that was made already */
    SNAPSERV_FIRST_FREE_SLOT = 3,
};

enum snapserv_check {
    SNAPSERV_MUST_SUCCEED = 0,
    SNAPSERV_MAY_FAIL = 1,
    SNAPSERV_MUST_EQUAL = 2, /* `expected` */
};

/* What an argument is added to. */
enum { SNAPSERV_NOTHING = 0, SNAPSERV_THE_SCRIPT = 1, SNAPSERV_A_SLOT = 2 /* and its number */ };

/* Instead of a system call: write the second argument, 32 bits, to the address that the first one is. */
enum { SNAPSERV_POKE = 0xffff };

struct snapserv_operation {
    uint16_t call; /* its number, or SNAPSERV_POKE */
    uint8_t check, into; /* `into`: the slot that takes the result, or 255 */
    uint8_t added[6];
    uint8_t unused[6];
    uint64_t arguments[6];
    int64_t expected;
};

struct snapserv_script {
    uint64_t magic;
    uint64_t mapped;    /* how many bytes of it are mapped: operations, and what they point to */
    uint64_t registers; /* where the process goes on; 0: it ends instead, having done all */
    uint64_t count;
    struct snapserv_operation operations[];
};
#define SNAPSERV_SCRIPT_MAGIC 0x31747069726373ull /* "script1" */

/* Run the script that `script` is open for, in this process, which has blocked all signals, and leave for what it has
 * made. `control` hears what fails: SNAPSERV_FAILED with the number of the operation. Never returns. */
void snapserv_run_script(int script, int control, uint64_t vdso) __attribute__((noreturn));

#endif
