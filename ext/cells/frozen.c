#include "frozen.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "helpers.h"
#include "images/script.h"
#include "processes/messages.h"
#include "orphan.h"
#include "processes/clone.h"
#include "record.h"
#include "reopening.h"

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

static void say_hello(int control, int64_t cloning_since_ns)
{
    if (snapserv_say_hello(control, snapserv_now_ns() - cloning_since_ns) < 0)
        _exit(0); /* the server is gone, and no other knows of this process */
}

static void say_failed(int control, int error, int descriptor)
{
    struct snapserv_failure failure = {.error = error, .descriptor = descriptor};
    snapserv_send(control, SNAPSERV_FAILED, &failure, sizeof failure);
}

/* In a clone: have offsets of its own, or end. A clone that shares one would move it for others, without a word. */
static void reopen_or_fail(int control)
{
    int descriptor;
    if (snapserv_reopen_files(&descriptor) == 0)
        return;
    say_failed(control, errno, descriptor);
    _exit(1);
}

/* What a frozen process is asked, and the descriptors that came along, or -1. */
struct command {
    uint32_t kind;
    int descriptors[2];
    union {
        struct snapserv_becoming becoming;
        struct snapserv_settlement settlement;
    } with;
};

static void take_along(struct msghdr *message, struct command *into)
{
    struct cmsghdr *attached = CMSG_FIRSTHDR(message);
    into->descriptors[0] = into->descriptors[1] = -1;
    if (attached != NULL && attached->cmsg_type == SCM_RIGHTS)
        memcpy(into->descriptors, CMSG_DATA(attached), attached->cmsg_len - CMSG_LEN(0));
}

static void let_go(const struct command *command)
{
    for (int i = 0; i < 2; i++)
        if (command->descriptors[i] >= 0)
            close(command->descriptors[i]);
}

/* Wait for a command. Returns -1 when the server hung up. */
static int next_command(int control, struct command *into)
{
    struct snapserv_prefix prefix;
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(2 * sizeof(int))];
    } ancillary;
    struct iovec part = {&prefix, sizeof prefix};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = ancillary.room, .msg_controllen = sizeof ancillary.room};
    ssize_t got;
    do
        got = recvmsg(control, &message, MSG_CMSG_CLOEXEC | MSG_WAITALL);
    while (got < 0 && errno == EINTR);
    if (got != sizeof prefix)
        return -1;
    into->kind = prefix.kind;
    take_along(&message, into);
    if (prefix.payload_bytes > sizeof into->with)
        return -1;
    if (prefix.payload_bytes == 0)
        return 0;
    do
        got = recv(control, &into->with, prefix.payload_bytes, MSG_WAITALL);
    while (got < 0 && errno == EINTR);
    return got == (ssize_t)prefix.payload_bytes ? 0 : -1;
}

/* In a clone, which is nobody yet: become what the script says. */
__attribute__((noreturn)) static void become(const struct command *command)
{
    int control = fcntl(command->descriptors[0], F_DUPFD_CLOEXEC, (int)command->with.becoming.above);
    int script = fcntl(command->descriptors[1], F_DUPFD_CLOEXEC, (int)command->with.becoming.above);
    if (control < 0 || script < 0) {
        say_failed(command->descriptors[0], errno, -1);
        _exit(1);
    }
    let_go(command);
    setpgid(0, 0);
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    snapserv_run_script(script, control, 0);
}

/* In a clone: be a branch. */
static void begin(int control, int branch_control, int64_t since)
{
    /* 1. Let go of the snapshot's socket, so that its end is seen when the snapshot ends. */
    close(control);
    /* 2. Own file offsets, so that the branch does not move the snapshot's. */
    reopen_or_fail(branch_control);
    prctl(PR_SET_NAME, "snap-branch", 0, 0, 0);
    snapserv_answer_for_children();
    snapserv_let_read();
    /* 3. Tell the server who is there; from here on the caller runs Python. */
    say_hello(branch_control, since);
}

