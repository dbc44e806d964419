#include "reset_in_place.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "frozen.h"
#include "pages.h"
#include "standing.h"

#ifndef PR_SET_PTRACER
#define PR_SET_PTRACER 0x59616d61
#endif

/* ------------------------------------------------------------------------------------------------- the mark */

static void be_twin(void)
{
    /* Where a security module lets only ancestors read a process (ptrace_scope 1): this sibling as well. */
    prctl(PR_SET_PTRACER, (unsigned long)snapserv_kept->original, 0, 0, 0);
    snapserv_kept->twin = getpid();
    snapserv_kept->twin_since = snapserv_started(snapserv_kept->twin);
}

int snapserv_reset_mark(int control, int child_control, int *thawed, int64_t *clone_ns, const char **refused)
{
    struct snapserv_spares none = {0, 0};
    *refused = snapserv_write_down(control, child_control);
    if (*refused != NULL)
        return -2;
    snapserv_kept->original = getpid();
    snapserv_kept->is_reset = 0;
    if (getcontext(&snapserv_kept->marked) < 0)
        return -1;
    if (snapserv_kept->is_reset)
        return 2;
    int made = snapserv_freeze(control, child_control, none, be_twin, thawed, clone_ns);
    if (made > 0) /* only now: where the twin was forked by a child, that one has been waited for */
        getrusage(RUSAGE_CHILDREN, &snapserv_kept->children);
    return made;
}

/* ------------------------------------------------------------------------------------------------ the reset */

/* Half of this process is of one moment and half of another: it ends. The server clones another. */
static void give_up(void)
{
    _exit(1);
}

/* Whether memory is missing that will be there when pages are put back. */
static int is_short(void)
{
    return snapserv_kept->lost_count > 0 || (uint64_t)syscall(SYS_brk, 0) < snapserv_kept->brk;
}

/* Runs on a stack of its own, and calls nothing that allocates: whatever it wrote elsewhere would not be reset. */
static void reset(void)
{
    snapserv_kept->refused = snapserv_open_pages();
    if (snapserv_kept->refused == NULL) {
        snapserv_kept->refused = snapserv_look_at_pages(is_short());
        if (snapserv_kept->refused != NULL)
            snapserv_close_pages();
    }
    if (snapserv_kept->refused != NULL) {
        setcontext(&snapserv_kept->back_there);
        give_up();
    }
    const struct snapserv_run *added = snapserv_kept->added, *lost = snapserv_kept->lost;
    /* Twice: the heap can shrink only while all of it is mapped, and grow only where nothing else is. */
    syscall(SYS_brk, snapserv_kept->brk);
    for (int i = 0; i < snapserv_kept->added_count; i++)
        if (munmap((void *)(uintptr_t)added[i].start, added[i].end - added[i].start) < 0)
            give_up();
    if ((uint64_t)syscall(SYS_brk, snapserv_kept->brk) != snapserv_kept->brk)
        give_up();
    for (int i = 0; i < snapserv_kept->lost_count; i++)
        if (mmap((void *)(uintptr_t)lost[i].start, lost[i].end - lost[i].start, lost[i].protection,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
            give_up();
    for (int i = 0; i < snapserv_kept->file_count; i++) {
        const struct snapserv_file *file = &snapserv_kept->files[i];
        if (file->descriptor > 2 && file->offset != snapserv_kept->now_files[i].offset)
            lseek(file->descriptor, file->offset, SEEK_SET);
    }
    if (snapserv_put_pages_back() < 0)
        give_up();
    *snapserv_kept->tid = snapserv_kept->original;
    snapserv_close_pages();
    snapserv_kept->is_reset = 1;
    setcontext(&snapserv_kept->marked);
    give_up();
}

const char *snapserv_reset_in_place(const void *note, size_t size)
{
    if (snapserv_kept == NULL || snapserv_kept->twin == 0 || snapserv_kept->original != getpid())
        return "it has no mark";
    if (size > sizeof snapserv_kept->note)
        return "the note is too long";
    const char *refused = snapserv_compare_files();
    if (refused == NULL)
        refused = snapserv_compare();
    if (refused != NULL)
        return refused;
    if (getcontext(&snapserv_kept->aside) < 0)
        return "its registers cannot be read";
    memcpy(snapserv_kept->note, note, size);
    snapserv_kept->note_size = size;
    snapserv_kept->aside.uc_stack.ss_sp = snapserv_kept->stack;
    snapserv_kept->aside.uc_stack.ss_size = sizeof snapserv_kept->stack;
    snapserv_kept->aside.uc_link = NULL;
    sigfillset(&snapserv_kept->aside.uc_sigmask);
    makecontext(&snapserv_kept->aside, reset, 0);
    if (swapcontext(&snapserv_kept->back_there, &snapserv_kept->aside) < 0)
        return "its registers cannot be read";
    return snapserv_kept->refused;
}

const void *snapserv_reset_note(size_t *size)
{
    *size = snapserv_kept->note_size;
    return snapserv_kept->note;
}
