/* Where a process goes on that is brought back from an image of itself. */
#ifndef SNAPSERV_REGISTERS_H
#define SNAPSERV_REGISTERS_H

#include <stdint.h>

/* What a call keeps, by the System V ABI: all else is dead at one. An image is entered at `resume`, with the address of
 * this structure as its first argument (see images/script.c). */
struct snapserv_registers {
    uint64_t rbx, rbp, r12, r13, r14, r15;
    uint64_t rsp, rip; /* as they are when the function has returned */
    uint32_t mxcsr;
    uint16_t x87;
    uint16_t unused;
    uint64_t resume;
};

/* Save them. Like setjmp(3): returns 0 now, and 1 in a process that was brought back. They must lie where the caller's
 * frame, or longer-lived memory, keeps them. Where this is not built for the architecture: 0, and `resume` is 0. */
int snapserv_save_registers(struct snapserv_registers *into) __attribute__((returns_twice));

#endif
