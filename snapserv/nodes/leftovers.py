"""Processes that nodes leave behind: what a simulation has started ends with the node that started it.

A living branch keeps its descendants: orphans among them become its children, daemons too (`ext/cells/helpers.c`).
When it ends, the kernel gives them to the server, which is a subreaper as well. So a child of the server that is no
cell, and has been a cell's once, is one that a node has left behind. It is told to end, and a moment later made to.

Whether it has been a cell's is told by its session, which is its master's, and for one that made a session of its
own, as daemons do, by its environment. A server that is process 1 of a container, or was executed by a shell that
had children, has children that are none of its affair.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Mapping
from typing import Any

import structlog

from ..cell.link import LEDGER_DESCRIPTOR
from .ledger import NAME

log = structlog.get_logger(__name__)

MARK_VARIABLE = "SNAPSERV_SERVER"
"""In the environment of all cells, and so of what they start: which server's they are."""
KEEP_VARIABLE = "SNAPSERV_KEEP"
"""Who starts a process with this in its environment wants it to outlive the node."""
TRACKERS = (b"resource_tracker", b"multiprocessing.forkserver")
"""In the command line of what multiprocessing and loky start once for a process and all that is forked of it.

So siblings of the node use it too. It ends by itself when the last of them has, and removes what they have left in
/dev/shm.
"""

LOOK_AFTER_S = 0.05
KILL_AFTER_S = 2.0
SHARE_OF_TIME = 50
"""At most one part in so many of the loop's time is spent on looking: ten thousand children take milliseconds."""


class Leftovers:
    """What nodes have left behind, and is being ended.

    Args:
        loop: Where it is looked for, each time a while after a node has ended.
        cells: The processes that are cells, by number.
        mark: What this server's cells have as `MARK_VARIABLE`.
        daemons: Whether cells are subreapers, so that a daemon that is the server's child is one of a dead node.

    ``sessions`` are those of the masters. ``heirs`` are branches that go on from a frozen copy of themselves, by
    the number of the process that they had before, None where that is not decided yet: they keep what it started.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, cells: Mapping[int, Any], mark: str, *, daemons: bool
    ) -> None:
        self.sessions: set[int] = set()
        self.heirs: dict[int, Any] = {}
        self._loop = loop
        self._cells = cells
        self._mark = f"{MARK_VARIABLE}={mark}".encode()
        self._daemons = daemons
        self._told: dict[int, float] = {}
        self._planned = False
        self._not_before = 0.0

    def look_soon(self) -> None:
        """Look a moment later, when what a node has left is the server's."""
        if not self._planned:
            self._planned = True
            now = time.monotonic()
            self._loop.call_later(max(LOOK_AFTER_S, self._not_before - now), self._look_again)

    def _look_again(self) -> None:
        self._planned = False
        if self.look():
            self.look_soon()

    def look(self, *, kill: bool = False) -> bool:
        """End what is left behind, and return whether any of it still lives; ``kill`` leaves it no time."""
        began = time.monotonic()
        for pid in list(self._told):
            if _reap(pid):
                del self._told[pid]
        for group in [group for group in self.heirs if not self._inherited(group)]:
            del self.heirs[group]
        left = [pid for pid in _children() if pid not in self._cells and self._left_behind(pid)]
        for pid in left:
            since = self._told.setdefault(pid, began)
            overdue = kill or began - since > KILL_AFTER_S
            if since == began:
                log.info("helper_ended", pid=pid, name=_name(pid))
            if overdue or since == began:
                # A child that nobody else reaps: the number is its own until we do.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL if overdue else signal.SIGTERM)
        self._not_before = time.monotonic() + SHARE_OF_TIME * (time.monotonic() - began)
        return bool(left or self._told)

    async def close(self) -> None:
        """End all that is left behind; the nodes have ended."""
        deadline = time.monotonic() + KILL_AFTER_S
        self.heirs.clear()
        while self.look(kill=time.monotonic() > deadline) and time.monotonic() < deadline + KILL_AFTER_S:
            await asyncio.sleep(LOOK_AFTER_S)

    def _left_behind(self, pid: int) -> bool:
        try:
            fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
            state, parent, group, session = fields[0], *map(int, fields[1:4])
            if state in b"ZX" or parent != os.getpid() or NAME in _held(pid):
                return False  # it has ended, or it is a clone that has not said who it is
            if group in self._cells:
                return False  # where cells are no subreapers: an orphan of a branch that lives
            environment = _environment(pid)
            ours = session in self.sessions or (self._daemons and self._mark in environment)
            if not ours or any(entry.startswith(f"{KEEP_VARIABLE}=".encode()) for entry in environment):
                return False
            command = _read(f"/proc/{pid}/cmdline")
        except (FileNotFoundError, ProcessLookupError):
            return False
        return not any(tracker in command for tracker in TRACKERS) and not self._inherited(group)

    def _inherited(self, group: int) -> bool:
        """Return whether a branch lives, or may yet, that goes on with what the process ``group`` has started."""
        while group in self.heirs:
            heir = self.heirs[group]
            if heir is None or not heir.ended.done():
                return True
            group = heir.pid
        return False


def descendants(pid: int) -> dict[int, int]:
    """Return what a living process has started, and that in turn, each with a pidfd, which is the caller's."""
    found: dict[int, int] = {}
    waiting = [pid]
    while waiting:
        for child in _children(waiting.pop()):
            with contextlib.suppress(OSError):
                if child not in found:
                    found[child] = os.pidfd_open(child)
                    waiting.append(child)
    return found


def end_descendants(found: dict[int, int]) -> None:
    """End what `descendants` has found, but for what ends by itself or is to be kept; let go of the pidfds."""
    for pid, pidfd in found.items():
        with contextlib.suppress(OSError):
            kept = any(entry.startswith(f"{KEEP_VARIABLE}=".encode()) for entry in _environment(pid))
            command = _read(f"/proc/{pid}/cmdline")
            if not kept and not any(tracker in command for tracker in TRACKERS):
                signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        os.close(pidfd)


def _children(pid: int | None = None) -> list[int]:
    """Return the children of a process, or of this one; see proc_pid_task(5)."""
    found = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid or 'self'}/task"):
            with contextlib.suppress(OSError):
                found += _read(f"/proc/{pid or 'self'}/task/{task}/children").split()
    return [int(each) for each in found]


def _read(path: str) -> bytes:
    """Return what a file of /proc says: without Python's files, which take longer than the kernel does."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(file, 1 << 16):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(file)


def _reap(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is not None
    except ChildProcessError:
        return True


def _held(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/{LEDGER_DESCRIPTOR}")
    except OSError:
        return ""


def _environment(pid: int) -> list[bytes]:
    try:
        return _read(f"/proc/{pid}/environ").split(b"\0")
    except OSError:
        return []


def _name(pid: int) -> str:
    try:
        return _read(f"/proc/{pid}/comm").decode(errors="replace").strip()
    except OSError:
        return ""
