#include "standing.h"

#include <dirent.h>
#include <errno.h>
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
#include "pages.h"
#include "procmap.h"
#include "twin.h"

#ifndef PR_GET_TID_ADDRESS
#define PR_GET_TID_ADDRESS 40
#endif

struct snapserv_kept *snapserv_kept;

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

static uint32_t permissions_of(char read, char write, char execute, char shared)
{
    return (unsigned)read << 24 | write << 16 | execute << 8 | shared;
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
            area.permissions = permissions_of(at[0], at[1], at[2], at[3]);
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

static int same_area(const struct snapserv_area *now, const struct snapserv_area *marked, uint64_t at)
{
    return now->permissions == marked->permissions && now->device == marked->device && now->inode == marked->inode &&
           (!now->inode || now->offset + (at - now->start) == marked->offset + (at - marked->start));
}

/* Ask for the area at an address, or else the next one; for what it is only `with_name`. Returns 1, 0 where there is no
 * more, or -1 where the kernel does not tell. */
static int ask_for_area(int maps, uint64_t address, int with_name, struct snapserv_area *area)
{
    struct snapserv_procmap query = {
        .size = sizeof query,
        .query_flags = SNAPSERV_MAP_COVERING_OR_NEXT,
        .query_addr = address,
        .vma_name_size = with_name ? sizeof snapserv_kept->text : 0,
        .vma_name_addr = with_name ? (uintptr_t)snapserv_kept->text : 0,
    };
    *snapserv_kept->text = '\0';
    if (ioctl(maps, SNAPSERV_PROCMAP_QUERY, &query) < 0)
        return errno == ENOENT ? 0 : -1;
    uint64_t flags = query.vma_flags;
    *area = (struct snapserv_area){
        .start = query.vma_start,
        .end = query.vma_end,
        .offset = query.vma_offset,
        .inode = query.inode,
        .device = query.dev_major << 20 | query.dev_minor,
        .permissions = permissions_of(
            flags & SNAPSERV_MAP_READABLE ? 'r' : '-', flags & SNAPSERV_MAP_WRITABLE ? 'w' : '-',
            flags & SNAPSERV_MAP_EXECUTABLE ? 'x' : '-', flags & SNAPSERV_MAP_SHARED ? 's' : 'p'),
        .kind = kind_of(snapserv_kept->text),
    };
    return 1;
}

/* List the areas as they are now. Most are as they were at the mark: those are not asked for their names, which say
 * what an area is for and take the most time. Returns how many, or -1. */
static int list_areas_now(void)
{
    const struct snapserv_area *marked = snapserv_kept->areas, *last = marked + snapserv_kept->area_count;
    int count = 0, maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    for (uint64_t at = 0; maps >= 0 && snapserv_kept->is_kept; count++) {
        struct snapserv_area *area = &snapserv_kept->now[count];
        int asked = ask_for_area(maps, at, 0, area);
        if (asked < 0)
            break;
        if (asked == 0 || count == MOST_AREAS) {
            close(maps);
            return asked == 0 ? count : -1;
        }
        at = area->end;
        while (marked < last && marked->start < area->start)
            marked++;
        if (marked < last && marked->start == area->start && marked->end == area->end &&
            same_area(area, marked, area->start))
            area->kind = marked->kind;
        else if (ask_for_area(maps, area->start, 1, area) <= 0)
            break;
    }
    close(maps);
    return list_areas(snapserv_kept->now); /* on kernels before 6.11 */
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

/* ------------------------------------------------------------------------------------------------- the mark */

uint64_t snapserv_started(pid_t pid)
{
    char path[40], *at = snapserv_kept->text;
    uint64_t since;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (snapserv_read_small(path, at, sizeof snapserv_kept->text) <= 0 || (at = strrchr(at, ')')) == NULL)
        return 0;
    for (int field = 2; field < 22 && at != NULL; field++)
        at = strchr(at + 1, ' ');
    if (at == NULL)
        return 0;
    snapserv_read_number(at + 1, 10, &since);
    return since;
}

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

/* Twice: what is kept of them takes an area as well. */
static const char *list_marked_areas(void)
{
    const char *why = NULL;
    for (int again = 0; again < 2 && why == NULL; again++) {
        snapserv_kept->area_count = list_areas(snapserv_kept->areas);
        if (snapserv_kept->area_count < 0)
            return "it has too many areas of memory";
        if (!again)
            why = snapserv_make_room();
    }
    return why;
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
    if ((why = snapserv_find_zero()) != NULL)
        return why;
    snapserv_kept->brk = syscall(SYS_brk, 0);
    if ((why = list_marked_areas()) != NULL)
        return why;
    for (int i = 0; i < snapserv_kept->area_count; i++) {
        const struct snapserv_area *area = &snapserv_kept->areas[i];
        pages += snapserv_is_written(area) ? (area->end - area->start) / PAGE : 0;
        if (area->kind == RING)
            return RINGS;
    }
    return pages > MOST_PAGES ? "it has too much memory that it could write" : NULL;
}

/* ------------------------------------------------------------------------------------------------ comparing it */

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
    snapserv_kept->now_count = list_areas_now();
    if (snapserv_kept->now_count < 0)
        return "it has too many areas of memory";
    return compare_areas();
}

