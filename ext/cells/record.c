#include "record.h"

#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#ifdef __x86_64__
#include <asm/prctl.h>
#endif

#include "orphan.h"

#ifndef PR_GET_TID_ADDRESS
#define PR_GET_TID_ADDRESS 40
#endif

static const void *note;
static size_t note_size;

void snapserv_put_note(const void *bytes, size_t size)
{
    note = bytes;
    note_size = size;
}

static void write_thread(struct snapserv_record *into)
{
#ifdef __x86_64__
    syscall(SYS_arch_prctl, ARCH_GET_FS, &into->fs);
    syscall(SYS_arch_prctl, ARCH_GET_GS, &into->gs);
#endif
    prctl(PR_GET_TID_ADDRESS, &into->tid_address, 0, 0, 0);
    syscall(SYS_get_robust_list, 0, &into->robust_list, &into->robust_size);
    if (__rseq_size > 0) {
        into->rseq = into->fs + __rseq_offset;
        into->rseq_size = 32; /* as glibc registers it, whatever of it it uses */
        into->rseq_signature = RSEQ_SIG;
    }
}

static void write_signals(struct snapserv_record *into)
{
    stack_t alternate;
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &into->blocked, sizeof into->blocked);
    sigaltstack(NULL, &alternate);
    into->alternate_stack = (uintptr_t)alternate.ss_sp;
    into->alternate_size = alternate.ss_size;
    into->alternate_flags = alternate.ss_flags;
    for (int number = 1; number < SNAPSERV_RECORD_SIGNALS; number++)
        syscall(SYS_rt_sigaction, number, NULL, into->actions[number], sizeof into->blocked);
}

static void write_timers(struct snapserv_record *into)
{
    static const int which[] = {ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF};
    struct itimerval timer;
    for (unsigned i = 0; i < sizeof which / sizeof *which; i++)
        if (getitimer(which[i], &timer) == 0 && (timer.it_value.tv_sec || timer.it_value.tv_usec))
            into->interval_timers |= 1u << i;
}

void snapserv_write_record(const struct snapserv_registers *registers, int control, struct snapserv_record *into)
{
    int is_subreaper = 0;
    memset(into, 0, sizeof *into);
    into->registers = (uintptr_t)registers;
    into->resume = registers->resume;
    into->control = control;
    into->ledger = snapserv_ledger();
    into->brk = syscall(SYS_brk, 0);
    into->umask = umask(0);
    umask(into->umask);
    into->nice = getpriority(PRIO_PROCESS, 0);
    into->personality = syscall(SYS_personality, 0xffffffff); /* which asks and changes nothing */
    into->note = (uintptr_t)note;
    into->note_size = note_size;
    into->timer_slack = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
    prctl(PR_GET_CHILD_SUBREAPER, &is_subreaper, 0, 0, 0);
    into->is_subreaper = is_subreaper;
    for (int i = 0; i < SNAPSERV_RECORD_LIMITS; i++)
        syscall(SYS_prlimit64, 0, i, NULL, into->limits[i]);
    write_thread(into);
    write_signals(into);
    write_timers(into);
}