static void describe(int control, const struct snapserv_registers *registers)
{
    struct snapserv_record record;
    snapserv_write_record(registers, control, &record);
    snapserv_send(control, SNAPSERV_RECORD, &record, sizeof record);
}

int snapserv_stay_frozen(int control)
{
    struct snapserv_registers registers;
    struct command command;
    prctl(PR_SET_NAME, "snap-frozen", 0, 0, 0);
    for (;;) {
        /* Where it goes on that is brought back from an image of this process: `control` is then another socket of the
         * same number, and what brought it back is still mapped. */
        if (snapserv_save_registers(&registers) != 0) {
            munmap((void *)SNAPSERV_HOME, SNAPSERV_HOME_END - SNAPSERV_HOME);
            say_hello(control, snapserv_now_ns());
            continue;
        }
        if (next_command(control, &command) < 0) {
            close(control);
            control = snapserv_find_server();
            if (control < 0)
                _exit(0);
            continue;
        }
        if (command.kind == SNAPSERV_DESCRIBE)
            describe(control, &registers);
        if (command.kind == SNAPSERV_SETTLE)
            snapserv_orphan_settle(command.with.settlement.adoption, command.with.settlement.grace_ns);
        if ((command.kind == SNAPSERV_CLONE && command.descriptors[0] >= 0) ||
            (command.kind == SNAPSERV_BECOME && command.descriptors[1] >= 0)) {
            int64_t since = snapserv_now_ns();
            pid_t made = snapserv_clone_sibling();
            if (made == 0 && command.kind == SNAPSERV_BECOME) {
                close(control);
                become(&command);
            }
            if (made == 0) {
                begin(control, command.descriptors[0], since);
                return command.descriptors[0];
            }
            if (made < 0)
                say_failed(command.descriptors[0], errno, -1);
        }
        let_go(&command);
    }
}

int snapserv_freeze(int control, int child_control, struct snapserv_spares spares, void (*begun)(void), int *thawed,
                    int64_t *clone_ns)
{
    int64_t since = snapserv_now_ns();
    pid_t made = snapserv_clone_sibling();
    if (made != 0) {
        int error = errno;
        *clone_ns = snapserv_now_ns() - since;
        /* The snapshot says hello first, where both were given one processor: the server waits for both. */
        sched_yield();
        if (made > 0)
            snapserv_send(control, SNAPSERV_FROZE, clone_ns, sizeof *clone_ns);
        else
            say_failed(child_control, error, -1);
        close(child_control);
        errno = error;
        return made < 0 ? -1 : 1;
    }
    /* In the child, in this order:
     * 1. Let go of the parent's socket first: while a copy is open, the parent's death would not be seen. */
    close(control);
    snapserv_close_in_clone();
    /* And of what it has got ready for itself. Where the kernel has no such call, they stay open and unused. */
    if (spares.count > 0)
        syscall(SYS_close_range, spares.first, spares.first + spares.count - 1, 0);
    /* Out of the parent's process group: a simulation that signals its own means its helpers. */
    setpgid(0, 0);
    /* 2. Own file offsets before anybody can move them: the parent goes on as soon as it is scheduled. */
    reopen_or_fail(child_control);
    if (begun != NULL)
        begun();
    else
        snapserv_let_read();
    /* 3. Only now is this the instant of the snapshot, whole: tell the server. */
    say_hello(child_control, since);
    /* 4. Block in C. What returns from here is a branch, in a process of its own. */
    *thawed = snapserv_stay_frozen(child_control);
    return 0;
}

int snapserv_count_threads(void)
{
    /* Refused to all but the only thread of a process, and of no effect for that one (unshare(2)); where it is refused
     * for another reason, as in a sandbox, the folder still tells. */
    if (unshare(CLONE_THREAD) == 0)
        return 1;
    /* The folder has a link for itself, one for its parent's entry and one for each thread (proc(5)). */
    struct stat status;
    if (stat("/proc/self/task", &status) < 0)
        return -1;
    return (int)status.st_nlink - 2;
}
