#include "retrace.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "clone.h"
#include "frozen.h"
#include "pagemap_scan.h"

#ifndef PR_SET_PTRACER
#define PR_SET_PTRACER 0x59616d61
#endif
#ifndef PR_GET_MEMORY_MERGE
#define PR_GET_MEMORY_MERGE 68
#endif

enum {
    PAGE = 4096,
    MOST_AREAS = 8192,
    MOST_FILES = 64,
    MOST_RUNS = 512,
    MOST_ENTRIES = 512, /* of a pagemap, read at a time: as many as one huge page is long */
    STACK = 64 << 10,
    STATUS = 8192,
};
static const uint64_t MOST_PAGES = 1 << 22; /* that could be written: 16 GiB, to look through each time */

/* Bits of an entry of /proc/PID/pagemap. */
#define PRESENT (1ull << 63)
#define SWAPPED (1ull << 62)
#define FILE_OR_SHARED (1ull << 61)
#define MAPPED_HERE_ALONE (1ull << 56)

struct area {
    uint64_t start, end, offset, inode;
    uint32_t device, permissions;
    int is_stack;
};

struct file {
    int descriptor;
    mode_t mode;
    dev_t device, special;
    ino_t inode;
    off_t offset;
};

struct run {
    uint64_t start, end;
};

/* All that must not go back itself: in memory that is shared with the twin, and so is no part of what goes back. */
struct shared {
    ucontext_t marked, aside;
    pid_t original, twin;
    uint64_t twin_since; /* in clock ticks since boot, as proc_pid_stat(5) has it */
    int is_back;
    size_t note_size;
    unsigned char note[SNAPSERV_MOST_NOTE];
    /* What the kernel held at the mark. */
    int area_count, file_count;
    struct area areas[MOST_AREAS];
    struct file files[MOST_FILES];
    char status[STATUS], folder[PATH_MAX];
    struct rusage children;
    uint64_t brk;
    /* Whether a page was there, one bit for each of the writable areas, in their order: a mapping of its own. */
    uint64_t *was_there;
    /* What it holds now, and room to work in. */
    int now_count, now_file_count, run_count;
    struct area now[MOST_AREAS];
    struct file now_files[MOST_FILES];
    char now_status[STATUS], now_folder[PATH_MAX];
    struct run added[MOST_RUNS];
    int mem, pagemap; /* the twin's memory, and this process's pagemap */
    char text[32 << 10];
    uint64_t entries[MOST_ENTRIES];
    struct snapserv_page_region found[MOST_RUNS];
    _Alignas(64) unsigned char stack[STACK];
};

static struct shared *shared;

static int is_private_area(const struct area *area)
{
    return (area->permissions & 0xff) == 'p';
}

/* Whether its pages are to be put back: nobody else sees what is written to them. */
static int is_written(const struct area *area)
{
    return is_private_area(area) && (area->permissions >> 16 & 0xff) == 'w';
}

/* ------------------------------------------------------------------------------------ what the kernel holds */

static const char *number(const char *at, int base, uint64_t *value)
{
    for (*value = 0;; at++) {
        int digit = *at >= '0' && *at <= '9' ? *at - '0' : *at >= 'a' && *at <= 'f' ? *at - 'a' + 10 : base;
        if (digit >= base)
            return at;
        *value = *value * base + digit;
    }
}

