/* What the kernel holds for a frozen process and tells nobody else: told by itself, for an image of it. */
#ifndef SNAPSERV_RECORD_H
#define SNAPSERV_RECORD_H

#include <stddef.h>
#include <stdint.h>

#include "images/registers.h"

enum { SNAPSERV_RECORD_SIGNALS = 65, SNAPSERV_RECORD_LIMITS = 16 };

/* `snapserv.images.record` reads it: change both, and CELLS there. */
struct snapserv_record {
    uint64_t registers; /* where they lie */
    uint64_t resume;    /* 0: no image can be brought back on this architecture */
    uint64_t fs, gs;
    uint64_t tid_address;
    uint64_t robust_list, robust_size;
    uint64_t rseq; /* 0: not registered */
    uint32_t rseq_size, rseq_signature;
    uint64_t brk;
    uint64_t blocked; /* signals */
    uint64_t alternate_stack, alternate_size;
    uint32_t alternate_flags, umask;
    int32_t control, ledger; /* descriptors */
    int32_t nice;
    uint32_t personality;
    uint32_t interval_timers; /* bits: which run */
    uint32_t is_subreaper;
    uint64_t timer_slack;
    uint64_t note, note_size; /* bytes in its memory that say more of it */
    uint64_t limits[SNAPSERV_RECORD_LIMITS][2];
    uint64_t actions[SNAPSERV_RECORD_SIGNALS][4]; /* as rt_sigaction(2) has them; none of number 0 */
};

/* Have the record say where there are bytes that are to be read besides: they stay there until there are others. */
void snapserv_put_note(const void *bytes, size_t size);

/* Fill it in for this process, which will go on from `registers`. */
void snapserv_write_record(const struct snapserv_registers *registers, int control, struct snapserv_record *into);

#endif
