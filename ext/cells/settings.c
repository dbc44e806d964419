#include "settings.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __x86_64__
#include <asm/prctl.h>
#endif

#ifndef PR_GET_MDWE
#define PR_GET_MDWE 66
#endif

ssize_t snapserv_read_small(const char *path, char *into, size_t size)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return -1;
    ssize_t got = read(descriptor, into, size - 1);
    close(descriptor);
    into[got > 0 ? got : 0] = '\0';
    return got;
}

/* The lines of /proc/self/status that tell what a simulator may have changed: signals, masks, threads, rights. */
static int read_status(char *into)
{
    static const char *const told[] = {"Umask:",  "Uid:",    "Gid:",    "Groups:", "Threads:", "SigPnd:",
                                       "ShdPnd:", "SigBlk:", "SigIgn:", "SigCgt:", "Cap",      "NoNewPrivs:",
                                       "Seccomp", "VmLck:",  "NSpgid:", "NSsid:",  "Cpus_allowed:"};
    char text[SNAPSERV_STATUS];
    size_t used = 0;
    ssize_t got = snapserv_read_small("/proc/self/status", text, sizeof text);
    /* Cut short, lines would be missing; what a shadow stack holds cannot be put back. */
    if (got <= 0 || got == sizeof text - 1 || strstr(text, "shstk") != NULL)
        return -1;
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1)
        for (size_t i = 0; i < sizeof told / sizeof *told; i++)
            if (strncmp(line, told[i], strlen(told[i])) == 0) {
                memcpy(into + used, line, end + 1 - line);
                used += end + 1 - line;
                break;
            }
    into[used] = '\0';
    return 0;
}

static int64_t *read_place(int64_t *into, const char *path)
{
    struct stat status = {0};
    stat(path, &status);
    *into++ = status.st_dev;
    *into++ = status.st_ino;
    return into;
}

/* What this kernel does not have is told as the same error each time. */
static void read_values(int64_t *into)
{
    static const int returned[] = {PR_GET_DUMPABLE,   PR_GET_KEEPCAPS,    PR_GET_SECUREBITS,
                                   PR_GET_TIMERSLACK, PR_GET_THP_DISABLE, PR_GET_MDWE};
    static const int stored[] = {PR_GET_PDEATHSIG, PR_GET_CHILD_SUBREAPER, PR_GET_TSC};
    static const char *const places[] = {"/",
                                         ".",
                                         "/proc/self/ns/cgroup",
                                         "/proc/self/ns/ipc",
                                         "/proc/self/ns/mnt",
                                         "/proc/self/ns/net",
                                         "/proc/self/ns/pid_for_children",
                                         "/proc/self/ns/time_for_children",
                                         "/proc/self/ns/user",
                                         "/proc/self/ns/uts"};
    for (size_t i = 0; i < sizeof returned / sizeof *returned; i++)
        *into++ = prctl(returned[i], 0, 0, 0, 0);
    for (size_t i = 0; i < sizeof stored / sizeof *stored; i++) {
        int value = 0;
        prctl(stored[i], &value, 0, 0, 0);
        *into++ = value;
    }
    prctl(PR_GET_NAME, into, 0, 0, 0); /* 16 bytes */
    into += 2;
    *into++ = syscall(SYS_personality, 0xffffffff); /* which asks and changes nothing */
    *into++ = getpriority(PRIO_PROCESS, 0);
    *into++ = syscall(SYS_sched_getscheduler, 0);
    *into++ = syscall(SYS_ioprio_get, 1 /* a process */, 0);
    int mode = 0;
    syscall(SYS_get_mempolicy, &mode, into, 1024 /* nodes */, NULL, 0);
    into += 1024 / 64;
    *into++ = mode;
#ifdef __x86_64__
    syscall(SYS_arch_prctl, ARCH_GET_FS, into++);
    syscall(SYS_arch_prctl, ARCH_GET_GS, into++);
    *into++ = syscall(SYS_arch_prctl, ARCH_GET_CPUID, 0);
#endif
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        into = read_place(into, places[i]);
}

static int read_limits(struct rlimit *into)
{
    for (int which = 0; which < RLIM_NLIMITS; which++)
        if (getrlimit(which, &into[which]) < 0)
            return -1;
    return 0;
}

int snapserv_read_settings(struct snapserv_settings *into)
{
    memset(into, 0, sizeof *into);
    if (read_status(into->status) < 0 || getcwd(into->folder, sizeof into->folder) == NULL ||
        read_limits(into->limits) < 0)
        return -1;
    /* Not by sigaction(3): what it fills in is not all set. */
    for (int number = 1; number < SNAPSERV_SIGNALS; number++)
        syscall(SYS_rt_sigaction, number, NULL, into->actions[number], sizeof(uint64_t));
    sigaltstack(NULL, &into->alternate);
    read_values(into->values);
    return 0;
}

const char *snapserv_compare_settings(const struct snapserv_settings *now, const struct snapserv_settings *marked)
{
    if (strcmp(now->status, marked->status) != 0)
        return "signals, threads or rights have changed";
    if (memcmp(now->actions, marked->actions, sizeof now->actions) != 0 ||
        memcmp(&now->alternate, &marked->alternate, sizeof now->alternate) != 0)
        return "signals are handled otherwise";
    if (memcmp(now->limits, marked->limits, sizeof now->limits) != 0)
        return "limits have changed";
    if (strcmp(now->folder, marked->folder) != 0)
        return "the working folder has changed";
    if (memcmp(now->values, marked->values, sizeof now->values) != 0)
        return "what prctl(2) sets, scheduling or a namespace has changed";
    return NULL;
}

const char *snapserv_runs_on_its_own(void)
{
    static const int which[] = {ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF};
    struct itimerval timer;
    char timers[8];
    siginfo_t found;
    for (size_t i = 0; i < sizeof which / sizeof *which; i++)
        if (getitimer(which[i], &timer) < 0 || timer.it_value.tv_sec || timer.it_value.tv_usec)
            return "a timer runs";
    if (snapserv_read_small("/proc/self/timers", timers, sizeof timers) != 0)
        return "a timer was made, or would not be seen";
    /* __WALL: also a child that tells of its end by no signal. */
    if (waitid(P_ALL, 0, &found, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0 || errno != ECHILD)
        return "a process of its own runs";
    return NULL;
}