/* List the areas of this process (proc_pid_maps(5)). Returns how many, or -1. */
static int list_areas(struct area *areas)
{
    int count = 0, descriptor = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    size_t held = 0;
    if (descriptor < 0)
        return -1;
    for (;;) {
        ssize_t got = read(descriptor, shared->text + held, sizeof shared->text - 1 - held);
        if (got <= 0)
            break;
        held += got;
        shared->text[held] = '\0';
        char *line = shared->text, *end;
        while ((end = strchr(line, '\n')) != NULL) {
            struct area area = {.is_stack = 0};
            uint64_t major, minor;
            const char *at = number(line, 16, &area.start);
            at = number(at + 1, 16, &area.end) + 1;
            area.permissions = ((unsigned)at[0] << 24) | (at[1] << 16) | (at[2] << 8) | at[3];
            at = number(at + 5, 16, &area.offset);
            at = number(at + 1, 16, &major);
            at = number(at + 1, 16, &minor);
            at = number(at + 1, 10, &area.inode);
            area.device = (uint32_t)(major << 20 | minor);
            while (*at == ' ')
                at++;
            area.is_stack = strncmp(at, "[stack]", 7) == 0;
            if (area.start >> 63)
                break; /* the kernel's own, which are the last */
            if (count == MOST_AREAS) {
                close(descriptor);
                return -1;
            }
            areas[count++] = area;
            line = end + 1;
        }
        held -= line - shared->text;
        memmove(shared->text, line, held);
    }
    close(descriptor);
    return count;
}

/* List the open descriptors but `except`. Returns how many, or -1. */
static int list_files(struct file *files, int except)
{
    int count = 0, listing = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (listing < 0)
        return -1;
    for (long size; (size = syscall(SYS_getdents64, listing, shared->text, sizeof shared->text)) > 0;) {
        for (long at = 0; at < size;) {
            struct dirent64 *entry = (struct dirent64 *)(shared->text + at);
            struct stat status;
            struct file *file = &files[count];
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
            file->offset = S_ISREG(status.st_mode) ? lseek(file->descriptor, 0, SEEK_CUR) : 0;
            if (++count == MOST_FILES) {
                close(listing);
                return -1;
            }
        }
    }
    close(listing);
    return count;
}

static ssize_t read_small(const char *path, char *into, size_t size)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return -1;
    ssize_t got = read(descriptor, into, size - 1);
    close(descriptor);
    into[got > 0 ? got : 0] = '\0';
    return got;
}

/* The lines of /proc/self/status that tell what a simulator may have changed: signals, masks, threads, rights. */
static int read_status(char *into)
{
    static const char *const told[] = {"Umask:", "Uid:", "Gid:", "Groups:", "Threads:", "SigBlk:", "SigIgn:", "SigCgt:",
                                       "Cap", "NoNewPrivs:", "Seccomp:"};
    size_t used = 0;
    if (read_small("/proc/self/status", shared->text, STATUS) <= 0)
        return -1;
    for (char *line = shared->text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1)
        for (size_t i = 0; i < sizeof told / sizeof *told; i++)
            if (strncmp(line, told[i], strlen(told[i])) == 0) {
                memcpy(into + used, line, end + 1 - line);
                used += end + 1 - line;
                break;
            }
    into[used] = '\0';
    return 0;
}

/* List where the page of zeros is mapped. Returns how many, and sets *walked, or -1. */
static long scan_zeros(int pagemap, uint64_t start, uint64_t end, uint64_t *walked)
{
    struct snapserv_scan scan = {
        .category_mask = SNAPSERV_SCAN_ZERO,
        .return_mask = SNAPSERV_SCAN_ZERO,
    };
    __u64 until = end;
    long count = snapserv_scan_some(pagemap, scan, start, end, shared->found, MOST_RUNS, &until);
    *walked = until;
    return count;
}

/* Whether nothing runs that would go on where this process went back: timers and children. */
static const char *runs_on_its_own(void)
{
    static const int which[] = {ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF};
    struct itimerval timer;
    char timers[8];
    siginfo_t found;
    for (size_t i = 0; i < sizeof which / sizeof *which; i++)
        if (getitimer(which[i], &timer) < 0 || timer.it_value.tv_sec || timer.it_value.tv_usec)
            return "a timer runs";
    if (read_small("/proc/self/timers", timers, sizeof timers) > 0)
        return "a timer was made";
    if (waitid(P_ALL, 0, &found, WEXITED | WNOHANG | WNOWAIT) == 0 || errno != ECHILD)
        return "a process of its own runs";
    return NULL;
}

/* A page that was written, and then merged with another's (KSM), is not mapped here alone. */
static int merges_pages(void)
{
    char count[32];
    return prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0) == 1 ||
           (read_small("/proc/self/ksm_merging_pages", count, sizeof count) > 0 && atol(count) != 0);
}

