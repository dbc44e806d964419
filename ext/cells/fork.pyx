"""The one fork, seen from Python: freeze a copy of this process, or be frozen, and return in the branches.

A function of this module returns in another process than the one that called it: that is the point. It is
called only where the process has one thread, and runs no Python between the clone and the thaw.
"""

import gc
import os
import sys

from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport ENOTTY, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

cdef extern from "Python.h":
    void PyOS_BeforeFork()
    void PyOS_AfterFork_Parent()
    void PyOS_AfterFork_Child()

cdef extern from "stdio.h" nogil:
    ctypedef struct FILE
    int fflush(FILE *)

cdef extern from "processes/clone.h":
    cdef enum snapserv_fork_mode:
        SNAPSERV_CLONE3
        SNAPSERV_FORK
    snapserv_fork_mode fork_mode "snapserv_fork_mode"(const char **refused)

cdef extern from "processes/messages.h":
    cdef enum snapserv_kind:
        SNAPSERV_REQUEST
        SNAPSERV_REPLY
        SNAPSERV_PROGRESS
        SNAPSERV_CLONE
        SNAPSERV_HELLO
        SNAPSERV_FAILED
        SNAPSERV_INTERRUPT
        SNAPSERV_FROZE
        SNAPSERV_DESCRIBE
        SNAPSERV_RECORD
        SNAPSERV_BECOME
        SNAPSERV_SETTLE

cdef extern from "cells/frozen.h":
    struct snapserv_spares:
        int first
        int count
    int snapserv_freeze(int control, int child_control, snapserv_spares spares, void (*begun)() noexcept, int *thawed,
                        int64_t *clone_ns)
    int snapserv_stay_frozen(int control)
    int snapserv_count_threads()

cdef extern from "cells/record.h":
    struct snapserv_record:
        pass
    void snapserv_put_note(const void *bytes, size_t size)

cdef extern from "cells/nameless.h":
    void snapserv_disown(uint64_t device, uint64_t inode)

cdef extern from "cells/reopening.h":
    int snapserv_reopen_files(int *descriptor)

cdef extern from "cells/reset_in_place.h":
    enum:
        SNAPSERV_MOST_NOTE
    int snapserv_reset_mark(int control, int child_control, int *thawed, int64_t *clone_ns, const char **refused)
    const char *snapserv_reset_in_place(const void *note, size_t size)
    const void *snapserv_reset_note(size_t *size)

cdef extern from "cells/holdings.h":
    struct snapserv_shared:
        uint64_t start, end, offset, inode
        uint32_t major, minor
        int is_executable
        char name[256]
    struct snapserv_descriptor:
        int number
        uint32_t mode
        uint64_t device, inode, special
    int snapserv_next_shared(int maps, uint64_t start, snapserv_shared *into)
    int snapserv_make_private(uint64_t start, uint64_t end, int is_executable)
    int snapserv_list_descriptors(snapserv_descriptor *into, int most)
    int snapserv_glance(const int *ours, int count, int ledger, uint64_t building, uint64_t *sum)

cdef extern from "cells/temporary.h":
    int snapserv_put_temporary(const char *path)
    int snapserv_uses_temporary()
    int snapserv_is_empty(const char *path)
    void *snapserv_hold_open(int descriptor)
    int snapserv_let_go(void *held)

cdef extern from "cells/helpers.h":
    int snapserv_keep_from_children(int ledger)
    int snapserv_control_is(int control)
    int snapserv_keep_from_clones(int descriptor)
    int snapserv_lease_is(int lease)
    void snapserv_answer_for_children()
    int snapserv_prefer(int score)

cdef extern from "cells/orphan.h":
    int snapserv_orphan_configure(const char *path, int64_t grace_ns, int ledger)
    enum:
        SNAPSERV_NEVER
    int snapserv_try_server(int64_t waited_ns)
    int snapserv_find_server()

REQUEST = SNAPSERV_REQUEST
REPLY = SNAPSERV_REPLY
PROGRESS = SNAPSERV_PROGRESS
CLONE = SNAPSERV_CLONE
HELLO = SNAPSERV_HELLO
FAILED = SNAPSERV_FAILED
INTERRUPT = SNAPSERV_INTERRUPT
FROZE = SNAPSERV_FROZE
DESCRIBE = SNAPSERV_DESCRIBE
RECORD = SNAPSERV_RECORD
RECORD_BYTES = sizeof(snapserv_record)
BECOME = SNAPSERV_BECOME
SETTLE = SNAPSERV_SETTLE
MOST_NOTE = SNAPSERV_MOST_NOTE
"""How many bytes `reset_in_place` takes."""
NEVER = SNAPSERV_NEVER
"""What stands for a server that will never come: the last one ended as it should, or the time is over."""


