#include "standing.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "nameless.h"
#include "orphan.h"

#ifndef PR_GET_TID_ADDRESS
#define PR_GET_TID_ADDRESS 40
#endif

struct snapserv_kept *snapserv_kept;

static int is_private_area(const struct snapserv_area *area)
{
    return (area->permissions & 0xff) == 'p';
}

/* ----------------------------------------------------------------------------------------------- listing it */

const char *snapserv_read_number(const char *at, int base, uint64_t *value)
{
    for (*value = 0;; at++) {
        int digit = *at >= '0' && *at <= '9' ? *at - '0' : *at >= 'a' && *at <= 'f' ? *at - 'a' + 10 : base;
        if (digit >= base)
            return at;
        *value = *value * base + digit;
    }
}

/* What an area is for, by its name. */
static int kind_of(const char *name)
{
    if (strncmp(name, "[stack]", 7) == 0)
        return STACK_AREA;
    if (strncmp(name, "[heap]", 6) == 0)
        return HEAP_AREA;
    if (strncmp(name, "/[aio]", 6) == 0 || strncmp(name, "anon_inode:[io_uring]", 21) == 0)
        return RING;
    return *name == '[' && strncmp(name, "[anon:", 6) != 0 ? KERNELS : ORDINARY;
}

/* List the areas of this process (proc_pid_maps(5)). Returns how many, or -1. */
static int list_areas(struct snapserv_area *areas)
{
    int count = 0, descriptor = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    size_t held = 0;
    if (descriptor < 0)
        return -1;
    for (;;) {
        ssize_t got = read(descriptor, snapserv_kept->text + held, sizeof snapserv_kept->text - 1 - held);
        if (got <= 0)
            break;
        held += got;
        snapserv_kept->text[held] = '\0';
        char *line = snapserv_kept->text, *end;
        while ((end = strchr(line, '\n')) != NULL) {
            struct snapserv_area area = {.kind = ORDINARY};
            uint64_t major, minor;
            const char *at = snapserv_read_number(line, 16, &area.start);
            at = snapserv_read_number(at + 1, 16, &area.end) + 1;
            area.permissions = ((unsigned)at[0] << 24) | (at[1] << 16) | (at[2] << 8) | at[3];
            at = snapserv_read_number(at + 5, 16, &area.offset);
            at = snapserv_read_number(at + 1, 16, &major);
            at = snapserv_read_number(at + 1, 16, &minor);
            at = snapserv_read_number(at + 1, 10, &area.inode);
            area.device = (uint32_t)(major << 20 | minor);
            while (*at == ' ')
                at++;
            area.kind = kind_of(at);
            if (area.start >> 63)
                break; /* the kernel's own, which are the last */
            if (count == MOST_AREAS) {
                close(descriptor);
                return -1;
            }
            areas[count++] = area;
            line = end + 1;
        }
        held -= line - snapserv_kept->text;
        memmove(snapserv_kept->text, line, held);
    }
    close(descriptor);
    return count;
}

/* What fcntl(2) has set, and whether somebody is locked out (proc_pid_fdinfo(5)). */
static void read_flags(struct snapserv_file *file)
{
    char path[40], text[1024];
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", file->descriptor);
    file->flags = file->is_locked = 0;
    if (snapserv_read_small(path, text, sizeof text) <= 0)
        return;
    const char *flags = strstr(text, "flags:\t");
    if (flags != NULL)
        snapserv_read_number(flags + 7, 8, &file->flags);
    file->is_locked = strstr(text, "\nlock:") != NULL;
}

/* Whether they lead to the same open file, with one position (kcmp(2)): 1, 0, or -1. What all nodes share anyway need
 * not be told. */
static int is_shared(const struct snapserv_file *one, const struct snapserv_file *other)
{
    if (one->device != other->device || one->inode != other->inode)
        return 0;
    long differs = syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, one->descriptor, other->descriptor);
    return differs >= 0 ? differs == 0 : other->descriptor <= 2 ? 0 : -1;
}

static void find_shared(struct snapserv_file *files, int count)
{
    for (int i = 0; i < count; i++) {
        int shared = 0;
        files[i].first = i;
        for (int k = 0; k < i && !shared; k++)
            if ((shared = is_shared(&files[k], &files[i])) != 0)
                files[i].first = shared > 0 ? k : -1;
    }
}