static uint64_t pages_of(const struct area *area)
{
    return (area->end - area->start) / PAGE;
}

static int is_private(uint64_t entry)
{
    return (entry & (PRESENT | SWAPPED)) && !(entry & FILE_OR_SHARED);
}

static int bit_of(const uint64_t *bits, uint64_t index)
{
    return bits[index / 64] >> (index % 64) & 1;
}

static int any_bit_of(const uint64_t *bits, uint64_t index, uint64_t count)
{
    uint64_t first = index / 64, last = (index + count - 1) / 64;
    for (uint64_t word = first; word <= last; word++)
        if (bits[word])
            return 1;
    return 0;
}

/* Whether none of a stretch's pages is this process's own, in large areas, where asking is quicker than reading. */
static int has_none(uint64_t address, uint64_t pages)
{
    __u64 end = address + MOST_ENTRIES * PAGE;
    return pages > 8 * MOST_ENTRIES &&
           snapserv_scan_private(shared->pagemap, address, end, shared->found, MOST_RUNS, &end) == 0;
}

/* Read entries of this process's pagemap from `address` on. Returns how many, or 0. */
static uint64_t read_entries(uint64_t address, uint64_t pages)
{
    uint64_t wanted = pages < MOST_ENTRIES ? pages : MOST_ENTRIES;
    ssize_t got = pread(shared->pagemap, shared->entries, wanted * 8, address / PAGE * 8);
    return got > 0 ? got / 8 : 0;
}

/* ----------------------------------------------------------------------------------------------- the mark */

/* Whether the kernel holds no more for a descriptor than a position in a file, as it does for sockets and timers. What
 * is shared by all nodes anyway, as stderr is, need not go back; nor have /dev/null and /dev/urandom anything that could. */
static int is_plain(const struct file *file)
{
    return file->descriptor <= 2 || S_ISREG(file->mode) || S_ISDIR(file->mode) ||
           (S_ISCHR(file->mode) && major(file->special) == 1);
}

static const char *describe(const char *format, int number)
{
    snprintf(shared->text, sizeof shared->text, format, number);
    return shared->text;
}

static const char *list_what_is_there(void)
{
    uint64_t index = 0;
    shared->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (shared->pagemap < 0)
        return "its pagemap cannot be read";
    for (int i = 0; i < shared->area_count; i++) {
        const struct area *area = &shared->areas[i];
        if (!is_written(area))
            continue;
        for (uint64_t at = area->start; at < area->end;) {
            uint64_t left = (area->end - at) / PAGE;
            if (has_none(at, left)) {
                at += MOST_ENTRIES * PAGE;
                index += MOST_ENTRIES;
                continue;
            }
            uint64_t count = read_entries(at, left);
            if (count == 0) {
                close(shared->pagemap);
                return "its pagemap cannot be read";
            }
            for (uint64_t k = 0; k < count; k++, index++)
                if (is_private(shared->entries[k]))
                    shared->was_there[index / 64] |= 1ull << (index % 64);
            at += count * PAGE;
        }
    }
    close(shared->pagemap);
    return NULL;
}