def mode() -> tuple[str, str]:
    """Return which primitive makes cells here, and why.

    ``("clone3", "")`` where the kernel makes siblings; ``("fork", reason)`` where clone3(2) or
    PR_GET_TID_ADDRESS is refused and cells are forked twice for a subreaper to adopt.
    """
    cdef const char *refused
    if fork_mode(&refused) == SNAPSERV_CLONE3:
        return "clone3", ""
    return "fork", f"{refused.decode()} is refused"


def freeze(control: int, child_control: int, spares: range = range(0)) -> tuple[int | None, int]:
    """Clone this process into a frozen sibling that listens on ``child_control``.

    Args:
        control: This process's own socket, which the sibling closes. The server is answered on it as soon as there
            is a sibling.
        child_control: The sibling's socket; closed in this process.
        spares: Descriptors that the sibling closes.

    Returns:
        In this process None, and the nanoseconds that the clone took. In every branch that is later thawed from the
        sibling, the branch's own socket, and 0.

    Raises:
        OSError: The kernel made no process: EAGAIN (too many), ENOMEM.
    """
    cdef int thawed = -1
    cdef int64_t clone_ns = 0
    cdef snapserv_spares closed
    closed.first, closed.count = spares.start, len(spares)
    PyOS_BeforeFork()
    cdef int made = snapserv_freeze(control, child_control, closed, NULL, &thawed, &clone_ns)
    if made == 0:
        _after_thaw()
        return thawed, 0
    # AfterFork_Parent runs Python code, which may change errno.
    if made < 0:
        try:
            PyErr_SetFromErrno(OSError)
        finally:
            PyOS_AfterFork_Parent()
    PyOS_AfterFork_Parent()
    return None, clone_ns


class CannotResetError(Exception):
    """This process cannot be reset to its mark, or not be given one; says why."""


def mark(control: int, child_control: int) -> tuple[int | None, bytes | None]:
    """Mark this moment of this process: `reset_in_place` returns here, however often.

    A frozen sibling keeps it, and listens on ``child_control``; the server is answered on ``control``, as by `freeze`.

    Returns:
        In this process None and None, and after each `reset_in_place` None and what that was given. In a branch that is
        thawed from the sibling, the branch's own socket, and None.

    Raises:
        CannotResetError: It has more than its memory that changes: says what.
        OSError: The kernel made no process: EAGAIN (too many), ENOMEM.
    """
    cdef int thawed = -1
    cdef int64_t clone_ns = 0
    cdef const char *refused = NULL
    cdef size_t size = 0
    cdef const void *note
    PyOS_BeforeFork()
    cdef int made = snapserv_reset_mark(control, child_control, &thawed, &clone_ns, &refused)
    if made == 0:
        _after_thaw()
        return thawed, None
    if made == -1:
        try:
            PyErr_SetFromErrno(OSError)
        finally:
            PyOS_AfterFork_Parent()
    PyOS_AfterFork_Parent()
    if made == -2:
        raise CannotResetError(refused.decode())
    if made == 1:
        return None, None
    note = snapserv_reset_note(&size)
    return None, (<const char *>note)[:size]


def reset_in_place(note: bytes) -> None:
    """Reset this process to its mark, memory and registers, whatever has happened since: `mark` returns ``note``.

    Raises:
        CannotResetError: The kernel holds something else for it than it did, or ``note`` is too long; nothing changed.
    """
    cdef const char *given = note
    cdef const char *refused = snapserv_reset_in_place(given, len(note))
    raise CannotResetError(refused.decode())


def stay_frozen(control: int) -> int:
    """Freeze this very process: it answers clone commands on ``control`` until that is closed, then exits.

    Returns:
        The branch's own socket, in every branch thawed from here. Never returns in this process.
    """
    PyOS_BeforeFork()
    cdef int thawed = snapserv_stay_frozen(control)
    _after_thaw()
    return thawed


cdef bytes _note = b""


