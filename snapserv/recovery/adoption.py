"""The cells of a server that was killed: finding them, and the ledger that they hold, and taking them in.

Beside its socket a server has another, on which cells of an earlier one introduce themselves, and a note of what
its ledger is called. Both are gone when it ends as it should, and cells that find them gone end as well. What is
left of them says that a server was killed; whoever holds a memfd of the noted name is one of its cells.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
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
    try:
        name = _note(path).read_text()
    except FileNotFoundError:
        return Survivors(Ledger.create(), frozenset())
    orphans = frozenset(pid for pid in _processes() if _ledger_of(pid) == name)
    if fresh:
        for pid in orphans:
            end(pid)
        return Survivors(Ledger.create(), frozenset())
    for pid in orphans:
        with contextlib.suppress(OSError):  # it has ended meanwhile
            return Survivors(
                Ledger(os.open(f"/proc/{pid}/fd/{LEDGER_DESCRIPTOR}", os.O_RDWR | os.O_CLOEXEC)), orphans
            )
    return Survivors(Ledger.create(), frozenset())


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


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _ledger_of(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/{LEDGER_DESCRIPTOR}")
    except OSError:
        return ""


def _write(path: Path, text: str) -> None:
    made = path.with_suffix(".note")
    made.write_text(text)
    made.chmod(0o600)
    made.rename(path)
