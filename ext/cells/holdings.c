#include "holdings.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "descriptors.h"
#include "procmap.h"
#include "standing.h"
#include "temporary.h"

int snapserv_next_shared(int maps, uint64_t from, struct snapserv_shared *into)
{
    struct snapserv_procmap query = {
        .size = sizeof query,
        .query_flags = SNAPSERV_MAP_WRITABLE | SNAPSERV_MAP_SHARED | SNAPSERV_MAP_COVERING_OR_NEXT,
        .query_addr = from,
        .vma_name_size = sizeof into->name,
        .vma_name_addr = (uintptr_t)into->name,
    };
    into->name[0] = '\0';
    int asked = ioctl(maps, SNAPSERV_PROCMAP_QUERY, &query);
    if (asked < 0 && errno == ENAMETOOLONG) {
        query.vma_name_size = 0;
        query.vma_name_addr = 0;
        asked = ioctl(maps, SNAPSERV_PROCMAP_QUERY, &query);
    }
    if (asked < 0)
        return errno == ENOENT ? 0 : -1;
    if (snapserv_kept != NULL && (query.vma_start == (uintptr_t)snapserv_kept ||
                                  query.vma_start == (uintptr_t)snapserv_kept->room))
        return snapserv_next_shared(maps, query.vma_end, into);
    into->start = query.vma_start;
    into->end = query.vma_end;
    into->offset = query.vma_offset;
    into->inode = query.inode;
    into->major = query.dev_major;
    into->minor = query.dev_minor;
    into->is_executable = (query.vma_flags & SNAPSERV_MAP_EXECUTABLE) != 0;
    return 1;
}

int snapserv_make_private(uint64_t start, uint64_t end, int is_executable)
{
    static const char zeros[PAGE];
    int protection = PROT_READ | PROT_WRITE | (is_executable ? PROT_EXEC : 0);
    size_t size = end - start;
    char *copy = mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (copy == MAP_FAILED)
        return -1;
    const char *shared = (const char *)(uintptr_t)start;
    for (size_t at = 0; at < size; at += PAGE)
        if (memcmp(shared + at, zeros, PAGE) != 0)
            memcpy(copy + at, shared + at, PAGE);
    /* In one step: whatever was mapped there goes, and no moment is without. */
    if (mremap(copy, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)(uintptr_t)start) == MAP_FAILED) {
        int error = errno;
        munmap(copy, size);
        errno = error;
        return -1;
    }
    return 0;
}

struct listing {
    struct snapserv_descriptor *into;
    int most, count;
};

static void list_one(int number, void *given)
{
    struct listing *listing = given;
    struct stat status;
    if (number < 0) {
        listing->count = 0;
        return;
    }
    if (fstat(number, &status) < 0)
        return;
    if (listing->count < listing->most)
        listing->into[listing->count] = (struct snapserv_descriptor){number, status.st_mode, status.st_dev,
                                                                     status.st_ino, status.st_rdev};
    listing->count++;
}

int snapserv_list_descriptors(struct snapserv_descriptor *into, int most)
{
    struct listing listing = {.into = into, .most = most};
    return snapserv_each_descriptor(list_one, &listing) < 0 ? -1 : listing.count;
}

/* Whether something is shared that is not snapserv's: 1, 0, or -1 with errno. */
static int is_anything_shared(int ledger, uint64_t building)
{
    struct snapserv_shared area;
    struct stat own = {0};
    int found, maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (maps < 0)
        return -1;
    if (ledger >= 0)
        fstat(ledger, &own);
    for (uint64_t at = 0; (found = snapserv_next_shared(maps, at, &area)) > 0; at = area.end)
        if (!(area.start <= building && building < area.end) &&
            !(area.inode == own.st_ino && area.major == major(own.st_dev) && area.minor == minor(own.st_dev)))
            break;
    int error = errno;
    close(maps);
    errno = error;
    return found;
}

struct glancing {
    const int *ours;
    int count, ledger;
    uint64_t sum;
};

/* FNV-1a, of whole words. */
static void glance_at(int number, void *given)
{
    struct glancing *glancing = given;
    struct stat status;
    if (number < 0)
        glancing->sum = 0xcbf29ce484222325ull;
    for (int i = 0; i < glancing->count; i++)
        if (glancing->ours[i] == number)
            return;
    if (number < 0 || number == glancing->ledger || fstat(number, &status) < 0)
        return;
    const uint64_t words[] = {number, status.st_mode, status.st_dev, status.st_ino, status.st_rdev};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        glancing->sum = (glancing->sum ^ words[i]) * 0x100000001b3ull;
}

int snapserv_glance(const int *ours, int count, int ledger, uint64_t building, uint64_t *sum)
{
    struct glancing glancing = {.ours = ours, .count = count, .ledger = ledger};
    if (snapserv_has_strays())
        return 1;
    int shared = is_anything_shared(ledger, building);
    if (shared != 0)
        return shared;
    if (snapserv_each_descriptor(glance_at, &glancing) < 0)
        return -1;
    *sum = glancing.sum;
    return 0;
}