/* List the open descriptors but `except`. Returns how many, or -1. */
static int list_files(struct snapserv_file *files, int except)
{
    int count = 0, listing = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (listing < 0)
        return -1;
    for (long size; (size = syscall(SYS_getdents64, listing, snapserv_kept->text, sizeof snapserv_kept->text)) > 0;) {
        for (long at = 0; at < size;) {
            struct dirent64 *entry = (struct dirent64 *)(snapserv_kept->text + at);
            struct stat status;
            struct snapserv_file *file = &files[count];
            at += entry->d_reclen;
            if (entry->d_name[0] == '.')
                continue;
            file->descriptor = atoi(entry->d_name);
            if (file->descriptor == listing || file->descriptor == except || fstat(file->descriptor, &status) < 0)
                continue;
            file->mode = status.st_mode;
            file->device = status.st_dev;
            file->special = status.st_rdev;
            file->inode = status.st_ino;
            int has_position = S_ISREG(status.st_mode) || S_ISDIR(status.st_mode);
            file->offset = has_position ? lseek(file->descriptor, 0, SEEK_CUR) : 0;
            read_flags(file);
            if (++count == MOST_FILES) {
                close(listing);
                return -1;
            }
        }
    }
    close(listing);
    find_shared(files, count);
    return count;
}

/* ------------------------------------------------------------------------------------------------- its pages */

static int has_none(int pagemap, uint64_t start, uint64_t end)
{
    __u64 walked = end;
    return snapserv_scan_private(pagemap, start, end, snapserv_kept->found, MOST_RUNS, &walked) == 0;
}

int snapserv_has_none(uint64_t start, uint64_t end)
{
    return has_none(snapserv_kept->pagemap, start, end) && has_none(snapserv_kept->twins_pagemap, start, end);
}

uint64_t snapserv_read_entries(uint64_t start, uint64_t end)
{
    uint64_t wanted = (end - start) / PAGE < MOST_ENTRIES ? (end - start) / PAGE : MOST_ENTRIES;
    ssize_t size = wanted * 8;
    if (pread(snapserv_kept->pagemap, snapserv_kept->entries, size, start / PAGE * 8) != size ||
        pread(snapserv_kept->twins_pagemap, snapserv_kept->twins_entries, size, start / PAGE * 8) != size)
        return 0;
    return wanted;
}

/* Whether a page is there, and no page of a file: by its entry in the pagemap. The shared page of zeros is as good as
 * none where nothing but zeros could be seen. */
static int is_own(const struct snapserv_area *area, uint64_t entry)
{
    return (entry & (PRESENT | SWAPPED)) && !(entry & FILE_OR_SHARED) &&
           (area->inode || entry & SWAPPED || (entry & NUMBER) != snapserv_kept->zero);
}

/* The number tells also of a page that was moved there (mremap(2)), which the twin has elsewhere. That a page is mapped
 * here alone is looked at as well: between the two readings the kernel may move pages, and use a number again. */
int snapserv_differs(const struct snapserv_area *area, uint64_t k)
{
    uint64_t entry = snapserv_kept->entries[k], twins = snapserv_kept->twins_entries[k];
    int own = is_own(area, entry), is_twins = is_own(area, twins);
    return own != is_twins || (own && ((entry | twins) & SWAPPED || entry & MAPPED_HERE_ALONE ||
                                       (entry & NUMBER) != (twins & NUMBER)));
}

/* ------------------------------------------------------------------------------------------------- the mark */

/* Whether the kernel holds no more for a descriptor than a position in a file; for sockets and timers it does. What all
 * nodes share anyway, as stderr, need not be reset; /dev/null and /dev/urandom have nothing that could. */
static int is_plain(const struct snapserv_file *file)
{
    return file->descriptor <= 2 || S_ISREG(file->mode) || S_ISDIR(file->mode) ||
           (S_ISCHR(file->mode) && major(file->special) == 1);
}

/* Python maps it by a duplicate of its descriptor. */
static int is_ledger(const struct snapserv_file *file)
{
    struct stat ledger;
    return fstat(snapserv_ledger(), &ledger) == 0 && file->device == ledger.st_dev && file->inode == ledger.st_ino;
}

static const char *describe(const char *format, int number)
{
    snprintf(snapserv_kept->text, sizeof snapserv_kept->text, format, number);
    return snapserv_kept->text;
}

/* Learn the number of the shared page of zeros. Returns NULL, or why the kernel does not tell. */
static const char *find_zero(void)
{
    uint64_t entry = 0;
    int descriptor = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    volatile char *page = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (descriptor < 0 || page == MAP_FAILED || *page != 0 ||
        pread(descriptor, &entry, sizeof entry, (uintptr_t)page / PAGE * 8) != sizeof entry)
        entry = 0;
    __u64 walked;
    int scans = snapserv_scan_private(descriptor, (uintptr_t)page, (uintptr_t)page + PAGE, snapserv_kept->found,
                                      MOST_RUNS, &walked) >= 0;
    close(descriptor);
    munmap((void *)page, PAGE);
    snapserv_kept->zero = entry & NUMBER;
    /* Without numbers, which only root is told, a page that was moved would pass for one that was not written. */
    if (!scans)
        return "the kernel has no PAGEMAP_SCAN";
    return snapserv_kept->zero ? NULL : "page numbers are told only to root";
}