/* Write down what the kernel holds for this process. Returns NULL, or why it cannot go back. */
static const char *prepare(int control, int child_control)
{
    struct sigaction on_child;
    uint64_t pages = 0, walked;
    if (sysconf(_SC_PAGESIZE) != PAGE)
        return "pages are not of 4 KiB";
    /* Always new: what a clone of a marked process finds is that one's. */
    void *room = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED)
        return "there is no memory for it";
    shared = room;
    shared->file_count = list_files(shared->files, child_control);
    if (shared->file_count < 0)
        return "too many files are open";
    for (int i = 0; i < shared->file_count; i++)
        if (shared->files[i].descriptor != control && !is_plain(&shared->files[i]))
            return describe("descriptor %d leads to more than a file", shared->files[i].descriptor);
    if (sigaction(SIGCHLD, NULL, &on_child) < 0 || on_child.sa_handler == SIG_IGN || on_child.sa_flags & SA_NOCLDWAIT)
        return "it would not be seen whether processes were started";
    const char *why = runs_on_its_own();
    if (why != NULL)
        return why;
    if (merges_pages())
        return "the kernel merges its pages";
    if (read_status(shared->status) < 0 || getcwd(shared->folder, sizeof shared->folder) == NULL)
        return "the kernel does not tell what it holds";
    int descriptor = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    uint64_t first = (uint64_t)(uintptr_t)shared;
    long found = descriptor < 0 ? -1 : scan_zeros(descriptor, first, first + PAGE, &walked);
    close(descriptor);
    if (found < 0)
        return "the kernel has no PAGEMAP_SCAN";
    shared->brk = syscall(SYS_brk, 0);
    shared->area_count = list_areas(shared->areas);
    if (shared->area_count < 0)
        return "it has too many areas of memory";
    for (int i = 0; i < shared->area_count; i++)
        pages += is_written(&shared->areas[i]) ? pages_of(&shared->areas[i]) : 0;
    if (pages > MOST_PAGES)
        return "it has too much memory that it could write";
    room = mmap(NULL, pages / 8 + 8, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED)
        return "there is no memory for it";
    shared->was_there = room;
    shared->area_count = list_areas(shared->areas); /* again, with that one */
    return shared->area_count < 0 ? "it has too many areas of memory" : list_what_is_there();
}

/* When a process started (proc_pid_stat(5), field 22), so that another with its number is not taken for it; or 0. */
static uint64_t started(pid_t pid)
{
    char path[40], *at = shared->text;
    uint64_t since;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (read_small(path, shared->text, sizeof shared->text) <= 0 || (at = strrchr(at, ')')) == NULL)
        return 0;
    for (int field = 2; field < 22 && at != NULL; field++)
        at = strchr(at + 1, ' ');
    if (at == NULL)
        return 0;
    number(at + 1, 10, &since);
    return since;
}

static void be_twin(void)
{
    /* Where a security module lets only ancestors read a process (ptrace_scope 1): this sibling as well. */
    prctl(PR_SET_PTRACER, (unsigned long)shared->original, 0, 0, 0);
    shared->twin = getpid();
    shared->twin_since = started(shared->twin);
}

int snapserv_retrace_mark(int control, int child_control, int *thawed, int64_t *clone_ns, const char **refused)
{
    struct snapserv_spares none = {0, 0};
    *refused = prepare(control, child_control);
    if (*refused != NULL)
        return -2;
    shared->original = getpid();
    shared->is_back = 0;
    if (getcontext(&shared->marked) < 0)
        return -1;
    if (shared->is_back)
        return 2;
    int made = snapserv_freeze(control, child_control, none, be_twin, thawed, clone_ns);
    if (made > 0) /* only now: where the twin was forked by a child, that one has been waited for */
        getrusage(RUSAGE_CHILDREN, &shared->children);
    return made;
}

/* --------------------------------------------------------------------------------------------- the way back */

/* Find what has been mapped since the mark. Returns NULL, or that more than that has changed. */
static const char *compare_areas(void)
{
    const struct area *marked = shared->areas, *last = marked + shared->area_count;
    uint64_t same = 0, all = 0;
    shared->run_count = 0;
    for (int i = 0; i < shared->area_count; i++)
        all += shared->areas[i].end - shared->areas[i].start;
    for (int i = 0; i < shared->now_count; i++) {
        const struct area *now = &shared->now[i];
        for (uint64_t at = now->start; at < now->end;) {
            while (marked < last && marked->end <= at)
                marked++;
            if (marked == last || marked->start > at) {
                uint64_t end = marked == last || marked->start > now->end ? now->end : marked->start;
                if (!now->is_stack) { /* which grows, and is dead there */
                    if (shared->run_count == MOST_RUNS)
                        return "too much memory was mapped";
                    shared->added[shared->run_count++] = (struct run){at, end};
                }
                at = end;
                continue;
            }
            uint64_t end = marked->end < now->end ? marked->end : now->end;
            if (now->permissions != marked->permissions || now->device != marked->device ||
                now->inode != marked->inode ||
                (now->inode && now->offset + (at - now->start) != marked->offset + (at - marked->start)))
                return "memory was mapped anew, or protected";
            same += end - at;
            at = end;
        }
    }
    return same == all ? NULL : "memory was unmapped";
}

