#include "orphan.h"

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "processes/messages.h"

#ifndef PR_SET_PTRACER
#define PR_SET_PTRACER 0x59616d61
#endif

/* The pause between two tries doubles from the first to the second of these: thousands may wait. */
enum { PAUSE_MS = 20, LONGEST_PAUSE_MS = 320 };

static struct {
    struct sockaddr_un address;
    int64_t grace_ns;
    int ledger;
    pid_t pid; /* once there is one, which is no ancestor of this process; 0 before */
} next_server = {.ledger = -1};

int snapserv_orphan_configure(const char *path, int64_t grace_ns, int ledger)
{
    if (strlen(path) >= sizeof next_server.address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    next_server.address.sun_family = AF_UNIX;
    strcpy(next_server.address.sun_path, path);
    next_server.grace_ns = grace_ns;
    next_server.ledger = ledger;
    return 0;
}

int snapserv_orphan_settle(const char *path, int64_t grace_ns)
{
    next_server.pid = 0;
    return snapserv_orphan_configure(path, grace_ns, next_server.ledger);
}

int snapserv_ledger(void)
{
    return next_server.ledger;
}

void snapserv_let_read(void)
{
    if (next_server.pid > 0)
        prctl(PR_SET_PTRACER, (unsigned long)next_server.pid, 0, 0, 0);
}

int snapserv_try_server(int64_t waited_ns)
{
    if (next_server.address.sun_path[0] == '\0' || waited_ns >= next_server.grace_ns)
        return SNAPSERV_NEVER;
    int control = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (control < 0)
        return -1;
    if (connect(control, (struct sockaddr *)&next_server.address, sizeof next_server.address) < 0) {
        int gone = errno == ENOENT || errno == ENOTDIR;
        close(control);
        return gone ? SNAPSERV_NEVER : -1;
    }
    struct ucred server;
    socklen_t size = sizeof server;
    if (getsockopt(control, SOL_SOCKET, SO_PEERCRED, &server, &size) < 0 ||
        (server.uid != geteuid() && server.uid != 0)) {
        close(control);
        return -1;
    }
    next_server.pid = server.pid;
    snapserv_let_read();
    if (snapserv_say_hello(control, 0) < 0) {
        close(control);
        return -1;
    }
    return control;
}

int snapserv_find_server(void)
{
    int64_t since = snapserv_now_ns();
    for (long pause_ms = PAUSE_MS;;) {
        int control = snapserv_try_server(snapserv_now_ns() - since);
        if (control != -1)
            return control;
        struct timespec pause = {.tv_nsec = pause_ms * 1000000};
        nanosleep(&pause, NULL);
        pause_ms = pause_ms * 2 < LONGEST_PAUSE_MS ? pause_ms * 2 : LONGEST_PAUSE_MS;
    }
}
