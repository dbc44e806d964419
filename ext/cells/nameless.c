#include "nameless.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_DISOWNED = 64 };

static struct {
    uint64_t device, inode;
} disowned[MOST_DISOWNED];
static int disowned_count;

void snapserv_disown(uint64_t device, uint64_t inode)
{
    if (disowned_count < MOST_DISOWNED) {
        disowned[disowned_count].device = device;
        disowned[disowned_count++].inode = inode;
    }
}

int snapserv_is_nameless(int descriptor)
{
    struct stat status;
    if (fstat(descriptor, &status) < 0 || !S_ISREG(status.st_mode) || status.st_nlink > 0)
        return 0;
    for (int i = 0; i < disowned_count; i++)
        if (disowned[i].device == status.st_dev && disowned[i].inode == status.st_ino)
            return 0;
    int seals = fcntl(descriptor, F_GET_SEALS);
    return seals < 0 || !(seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE));
}

static int make_nameless(int descriptor, mode_t mode)
{
    char link[40], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length > 0 ? length : 0] = '\0';
    char *slash = strrchr(path, '/');
    if (strncmp(path, "/memfd:", 7) != 0 && slash != NULL) {
        slash[slash == path] = '\0';
        int made = open(path, O_TMPFILE | O_RDWR | O_CLOEXEC, mode & 07777);
        if (made >= 0 || errno == ENOSPC || errno == EDQUOT)
            return made;
    }
    /* The folder has gone, or its file system makes none. */
    return memfd_create("snapserv-nameless", MFD_CLOEXEC);
}

/* Copy the data, and leave the holes out. */
static int copy_data(int to, int from, off_t size)
{
    for (off_t at = 0, end; at < size && (at = lseek(from, at, SEEK_DATA)) >= 0; at = end) {
        if ((end = lseek(from, at, SEEK_HOLE)) < 0 || lseek(to, at, SEEK_SET) < 0)
            return -1;
        for (off_t next = at; next < end;)
            if (sendfile(to, from, &next, end - next) <= 0)
                return -1;
    }
    return 0;
}

int snapserv_copy_nameless(int descriptor)
{
    char path[40];
    struct stat status;
    snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    int from = open(path, O_RDONLY | O_CLOEXEC); /* it may have been opened to be written alone */
    if (from < 0)
        return -1;
    int made = fstat(from, &status) < 0 ? -1 : make_nameless(descriptor, status.st_mode);
    if (made >= 0 && (ftruncate(made, status.st_size) < 0 || copy_data(made, from, status.st_size) < 0)) {
        int error = errno;
        close(made);
        errno = error;
        made = -1;
    }
    close(from);
    return made;
}