/* Look for pages that were written where none can be now: memory that was made writable, and protected again. What
 * was mapped since the mark does not matter. */
static const char *compare_protected(void)
{
    const struct area *area = shared->areas, *last = area + shared->area_count;
    uint64_t at = 0, end = last[-1].end;
    const char *why = NULL;
    shared->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    while (at < end && why == NULL) {
        __u64 walked = end;
        long count = snapserv_scan_private(shared->pagemap, at, end, shared->found, MOST_RUNS, &walked);
        if (count < 0)
            why = "its pagemap cannot be read";
        for (long i = 0; i < count && why == NULL; i++) {
            for (at = shared->found[i].start; at < shared->found[i].end && why == NULL;) {
                while (area < last && area->end <= at)
                    area++;
                uint64_t stop = area < last && area->end < shared->found[i].end ? area->end : shared->found[i].end;
                if (area < last && area->start > at && area->start < stop)
                    stop = area->start;
                if (area < last && area->start <= at && is_private_area(area) && !is_written(area)) {
                    uint64_t entries = read_entries(at, (stop - at) / PAGE);
                    stop = at + entries * PAGE;
                    for (uint64_t k = 0; k < entries; k++)
                        if (shared->entries[k] & (SWAPPED | MAPPED_HERE_ALONE))
                            why = "memory was written, and then protected";
                    if (entries == 0)
                        why = "its pagemap cannot be read";
                }
                at = stop;
            }
        }
        at = walked;
    }
    close(shared->pagemap);
    return why;
}

static const char *compare_files(void)
{
    if (shared->now_file_count != shared->file_count)
        return "files were opened or closed";
    for (int i = 0; i < shared->file_count; i++) {
        const struct file *now = &shared->now_files[i], *marked = &shared->files[i];
        if (now->descriptor != marked->descriptor || now->device != marked->device || now->inode != marked->inode)
            return "files were opened or closed";
    }
    return NULL;
}

static const char *compare(void)
{
    struct rusage children;
    const char *why;
    shared->now_file_count = list_files(shared->now_files, -1);
    if ((why = compare_files()) != NULL || (why = runs_on_its_own()) != NULL)
        return why;
    if (read_status(shared->now_status) < 0 || strcmp(shared->now_status, shared->status) != 0)
        return "signals, threads or rights have changed";
    if (getcwd(shared->now_folder, sizeof shared->now_folder) == NULL ||
        strcmp(shared->now_folder, shared->folder) != 0)
        return "the working folder has changed";
    if (getrusage(RUSAGE_CHILDREN, &children) < 0 || memcmp(&children, &shared->children, sizeof children) != 0)
        return "processes were started";
    if (merges_pages())
        return "the kernel merges its pages";
    if ((uint64_t)syscall(SYS_brk, 0) < shared->brk)
        return "memory was unmapped";
    shared->now_count = list_areas(shared->now);
    if (shared->now_count < 0)
        return "it has too many areas of memory";
    why = compare_areas();
    return why != NULL ? why : compare_protected();
}

/* Half of this process is of one moment and half of another: it ends. The server clones another. */
static void give_up(void)
{
    _exit(1);
}

static void put_back(uint64_t start, uint64_t end)
{
    while (start < end) {
        ssize_t got = pread(shared->mem, (void *)(uintptr_t)start, end - start, start);
        if (got <= 0)
            give_up();
        start += got;
    }
}

