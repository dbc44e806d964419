#include "huge_tmpfs.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "processes/clone.h"

/* linux/mount.h, which not every distribution's headers have. */
enum { FSCONFIG_SET_STRING_ = 1, FSCONFIG_CMD_CREATE_ = 6 };
enum { FSOPEN_CLOEXEC_ = 1, FSMOUNT_CLOEXEC_ = 1 };

enum step { FSOPEN, HUGE, SIZE, CREATE, FSMOUNT, TMPFILE, TRUNCATE, NAMESPACE, PASS };
static const char *const STEPS[] = {"fsopen", "huge=always", "size", "create", "fsmount",
                                    "O_TMPFILE", "ftruncate", "user namespace", "passing the descriptor"};

/* What the child needs, written before it is cloned: it makes system calls and nothing else. */
struct request {
    uint64_t size;
    char limit[32], user_map[64], group_map[64];
};

/* See fsopen(2), tmpfs(5). */
static int open_in_this_namespace(const struct request *request, enum step *step)
{
    int mount = -1, file = -1, error;
    int context = syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC_);

    *step = FSOPEN;
    if (context < 0)
        return -1;
    *step = HUGE;
    if (syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING_, "huge", "always", 0) < 0)
        goto out;
    *step = SIZE;
    if (syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING_, "size", request->limit, 0) < 0)
        goto out;
    *step = CREATE;
    if (syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE_, NULL, NULL, 0) < 0)
        goto out;
    *step = FSMOUNT;
    mount = syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC_, 0);
    if (mount < 0)
        goto out;
    *step = TMPFILE;
    file = openat(mount, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (file < 0)
        goto out;
    *step = TRUNCATE;
    if (ftruncate(file, (off_t)request->size) < 0) {
        error = errno;
        close(file);
        file = -1;
        errno = error;
    }
out:
    error = errno;
    if (mount >= 0)
        close(mount);
    close(context);
    errno = error;
    return file;
}

static int write_whole(const char *path, const char *text)
{
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0)
        return -1;
    ssize_t wrote = write(file, text, strlen(text));
    close(file);
    return wrote == (ssize_t)strlen(text) ? 0 : -1;
}

/* In the child: become root of a namespace of one user (user_namespaces(7)). */
static int enter_namespace(const struct request *request)
{
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
        return -1;
    if (write_whole("/proc/self/setgroups", "deny") < 0 && errno != ENOENT)
        return -1;
    if (write_whole("/proc/self/uid_map", request->user_map) < 0)
        return -1;
    return write_whole("/proc/self/gid_map", request->group_map);
}

struct outcome {
    int error;
    enum step step;
};

static int pass(int to, int descriptor, struct outcome outcome)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))];
    } ancillary;
    struct iovec part = {&outcome, sizeof outcome};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (descriptor >= 0) {
        memset(&ancillary, 0, sizeof ancillary);
        message.msg_control = ancillary.room;
        message.msg_controllen = sizeof ancillary.room;
        struct cmsghdr *attached = CMSG_FIRSTHDR(&message);
        attached->cmsg_level = SOL_SOCKET;
        attached->cmsg_type = SCM_RIGHTS;
        attached->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(attached), &descriptor, sizeof descriptor);
    }
    return sendmsg(to, &message, MSG_NOSIGNAL) == sizeof outcome ? 0 : -1;
}

static int take(int from, struct outcome *outcome)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))];
    } ancillary;
    struct iovec part = {outcome, sizeof *outcome};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = ancillary.room, .msg_controllen = sizeof ancillary.room};
    ssize_t got;
    int descriptor = -1;
    do
        got = recvmsg(from, &message, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got != sizeof *outcome) {
        *outcome = (struct outcome){EPIPE, PASS};
        return -1;
    }
    struct cmsghdr *attached = CMSG_FIRSTHDR(&message);
    if (attached != NULL && attached->cmsg_type == SCM_RIGHTS)
        memcpy(&descriptor, CMSG_DATA(attached), sizeof descriptor);
    else if (outcome->error == 0) /* it was sent, and there was no room for it here (MSG_CTRUNC, unix(7)) */
        *outcome = (struct outcome){EMFILE, PASS};
    return descriptor;
}

static int open_in_user_namespace(const struct request *request, enum step *step)
{
    int pair[2], file;
    struct outcome outcome = {0, NAMESPACE};
    sigset_t all, before;

    *step = NAMESPACE;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    /* The child must not run the handlers of its parent: Python's write to a pipe that the two share. */
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid_t child = snapserv_clone_child();
    if (child == 0) {
        if (enter_namespace(request) < 0) {
            outcome.error = errno;
            file = -1;
        } else {
            file = open_in_this_namespace(request, &outcome.step);
            outcome.error = file < 0 ? errno : 0;
        }
        _exit(pass(pair[1], file, outcome) < 0);
    }
    int error = errno;
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(pair[1]);
    if (child < 0) {
        close(pair[0]);
        errno = error;
        return -1;
    }
    file = take(pair[0], &outcome);
    close(pair[0]);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        ;
    *step = outcome.step;
    errno = outcome.error;
    return file;
}

int snapserv_open_huge_tmpfs(uint64_t size, const char **refused)
{
    const uint64_t huge_page = 2u << 20;
    struct request request = {.size = size};
    enum step step;

    /* Sized for its one file, rounded up to whole huge pages: whoever fills it gets ENOSPC from fallocate and
     * never a SIGBUS. */
    snprintf(request.limit, sizeof request.limit, "%llu",
             (unsigned long long)((size + huge_page - 1) & ~(huge_page - 1)));
    snprintf(request.user_map, sizeof request.user_map, "%u %u 1", geteuid(), geteuid());
    snprintf(request.group_map, sizeof request.group_map, "%u %u 1", getegid(), getegid());
    int file = open_in_this_namespace(&request, &step);
    if (file < 0 && (errno == EPERM || errno == EACCES))
        file = open_in_user_namespace(&request, &step);
    *refused = file < 0 ? STEPS[step] : "";
    return file;
}