/* What was asked for there would be written to the memory of another child. */
static const char *const RINGS = "it has set up asynchronous input and output";

const char *snapserv_write_down(int control, int child_control)
{
    struct sigaction on_child;
    struct rlimit processor;
    uint64_t pages = 0;
    if (sysconf(_SC_PAGESIZE) != PAGE)
        return "pages are not of 4 KiB";
    /* Always new: what a clone of a marked process finds is that one's. */
    void *room = mmap(NULL, sizeof *snapserv_kept, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED)
        return "there is no memory for it";
    snapserv_kept = room;
    snapserv_kept->file_count = list_files(snapserv_kept->files, child_control);
    if (snapserv_kept->file_count < 0)
        return "too many files are open";
    for (int i = 0; i < snapserv_kept->file_count; i++)
        if (snapserv_kept->files[i].descriptor != control && !is_plain(&snapserv_kept->files[i]))
            return describe("descriptor %d leads to more than a file", snapserv_kept->files[i].descriptor);
        else if (!is_ledger(&snapserv_kept->files[i]) && snapserv_is_nameless(snapserv_kept->files[i].descriptor))
            return describe("the file of descriptor %d is its own, and has no name", snapserv_kept->files[i].descriptor);
        else if (snapserv_kept->files[i].is_locked)
            return describe("it holds a lock on the file of descriptor %d", snapserv_kept->files[i].descriptor);
        else if (snapserv_kept->files[i].first < 0)
            return describe("the kernel does not tell with whom descriptor %d shares its position",
                            snapserv_kept->files[i].descriptor);
    if (sigaction(SIGCHLD, NULL, &on_child) < 0 || on_child.sa_handler == SIG_IGN || on_child.sa_flags & SA_NOCLDWAIT)
        return "it would not be seen whether processes were started";
    /* Its children's would add up in it. */
    if (getrlimit(RLIMIT_CPU, &processor) < 0 || processor.rlim_cur != RLIM_INFINITY)
        return "its processor time is limited";
    const char *why = snapserv_runs_on_its_own();
    if (why != NULL)
        return why;
    if (snapserv_read_settings(&snapserv_kept->settings) < 0 ||
        prctl(PR_GET_TID_ADDRESS, &snapserv_kept->tid, 0, 0, 0) < 0 || snapserv_kept->tid == NULL)
        return "the kernel does not tell what it holds";
    if ((why = find_zero()) != NULL)
        return why;
    snapserv_kept->brk = syscall(SYS_brk, 0);
    snapserv_kept->area_count = list_areas(snapserv_kept->areas);
    if (snapserv_kept->area_count < 0)
        return "it has too many areas of memory";
    for (int i = 0; i < snapserv_kept->area_count; i++) {
        const struct snapserv_area *area = &snapserv_kept->areas[i];
        pages += snapserv_is_written(area) ? (area->end - area->start) / PAGE : 0;
        if (area->kind == RING)
            return RINGS;
    }
    return pages > MOST_PAGES ? "it has too much memory that it could write" : NULL;
}

/* ------------------------------------------------------------------------------------------------ comparing it */

static int same_area(const struct snapserv_area *now, const struct snapserv_area *marked, uint64_t at)
{
    return now->permissions == marked->permissions && now->device == marked->device && now->inode == marked->inode &&
           (!now->inode || now->offset + (at - now->start) == marked->offset + (at - marked->start));
}

/* Whether what was unmapped, or mapped otherwise, can be mapped again, for its pages to be put back. */
static int can_be_again(const struct snapserv_area *area)
{
    return snapserv_is_written(area) && !area->inode && area->kind == ORDINARY;
}

static int add_run(struct snapserv_run *runs, int *count, uint64_t start, uint64_t end, uint32_t permissions)
{
    if (*count == MOST_RUNS)
        return 0;
    runs[(*count)++] = (struct snapserv_run){
        start, end, PROT_READ | PROT_WRITE | ((permissions >> 8 & 0xff) == 'x' ? PROT_EXEC : 0)};
    return 1;
}