/* Put back the pages of an area that differ from the twin's. Its first page has number `index` in was_there. */
static void put_area_back(const struct area *area, uint64_t index)
{
    uint64_t since = 0; /* where the run that is to be put back begins; 0 for none */
    for (uint64_t at = area->start; at < area->end;) {
        uint64_t left = (area->end - at) / PAGE;
        if (!since && left > MOST_ENTRIES && !any_bit_of(shared->was_there, index, MOST_ENTRIES) &&
            has_none(at, left)) {
            at += MOST_ENTRIES * PAGE;
            index += MOST_ENTRIES;
            continue;
        }
        uint64_t count = read_entries(at, left);
        if (count == 0)
            give_up();
        for (uint64_t k = 0; k < count; k++, at += PAGE, index++) {
            uint64_t entry = shared->entries[k];
            int differs = is_private(entry) ? (entry & (SWAPPED | MAPPED_HERE_ALONE)) != 0
                                            : bit_of(shared->was_there, index);
            if (differs && !since)
                since = at;
            else if (!differs && since) {
                put_back(since, at);
                since = 0;
            }
        }
    }
    if (since)
        put_back(since, area->end);
}

/* The page of zeros that all processes share is mapped where memory was given up and then read: it is no page of its
 * own, but differs from what was there. */
static void put_zeros_back(const struct area *area, uint64_t index)
{
    uint64_t walked = area->start;
    while (walked < area->end) {
        long count = scan_zeros(shared->pagemap, walked, area->end, &walked);
        if (count < 0)
            give_up();
        for (long i = 0; i < count; i++)
            for (uint64_t at = shared->found[i].start; at < shared->found[i].end; at += PAGE)
                if (bit_of(shared->was_there, index + (at - area->start) / PAGE))
                    put_back(at, at + PAGE);
    }
}

/* Runs on a stack of its own, and calls nothing that allocates: whatever it wrote elsewhere would not go back. */
static void go_back(void)
{
    uint64_t index = 0;
    syscall(SYS_brk, shared->brk);
    for (int i = 0; i < shared->run_count; i++)
        munmap((void *)(uintptr_t)shared->added[i].start, shared->added[i].end - shared->added[i].start);
    for (int i = 0; i < shared->file_count; i++) {
        const struct file *file = &shared->files[i];
        if (file->descriptor > 2 && file->offset != shared->now_files[i].offset)
            lseek(file->descriptor, file->offset, SEEK_SET);
    }
    for (int i = 0; i < shared->area_count; i++) {
        const struct area *area = &shared->areas[i];
        if (!is_written(area))
            continue;
        put_zeros_back(area, index);
        put_area_back(area, index);
        index += pages_of(area);
    }
    close(shared->pagemap);
    close(shared->mem);
    shared->is_back = 1;
    setcontext(&shared->marked);
    give_up();
}

/* Open the twin's memory, which stays that one's if it should end now. Returns -1 where that cannot be. */
static int open_mem(void)
{
    char path[40];
    snprintf(path, sizeof path, "/proc/%d/mem", (int)shared->twin);
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor >= 0 && (!shared->twin_since || started(shared->twin) != shared->twin_since)) {
        close(descriptor);
        return -1;
    }
    return descriptor;
}

const char *snapserv_retrace_back(const void *note, size_t size)
{
    const char *refused = shared == NULL || shared->twin == 0 || shared->original != getpid() ? "it has no mark"
                          : size > sizeof shared->note                                        ? "the note is too long"
                                                                                              : compare();
    if (refused != NULL)
        return refused;
    shared->mem = open_mem();
    if (shared->mem < 0)
        return "the memory of its twin cannot be read";
    shared->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (shared->pagemap < 0 || getcontext(&shared->aside) < 0) {
        close(shared->mem);
        return "its pagemap cannot be read";
    }
    memcpy(shared->note, note, size);
    shared->note_size = size;
    shared->aside.uc_stack.ss_sp = shared->stack;
    shared->aside.uc_stack.ss_size = sizeof shared->stack;
    shared->aside.uc_link = NULL;
    sigfillset(&shared->aside.uc_sigmask);
    makecontext(&shared->aside, go_back, 0);
    setcontext(&shared->aside);
    give_up();
    return NULL;
}

const void *snapserv_retrace_note(size_t *size)
{
    *size = shared->note_size;
    return shared->note;
}
