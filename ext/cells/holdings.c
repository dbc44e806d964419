#include "holdings.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "standing.h"
#include "temporary.h"

/* As in linux/fs.h since Linux 6.11, which older headers do not have. */
struct procmap_query {
    uint64_t size, query_flags, query_addr;
    uint64_t vma_start, vma_end, vma_flags, vma_page_size, vma_offset, inode;
    uint32_t dev_major, dev_minor, vma_name_size, build_id_size;
    uint64_t vma_name_addr, build_id_addr;
};
#define SNAPSERV_PROCMAP_QUERY _IOWR('f', 17, struct procmap_query)
enum { WRITABLE = 0x02, EXECUTABLE = 0x04, SHARED = 0x08, COVERING_OR_NEXT = 0x10 };

int snapserv_next_shared(int maps, uint64_t from, struct snapserv_shared *into)
{
    struct procmap_query query = {
        .size = sizeof query,
        .query_flags = WRITABLE | SHARED | COVERING_OR_NEXT,
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
    if (snapserv_kept != NULL && query.vma_start == (uintptr_t)snapserv_kept)
        return snapserv_next_shared(maps, query.vma_end, into);
    into->start = query.vma_start;
    into->end = query.vma_end;
    into->offset = query.vma_offset;
    into->inode = query.inode;
    into->major = query.dev_major;
    into->minor = query.dev_minor;
    into->is_executable = (query.vma_flags & EXECUTABLE) != 0;
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

int snapserv_list_descriptors(struct snapserv_descriptor *into, int most)
{
    int count = 0, listing = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (listing < 0)
        return -1;
    _Alignas(struct dirent64) char entries[2048];
    for (long size; (size = syscall(SYS_getdents64, listing, entries, sizeof entries)) > 0;) {
        for (long at = 0; at < size;) {
            struct dirent64 *entry = (struct dirent64 *)(entries + at);
            struct stat status;
            int number = atoi(entry->d_name);
            at += entry->d_reclen;
            if (number <= 2 || number == listing || fstat(number, &status) < 0)
                continue;
            if (count < most)
                into[count] = (struct snapserv_descriptor){number, status.st_mode, status.st_dev, status.st_ino,
                                                           status.st_rdev};
            count++;
        }
    }
    close(listing);
    return count;
}

enum { GLANCED_AT = 256 };

static int is_ours(int number, const int *ours, int count, int ledger)
{
    for (int i = 0; i < count; i++)
        if (ours[i] == number)
            return 1;
    return number == ledger;
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

int snapserv_glance(const int *ours, int count, int ledger, uint64_t building, uint64_t *sum)
{
    struct snapserv_descriptor found[GLANCED_AT];
    if (snapserv_has_strays())
        return 1;
    int shared = is_anything_shared(ledger, building);
    if (shared != 0)
        return shared;
    int descriptors = snapserv_list_descriptors(found, GLANCED_AT);
    if (descriptors < 0 || descriptors > GLANCED_AT)
        return descriptors < 0 ? -1 : 1;
    /* FNV-1a, of whole words. */
    *sum = 0xcbf29ce484222325ull;
    for (int i = 0; i < descriptors; i++) {
        const uint64_t words[] = {found[i].number, found[i].mode, found[i].device, found[i].inode, found[i].special};
        if (is_ours(found[i].number, ours, count, ledger))
            continue;
        for (size_t k = 0; k < sizeof words / sizeof *words; k++)
            *sum = (*sum ^ words[k]) * 0x100000001b3ull;
    }
    return 0;
}
