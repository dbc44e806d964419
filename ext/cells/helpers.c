#include "helpers.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "processes/clone.h"

/* A descriptor, and what it was when it was told: a simulation may have closed it, and have the number for a file of
 * its own. */
struct kept {
    int descriptor;
    dev_t device;
    ino_t inode;
};

static struct kept ledger = {.descriptor = -1}, control = {.descriptor = -1}, lease = {.descriptor = -1};
static struct kept own = {.descriptor = -1};
static int registered;

static int keep(struct kept *kept, int descriptor)
{
    struct stat status;
    if (fstat(descriptor, &status) < 0)
        return -1;
    *kept = (struct kept){descriptor, status.st_dev, status.st_ino};
    return 0;
}

static int is_still_there(const struct kept *kept)
{
    struct stat status;
    return kept->descriptor >= 0 && fstat(kept->descriptor, &status) == 0 && status.st_dev == kept->device &&
           status.st_ino == kept->inode;
}

static void let_go(const struct kept *kept)
{
    if (!is_still_there(kept))
        return;
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (nothing < 0) {
        close(kept->descriptor);
        return;
    }
    dup3(nothing, kept->descriptor, O_CLOEXEC);
    close(nothing);
}

/* In the child of a fork(3). Clones of ours do not come by here: they are made by a system call of its own, or say so.
 * What is executed does not either: all of them are closed then. */
static void in_child(void)
{
    if (snapserv_cloning())
        return;
    let_go(&ledger);
    let_go(&control);
    let_go(&own);
    let_go(&lease);
    prctl(PR_SET_NAME, "snap-helper", 0, 0, 0);
}

void snapserv_answer_for_children(void)
{
    const char *refused;
    setpgid(0, 0);
    if (snapserv_fork_mode(&refused) == SNAPSERV_CLONE3)
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}

int snapserv_prefer(int score)
{
    int adjustment = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (adjustment < 0)
        return -1;
    char text[16];
    int size = snprintf(text, sizeof text, "%d", score);
    ssize_t written = write(adjustment, text, size);
    int error = errno;
    close(adjustment);
    errno = error;
    return written < 0 ? -1 : 0;
}

int snapserv_control_is(int descriptor)
{
    return keep(&control, descriptor);
}

int snapserv_keep_from_clones(int descriptor)
{
    return keep(&own, descriptor);
}

void snapserv_close_in_clone(void)
{
    if (is_still_there(&own))
        close(own.descriptor);
    own.descriptor = -1;
}

int snapserv_lease_is(int descriptor)
{
    if (descriptor < 0) {
        lease.descriptor = -1;
        return 0;
    }
    return keep(&lease, descriptor);
}

int snapserv_keep_from_children(int descriptor)
{
    if (keep(&ledger, descriptor) < 0)
        return -1;
    if (!registered && pthread_atfork(NULL, NULL, in_child) != 0)
        return -1;
    registered = 1;
    return 0;
}
