#include "clone.h"

#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef PR_GET_TID_ADDRESS
#define PR_GET_TID_ADDRESS 40
#endif

/* glibc keeps the thread's id in its control block, and `raise` and `abort` send their signal to that id. fork()
 * refreshes it in the child; a raw clone must ask the kernel to, at the address that glibc registered with
 * set_tid_address(2) at start-up. The kernel tells that address only with CONFIG_CHECKPOINT_RESTORE. */
static int *tid_address(void)
{
    int *address = NULL;
    return prctl(PR_GET_TID_ADDRESS, &address, 0, 0, 0) == 0 ? address : NULL;
}

enum snapserv_fork_mode snapserv_fork_mode(const char **refused)
{
    /* A null argument is EINVAL or EFAULT where the call exists, ENOSYS or EPERM where a filter or an old
     * kernel refuses it. */
    if (syscall(SYS_clone3, NULL, 0) == -1 && (errno == ENOSYS || errno == EPERM)) {
        *refused = "clone3";
        return SNAPSERV_FORK;
    }
    if (tid_address() == NULL) {
        *refused = "PR_GET_TID_ADDRESS";
        return SNAPSERV_FORK;
    }
    *refused = "";
    return SNAPSERV_CLONE3;
}

static pid_t raw_clone(uint64_t flags, uint64_t exit_signal)
{
    int *tid = tid_address();
    void *robust_list = NULL;
    size_t robust_size = 0;
    struct clone_args arguments;

    memset(&arguments, 0, sizeof arguments);
    arguments.flags = flags | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
    arguments.child_tid = (uint64_t)(uintptr_t)tid;
    arguments.exit_signal = exit_signal;
    /* The kernel forgets the robust futex list of a new process; fork() would register it again. */
    syscall(SYS_get_robust_list, 0, &robust_list, &robust_size);
    long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
    if (pid == 0 && robust_list != NULL)
        syscall(SYS_set_robust_list, robust_list, robust_size);
    return (pid_t)pid;
}

static int cloning;

int snapserv_cloning(void)
{
    return cloning;
}

static pid_t own_fork(void)
{
    cloning = 1;
    pid_t pid = fork();
    cloning = 0;
    return pid;
}

pid_t snapserv_clone_child(void)
{
    const char *refused;
    return snapserv_fork_mode(&refused) == SNAPSERV_CLONE3 ? raw_clone(0, SIGCHLD) : own_fork();
}

static pid_t fork_twice(void)
{
    pid_t middle = own_fork();
    if (middle != 0) {
        int status = 0;
        if (middle < 0)
            return -1;
        while (waitpid(middle, &status, 0) < 0 && errno == EINTR)
            ;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
            return middle;
        errno = WIFEXITED(status) ? WEXITSTATUS(status) : ECANCELED;
        return -1;
    }
    pid_t self = getpid();
    pid_t child = own_fork();
    if (child != 0)
        _exit(child > 0 ? 0 : errno);
    /* Not before it is the server's child may it say that it is there: the server would not be told of its end. */
    while (getppid() == self)
        sched_yield();
    return 0;
}

pid_t snapserv_clone_sibling(void)
{
    const char *refused;
    if (snapserv_fork_mode(&refused) == SNAPSERV_FORK)
        return fork_twice();
    /* With CLONE_PARENT the exit signal is the caller's own (clone(2)): SIGCHLD, as the server spawned it. */
    return raw_clone(CLONE_PARENT, 0);
}