def put_note(note: bytes) -> None:
    """Have the record of every process that is frozen from here say more: it is found in its memory."""
    global _note
    _note = note
    snapserv_put_note(<const char *>_note, len(_note))


def keep_from_children(ledger: int) -> None:
    """Have processes that a simulator forks hold neither the ledger nor the control socket: they are no cells.

    Raises:
        OSError: It is no open descriptor.
    """
    if snapserv_keep_from_children(ledger) < 0:
        PyErr_SetFromErrno(OSError)


def answer_for_children() -> None:
    """Have what this process leaves behind stay with it, so that it is found when it has ended.

    Branches do so as they begin; only the first process of a tree has to be told.
    """
    snapserv_answer_for_children()


def prefer(score: int) -> None:
    """Set this process's adjustment for the OOM killer; see `snapserv.machine.oom`.

    Every branch does this as it begins: by system calls alone, for what Python touches meanwhile would be copied.

    Raises:
        OSError: It may not.
    """
    if snapserv_prefer(score) < 0:
        PyErr_SetFromErrno(OSError)


def lease_is(lease: int) -> None:
    """Say which descriptor leads to a client that has the branch to itself: children let go of it; -1 for none.

    Raises:
        OSError: It is no descriptor.
    """
    if snapserv_lease_is(lease) < 0:
        PyErr_SetFromErrno(OSError)


def control_is(control: int) -> None:
    """Say on which socket the server talks to this process from now on; see `keep_from_children`.

    Raises:
        OSError: It is no open descriptor.
    """
    if snapserv_control_is(control) < 0:
        PyErr_SetFromErrno(OSError)


def keep_from_clones(descriptor: int) -> None:
    """Have clones of this process close a descriptor that is of use to it alone; it may be closed here at any time.

    Raises:
        OSError: It is no open descriptor.
    """
    if snapserv_keep_from_clones(descriptor) < 0:
        PyErr_SetFromErrno(OSError)


def wait_for_servers(path: str, grace_s: float, ledger: int) -> None:
    """Have this process and its clones wait for another server when theirs is gone.

    Args:
        path: The Unix socket on which that one will listen.
        grace_s: For how long; 0 not at all.
        ledger: The descriptor that is kept for it.

    Raises:
        OSError: The path is too long for a socket.
    """
    if snapserv_orphan_configure(path.encode(), <int64_t>(grace_s * 1e9), ledger) < 0:
        PyErr_SetFromErrno(OSError)


def try_server(waited_s: float) -> int:
    """Connect to the next server, having waited for so long, and say hello; -1 where there is none yet, or `NEVER`."""
    return snapserv_try_server(<int64_t>(waited_s * 1e9))


def find_server() -> int:
    """Wait for the next server, for as long as is allowed; return a socket to it, or `NEVER`."""
    return snapserv_find_server()


