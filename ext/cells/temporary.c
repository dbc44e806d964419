#include "temporary.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NAME_SIZE = sizeof "TMPDIR=" - 1, HELD_SIZE = 4096 };

/* putenv(3) takes this very memory into the environment. */
static char variable[NAME_SIZE + PATH_MAX] = "TMPDIR=", of_setup[PATH_MAX];
static char *const own = variable + NAME_SIZE;

int snapserv_put_temporary(const char *path)
{
    size_t size = strlen(path) + 1;
    if (size > PATH_MAX) {
        errno = ENAMETOOLONG;
        return -1;
    }
    int is_first = *own == '\0';
    memcpy(own, path, size);
    if (is_first) {
        memcpy(of_setup, path, size);
        if (putenv(variable) != 0)
            return -1;
    }
    return getenv("TMPDIR") == own;
}

int snapserv_uses_temporary(void)
{
    char here[PATH_MAX];
    if (*own == '\0')
        return 0;
    /* Where it cannot be read, the simulation has removed it. */
    return snapserv_is_empty(own) == 0 || (syscall(SYS_getcwd, here, sizeof here) > 0 && strcmp(here, own) == 0);
}

int snapserv_has_strays(void)
{
    return strcmp(own, of_setup) != 0 && snapserv_is_empty(of_setup) == 0;
}

int snapserv_is_empty(const char *path)
{
    _Alignas(struct dirent64) char entries[512];
    /* Its own user may look without a trace, which would have to be written to the disk. */
    int count = 0, listing = open(path, O_RDONLY | O_DIRECTORY | O_NOATIME | O_CLOEXEC);
    if (listing < 0 && errno == EPERM)
        listing = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (listing < 0)
        return -1;
    /* Every file system lists "." and ".." as well; not every one lists them first. */
    for (long size; count <= 2 && (size = syscall(SYS_getdents64, listing, entries, sizeof entries)) != 0;) {
        if (size < 0) {
            count = errno == EINVAL ? 3 : -1; /* a name that does not fit is one */
            break;
        }
        for (long at = 0; at < size; count++)
            at += ((struct dirent64 *)(entries + at))->d_reclen;
    }
    int error = errno;
    close(listing);
    errno = error;
    return count < 0 ? -1 : count <= 2;
}

void *snapserv_hold_open(int descriptor)
{
    void *held = mmap(NULL, HELD_SIZE, PROT_NONE, MAP_PRIVATE, descriptor, 0);
    return held == MAP_FAILED ? NULL : held;
}

int snapserv_let_go(void *held)
{
    return munmap(held, HELD_SIZE);
}
