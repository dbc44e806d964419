"""The cells of a server that was killed: finding them, and the ledger that they hold, and taking them in.

Beside its socket a server has another, on which cells of an earlier one introduce themselves, and a note of what
its ledger is called. Both are gone when it ends as it should, and cells that find them gone end as well. What is
left of them says that a server was killed; whoever holds a memfd of the noted name is one of its cells.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from ..cell.link import LEDGER_DESCRIPTOR
from ..nodes.ledger import NAME, Ledger

log = structlog.get_logger(__name__)

_CREDENTIALS = struct.Struct("=iII")
_BACKLOG = 4096
_MOST_NOTE_BYTES = 256


@dataclass(frozen=True)
class Survivors:
    """What a killed server has left: its ledger, and the processes that hold it. Without one, a new ledger."""

    ledger: Ledger
    orphans: frozenset[int]


def find_survivors(path: Path, *, fresh: bool) -> Survivors:
    """Return what the last server with this adoption socket has left, if it was killed.

    Args:
        path: The socket; only one server at a time may ask for it.
        fresh: Whether to end the processes that there are, rather than to take them in.
    """
    name = _read_note(_note(path))
    ledger = None if name is None else _ledger_called(name)
    if ledger is None:
        return Survivors(Ledger.create(), frozenset())
    orphans = _cells_of(ledger)
    if fresh:
        ledger.close()
        for pid in orphans:
            end(pid)
        return Survivors(Ledger.create(), frozenset())
    return Survivors(ledger, orphans)


def _ledger_called(name: str) -> Ledger | None:
    """Return the ledger of that name that any process has; none that another user has made under that name."""
    for pid in _processes():
        if _ledger_of(pid) != name:
            continue
        with contextlib.suppress(OSError):  # it has ended meanwhile, or may not be looked at
            descriptor = os.open(f"/proc/{pid}/fd/{LEDGER_DESCRIPTOR}", os.O_RDWR | os.O_CLOEXEC)
            try:
                return Ledger(descriptor)
            except PermissionError as cause:
                os.close(descriptor)
                log.warning("foreign_ledger_ignored", pid=pid, why=str(cause))
    return None


def _cells_of(ledger: Ledger) -> frozenset[int]:
    """Return the cells that a server has left.

    By holding its ledger cells are told from everything else. What a simulation forks lets go of it, and what it
    executes never had it (`ext/cells/helpers.c`); so of those that hold it only what was cloned past the C library
    could be a helper. That is the child of a cell, which no cell is: clones are made as children of the server
    (CLONE_PARENT), or come to be its children before they say a word. So a clone that was made, and that the ledger
    does not name since the server was killed first, is none of these, and is ended.
    """
    own = _identity(f"/proc/self/fd/{ledger.descriptor}")
    holders = {pid for pid in _processes() if NAME in _ledger_of(pid)}
    cells = {pid for pid in holders if _identity(f"/proc/{pid}/fd/{LEDGER_DESCRIPTOR}") == own}
    return frozenset(pid for pid in cells if _parent_of(pid) not in cells)


def count_waiting(path: Path) -> int:
    """Return how many processes hold the ledger of the last server with this adoption socket."""
    name = _read_note(_note(path))
    return 0 if name is None else sum(_ledger_of(pid) == name for pid in _processes())


class AdoptionSocket:
    """Where cells of an earlier server come to.

    Args:
        path: Where the Unix socket is; the note of what the ledger is called lies beside it.
        ledger: This server's.

    Raises:
        OSError: There can be no socket.
    """

    def __init__(self, path: Path, ledger: Ledger) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        # Never missing, not even for a moment: cells take that for an end.
        made = path.with_suffix(".new")
        made.unlink(missing_ok=True)
        self._socket.bind(str(made))
        made.chmod(0o600)
        self._socket.listen(_BACKLOG)
        _write(_note(path), ledger.name)
        made.rename(path)

    def open(self, take: Callable[[int, socket.socket], bool]) -> None:
        """Take in who comes; ``take`` is given each process and its socket, and says whether it is known."""
        asyncio.get_running_loop().add_reader(self._socket, self._accept, take)

    def close(self) -> None:
        """Let nobody wait for another server."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            asyncio.get_running_loop().remove_reader(self._socket)
        _note(self.path).unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        self._socket.close()

    def _accept(self, take: Callable[[int, socket.socket], bool]) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except BlockingIOError:
                return
            pid, uid, _ = _CREDENTIALS.unpack(
                connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            )
            if uid in (os.geteuid(), 0) and take(pid, connection):
                continue
            connection.close()
            log.warning("stranger_turned_away", pid=pid, uid=uid)
            if uid == os.geteuid() and NAME in _ledger_of(pid):
                end(pid)  # of a server whose ledger does not know it: nobody was told of it


def end(pid: int) -> None:
    """Kill a process that holds a ledger, unless it has ended."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            if NAME in _ledger_of(pid):  # still the one that was meant
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)


def _note(path: Path) -> Path:
    return path.with_suffix(".ledger")


def _read_note(path: Path) -> str | None:
    """Return what a note says; None where there is none, or it is not this user's, or root's."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as cause:
        if cause.errno not in (errno.ENOENT, errno.ENXIO):
            log.warning("foreign_note_ignored", path=str(path), why=cause.strerror)
        return None
    with open(descriptor, "rb") as note:
        status = os.fstat(descriptor)
        if status.st_uid not in (os.geteuid(), 0) or not stat.S_ISREG(status.st_mode):
            log.warning("foreign_note_ignored", path=str(path), uid=status.st_uid)
            return None
        return note.read(_MOST_NOTE_BYTES).decode(errors="replace")


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _ledger_of(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/{LEDGER_DESCRIPTOR}")
    except OSError:
        return ""


def _identity(path: str) -> tuple[int, int] | None:
    """Return which file a path leads to."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _parent_of(pid: int) -> int:
    """Return a process's parent; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _write(path: Path, text: str) -> None:
    """Write a file whole, and never through what somebody else has put in its place."""
    made = path.with_suffix(".note")
    made.unlink(missing_ok=True)
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w") as note:
        note.write(text)
    made.rename(path)