def flush_standard_files() -> None:
    """Write what ``sys.stdout`` and ``sys.stderr`` have buffered, and the C library's files: fflush(3).

    Here, since each reply does: a function of Python's has pages of its own, which a branch would copy.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue  # a closed or full terminal must not end a simulation
    fflush(NULL)


def count_threads() -> int:
    """Return how many threads this process has."""
    cdef int count = snapserv_count_threads()
    if count < 0:
        PyErr_SetFromErrno(OSError)
    return count


def reopen_files() -> None:
    """Give each regular file and folder above stderr its own offset (for tests).

    Raises:
        OSError: One cannot be opened again; ``filename`` is its descriptor.
    """
    cdef int descriptor
    if snapserv_reopen_files(&descriptor) < 0:
        raise OSError(errno, os.strerror(errno), descriptor)


def shared_areas(maps: int) -> list[tuple[int, int, int, int, int, int, bool, str]] | None:
    """Return the areas of this process that are written and shared; None where the kernel has no quick way to tell.

    Each is its start, end, offset in its file, inode, the file's device as major and minor, whether it is executable,
    and its name. Source: PROCMAP_QUERY, Linux 6.11, on ``maps``, which is /proc/self/maps opened.
    """
    cdef snapserv_shared area
    cdef uint64_t at = 0
    cdef int found = 0
    areas = []
    while True:
        found = snapserv_next_shared(maps, at, &area)
        if found < 0 and errno == ENOTTY:
            return None
        if found < 0:
            PyErr_SetFromErrno(OSError)
        if found == 0:
            return areas
        name = (<bytes>area.name).decode(errors="replace")
        areas.append(
            (area.start, area.end, area.offset, area.inode, area.major, area.minor, area.is_executable != 0, name)
        )
        at = area.end


def glance(ours: tuple[int, ...], ledger: int, building: int) -> int | None:
    """Return a number that is another one where this process's descriptors have changed.

    None where they must be looked at: something is shared that is not snapserv's, the kernel has no quick way to tell, or
    something has come to where temporary files were in setup. ``ours`` are descriptors that do not count, at most 8;
    ``ledger`` is -1 without one.
    """
    cdef int numbers[8]
    cdef int count = 0
    cdef uint64_t total = 0
    for number in ours:
        numbers[count] = number
        count += 1
    cdef int found = snapserv_glance(numbers, count, ledger, building, &total)
    if found < 0 and errno != ENOTTY:
        PyErr_SetFromErrno(OSError)
    return total if found == 0 else None


def make_private(start: int, end: int, executable: bool, device: int, inode: int) -> None:
    """Put private anonymous memory with the same contents in the place of a shared area, whose file is then nobody's.

    Raises:
        OSError: ENOMEM.
    """
    if snapserv_make_private(start, end, executable) < 0:
        PyErr_SetFromErrno(OSError)
    snapserv_disown(device, inode)


def descriptors() -> list[tuple[int, int, int, int, int]]:
    """Return the open descriptors above stderr: number, mode, device, inode, and the device that a special file is."""
    cdef int room = 64
    cdef int count
    cdef snapserv_descriptor *found
    while True:
        found = <snapserv_descriptor *>malloc(room * sizeof(snapserv_descriptor))
        if found == NULL:
            raise MemoryError
        try:
            count = snapserv_list_descriptors(found, room)
            if count < 0:
                PyErr_SetFromErrno(OSError)
            if count <= room:
                return [
                    (found[i].number, found[i].mode, found[i].device, found[i].inode, found[i].special)
                    for i in range(count)
                ]
        finally:
            free(found)
        room = count + 64


def put_temporary(path: str) -> bool:
    """Have temporary files be in the folder ``path``; return whether TMPDIR says so, or a simulation has set it otherwise.

    C code that has kept a pointer to the variable since the first call sees it as well.

    Raises:
        OSError: The path is too long.
    """
    cdef int is_told = snapserv_put_temporary(os.fsencode(path))
    if is_told < 0:
        PyErr_SetFromErrno(OSError)
    return bool(is_told)


def uses_temporary() -> bool:
    """Return whether something is in that folder, or this process works in it, so that its clones would as well."""
    return bool(snapserv_uses_temporary())


def is_empty(path: str) -> bool:
    """Return whether a folder has nothing in it.

    Raises:
        OSError: It cannot be read.
    """
    cdef int empty = snapserv_is_empty(os.fsencode(path))
    if empty < 0:
        raise OSError(errno, os.strerror(errno), path)
    return bool(empty)


def hold_open(descriptor: int) -> int:
    """Keep a file open, and so locked, without a descriptor, here and in all clones; return what `let_go` takes.

    Raises:
        OSError: ENOMEM.
    """
    cdef void *held = snapserv_hold_open(descriptor)
    if held == NULL:
        PyErr_SetFromErrno(OSError)
    return <size_t>held


def let_go(held: int) -> None:
    """Keep a file open no longer, as far as this process is concerned."""
    snapserv_let_go(<void *><size_t>held)


cdef _after_thaw():
    # Nothing that the branch shares with its snapshot is looked at by its collector, which would copy it all.
    gc.freeze()
    # The random module asks to be reseeded in a forked child. A branch must continue as the original would.
    random = sys.modules.get("random")
    state = random.getstate() if random is not None else None
    # From Python 3.12 on, asyncio forgets the current loop of each thread, and by what signals wake it.
    events = sys.modules.get("asyncio.events")
    policy = events._event_loop_policy if events is not None else None
    current = getattr(policy, "_local", None)
    wakes = sys.modules["signal"].set_wakeup_fd(-1) if current is not None else -1
    PyOS_AfterFork_Child()
    if state is not None:
        random.setstate(state)
    if current is not None:
        policy._local = current
        if wakes >= 0:
            sys.modules["signal"].set_wakeup_fd(wakes)