/* List what has been mapped since the mark, and what has been lost. Returns NULL, or what cannot be reset. */
static const char *compare_areas(void)
{
    const struct snapserv_area *marked = snapserv_kept->areas, *now = snapserv_kept->now;
    const struct snapserv_area *last_marked = marked + snapserv_kept->area_count;
    const struct snapserv_area *last = now + snapserv_kept->now_count;
    uint64_t brk = syscall(SYS_brk, 0);
    snapserv_kept->added_count = snapserv_kept->lost_count = 0;
    for (uint64_t at = 0, stop; marked < last_marked || now < last; at = stop) {
        uint64_t next_marked = marked == last_marked ? UINT64_MAX : marked->start;
        uint64_t next = now == last ? UINT64_MAX : now->start;
        if (at < next_marked && at < next)
            at = next_marked < next ? next_marked : next;
        /* From `at` to `stop` nothing begins or ends. */
        int was = next_marked <= at, is = next <= at;
        uint64_t end_marked = was ? marked->end : next_marked, end = is ? now->end : next;
        stop = end_marked < end ? end_marked : end;
        if (was && is && !same_area(now, marked, at) && !can_be_again(marked))
            return "memory was mapped anew, or protected";
        /* Of the heap, what is lost at its end comes back with it. */
        if (was && !is && (marked->kind == HEAP_AREA ? at < brk : !can_be_again(marked)))
            return "memory was unmapped";
        if (is && now->kind == RING)
            return RINGS;
        if (was && !(is && same_area(now, marked, at)) && marked->kind != HEAP_AREA &&
            !add_run(snapserv_kept->lost, &snapserv_kept->lost_count, at, stop, marked->permissions))
            return "too much memory was unmapped";
        /* The stack grows, and is dead there. */
        if (is && !was && now->kind != STACK_AREA &&
            !add_run(snapserv_kept->added, &snapserv_kept->added_count, at, stop, now->permissions))
            return "too much memory was mapped";
        if (was && stop == marked->end)
            marked++;
        if (is && stop == now->end)
            now++;
    }
    return NULL;
}

/* Whether a page of up to MOST_ENTRIES from `start` on is another one than the twin's: 1, 0, or -1. */
static int any_differs(const struct snapserv_area *area, uint64_t start, uint64_t end)
{
    uint64_t count = snapserv_read_entries(start, end);
    for (uint64_t k = 0; k < count; k++)
        if (snapserv_differs(area, k))
            return 1;
    return count == 0 ? -1 : 0;
}

/* Look for pages that were written where none can be now: memory that was made writable, and protected again. What
 * was mapped since the mark does not matter. A page that the kernel moves elsewhere meanwhile seems to differ: it is
 * looked at again. */
static const char *compare_protected(void)
{
    for (int i = 0; i < snapserv_kept->area_count; i++) {
        const struct snapserv_area *area = &snapserv_kept->areas[i];
        if (!is_private_area(area) || snapserv_is_written(area) || snapserv_has_none(area->start, area->end))
            continue;
        for (uint64_t at = area->start; at < area->end; at += MOST_ENTRIES * PAGE) {
            int differs = any_differs(area, at, area->end);
            for (int again = 0; differs > 0 && again < 3; again++) {
                usleep(100 << again);
                differs = any_differs(area, at, area->end);
            }
            if (differs)
                return differs < 0 ? "its pagemap cannot be read" : "memory was written, and then protected";
        }
    }
    return NULL;
}

const char *snapserv_compare_files(void)
{
    snapserv_kept->now_file_count = list_files(snapserv_kept->now_files, -1);
    if (snapserv_kept->now_file_count != snapserv_kept->file_count)
        return "files were opened or closed";
    for (int i = 0; i < snapserv_kept->file_count; i++) {
        const struct snapserv_file *now = &snapserv_kept->now_files[i], *marked = &snapserv_kept->files[i];
        if (now->descriptor != marked->descriptor || now->device != marked->device || now->inode != marked->inode ||
            now->first != marked->first)
            return "files were opened or closed";
        if (now->flags != marked->flags || now->is_locked)
            return "files were locked, or are used otherwise";
    }
    return NULL;
}

const char *snapserv_compare(void)
{
    struct rusage children;
    const char *why;
    if ((why = snapserv_runs_on_its_own()) != NULL)
        return why;
    if (snapserv_read_settings(&snapserv_kept->now_settings) < 0)
        return "the kernel does not tell what it holds";
    if ((why = snapserv_compare_settings(&snapserv_kept->now_settings, &snapserv_kept->settings)) != NULL)
        return why;
    if (getrusage(RUSAGE_CHILDREN, &children) < 0 || memcmp(&children, &snapserv_kept->children, sizeof children) != 0)
        return "processes were started";
    snapserv_kept->now_count = list_areas(snapserv_kept->now);
    if (snapserv_kept->now_count < 0)
        return "it has too many areas of memory";
    why = compare_areas();
    return why != NULL ? why : compare_protected();
}

