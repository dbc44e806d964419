#include "messages.h"

#include <errno.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int64_t snapserv_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int snapserv_send(int control, enum snapserv_kind kind, const void *payload, size_t size)
{
    struct snapserv_prefix prefix = {.kind = kind, .header_bytes = 0, .payload_bytes = size};
    struct iovec parts[2] = {{&prefix, sizeof prefix}, {(void *)payload, size}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t sent;
    do
        sent = sendmsg(control, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)(sizeof prefix + size) ? 0 : -1;
}

int snapserv_say_hello(int control, int64_t clone_ns)
{
    struct snapserv_hello hello = {.pid = getpid(), .clone_ns = clone_ns};
    return snapserv_send(control, SNAPSERV_HELLO, &hello, sizeof hello);
}
