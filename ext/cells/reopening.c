#include "reopening.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "descriptors.h"
#include "nameless.h"
#include "orphan.h"

struct open_file {
    int descriptor;
    int is_folder;
    dev_t device;
    ino_t inode;
};

enum { FEW = 64 }; /* so many take no memory but the stack's */

/* The ledger is never read or written here. */
struct listing {
    struct open_file *files;
    int most, count;
    struct stat ledger;
};

/* Take note of what has an offset that would be shared. stdin, stdout and stderr are meant to be: a log that several
 * nodes write must not be overwritten by each at an offset of its own. A descriptor that is only a path has none. */
static void list_one(int descriptor, void *given)
{
    struct listing *listing = given;
    struct stat status;
    if (descriptor < 0) {
        listing->count = 0;
        return;
    }
    if (fstat(descriptor, &status) < 0 ||
        (status.st_dev == listing->ledger.st_dev && status.st_ino == listing->ledger.st_ino) ||
        !(S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)) || fcntl(descriptor, F_GETFL) & O_PATH)
        return;
    if (listing->count < listing->most)
        listing->files[listing->count] =
            (struct open_file){descriptor, S_ISDIR(status.st_mode), status.st_dev, status.st_ino};
    listing->count++;
}

/* List them, at most `most`. Returns how many there are, or -1 with errno. */
static int list(struct open_file *files, int most)
{
    struct listing listing = {.files = files, .most = most};
    fstat(snapserv_ledger(), &listing.ledger);
    return snapserv_each_descriptor(list_one, &listing) < 0 ? -1 : listing.count;
}

static int is_before(const struct open_file *a, const struct open_file *b)
{
    if (a->device != b->device)
        return a->device < b->device;
    return a->inode != b->inode ? a->inode < b->inode : a->descriptor < b->descriptor;
}

/* Shell's sort, which needs no memory, as qsort(3) may: those of one file come to stand together. */
static void sort(struct open_file *files, int count)
{
    for (int gap = count / 2; gap > 0; gap /= 2)
        for (int i = gap; i < count; i++) {
            struct open_file file = files[i];
            int at = i;
            for (; at >= gap && is_before(&file, &files[at - gap]); at -= gap)
                files[at] = files[at - gap];
            files[at] = file;
        }
}

/* Whether two descriptors share one open file description (kcmp(2)). Where the kernel will not say, assume that they do
 * not: two offsets then part that were one, which only dup() makes. */
static int same_description(pid_t pid, int a, int b)
{
    return syscall(SYS_kcmp, pid, pid, KCMP_FILE, a, b) == 0;
}

/* Returns a descriptor of the file of `from` with a description of its own, at the offset that `file` has, or -1 with
 * errno. */
static int open_again(const struct open_file *file, int from)
{
    char path[40];
    snprintf(path, sizeof path, "/proc/self/fd/%d", from);
    off_t offset = lseek(file->descriptor, 0, SEEK_CUR);
    /* What belongs to the description, and not what made the file: O_TMPFILE would make another. */
    int flags = fcntl(file->descriptor, F_GETFL) &
                (O_ACCMODE | O_APPEND | O_DIRECT | O_DSYNC | O_NOATIME | O_NONBLOCK | O_SYNC);
    int own = open(path, flags | O_CLOEXEC | (file->is_folder ? O_DIRECTORY : 0));
    if (own >= 0 && offset > 0 && lseek(own, offset, SEEK_SET) != offset) {
        close(own);
        errno = ESPIPE;
        return -1;
    }
    return own;
}

static void replace(int own, int descriptor)
{
    dup3(own, descriptor, fcntl(descriptor, F_GETFD) & FD_CLOEXEC ? O_CLOEXEC : 0);
}

static int same_file(const struct open_file *a, const struct open_file *b)
{
    return a->device == b->device && a->inode == b->inode;
}

/* Give those of `count` files, which are one, descriptions of their own, of the file of `from`, or of each as it is. */
static int reopen_one(struct open_file *files, int count, int from, int *descriptor)
{
    pid_t self = getpid();
    for (int i = 0; i < count; i++) {
        if (files[i].descriptor < 0)
            continue; /* replaced already, with the one that it shares its description with */
        *descriptor = files[i].descriptor;
        int own = open_again(&files[i], from >= 0 ? from : files[i].descriptor);
        if (own < 0)
            return -1;
        /* The others first, while this one still is what they are compared with. */
        for (int k = i + 1; k < count; k++)
            if (files[k].descriptor >= 0 && same_description(self, files[i].descriptor, files[k].descriptor)) {
                replace(own, files[k].descriptor);
                files[k].descriptor = -1;
            }
        replace(own, files[i].descriptor);
        close(own);
    }
    return 0;
}

static int reopen(struct open_file *files, int count, int *descriptor)
{
    sort(files, count);
    for (int i = 0, next; i < count; i = next) {
        int is_written = 0, copy = -1;
        for (next = i; next < count && same_file(&files[i], &files[next]); next++)
            is_written |= (fcntl(files[next].descriptor, F_GETFL) & O_ACCMODE) != O_RDONLY;
        *descriptor = files[i].descriptor;
        if (is_written && !files[i].is_folder && snapserv_is_nameless(files[i].descriptor) &&
            (copy = snapserv_copy_nameless(files[i].descriptor)) < 0)
            return -1;
        int made = reopen_one(files + i, next - i, copy, descriptor);
        if (copy >= 0)
            close(copy);
        if (made < 0)
            return -1;
    }
    return 0;
}

int snapserv_reopen_files(int *descriptor)
{
    struct open_file few[FEW], *files = few;
    *descriptor = -1;
    int count = list(few, FEW), made;
    if (count <= FEW)
        return count < 0 ? -1 : reopen(few, count, descriptor);
    size_t size = count * sizeof *files;
    files = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (files == MAP_FAILED)
        return -1;
    list(files, count);
    made = reopen(files, count, descriptor);
    int error = errno;
    munmap(files, size);
    errno = error;
    return made;
}
