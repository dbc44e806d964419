"""The side channel: a Unix socket at which a client of this user fetches descriptors that it holds tickets for.

A ticket is random and good for once, and a reply brings it to the client. Whoever shows it within `KEPT_S` is
handed the descriptor; otherwise that is closed, so that nothing is left of a client that has died in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
from snapserv_client.channel import HANDED, REFUSED, TICKET_BYTES

from .throttled_log import ThrottledLog

log = structlog.get_logger(__name__)

KEPT_S = 5.0
"""For how long a descriptor is kept for whoever has its ticket."""
SHOWN_WITHIN_S = 5.0
MOST_CALLERS = 64
"""So many may be connected without having shown a ticket."""
_BACKLOG = 128
_CREDENTIALS = struct.Struct("=iII")


@dataclass(slots=True)
class _Kept:
    """A descriptor that somebody has a ticket for, and how many bytes it keeps in memory for which client."""

    descriptor: int
    client: bytes
    size: int
    expiry: asyncio.TimerHandle


class SideChannel:
    """Where tickets are shown.

    Args:
        path: Where the Unix socket is, in a folder of this user's own; removed by the caller.

    Raises:
        OSError: There can be no socket.
    """

    def __init__(self, path: Path) -> None:
        self._kept: dict[bytes, _Kept] = {}
        self._callers: dict[socket.socket, asyncio.TimerHandle] = {}
        self._refused = ThrottledLog()
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._socket.setblocking(False)
            path.unlink(missing_ok=True)
            self._socket.bind(str(path))
            path.chmod(0o600)
            self._socket.listen(_BACKLOG)
        except BaseException:
            self._socket.close()
            raise

    def open(self) -> None:
        """Hand out what is asked for from now on."""
        self._loop.add_reader(self._socket, self._accept)

    def keep(
        self, descriptor: int, client: bytes, size: int = 0, *, lost: Callable[[], None] | None = None
    ) -> bytes:
        """Return a ticket for a descriptor, which is closed here once it was handed over, or when nobody came.

        Args:
            descriptor: What is handed over.
            client: Whom the ticket is for.
            size: How many bytes it keeps in memory.
            lost: Called where nobody came.
        """
        ticket = secrets.token_bytes(TICKET_BYTES)
        expiry = self._loop.call_later(KEPT_S, self._expire, ticket, lost)
        self._kept[ticket] = _Kept(descriptor, client, size, expiry)
        return ticket

    def waiting_bytes(self, client: bytes) -> int:
        """Return how much is kept for a client that it has not fetched."""
        return sum(each.size for each in self._kept.values() if each.client == client)

    def close(self) -> None:
        """Let go of all that nobody has fetched."""
        if not self._loop.is_closed():
            self._loop.remove_reader(self._socket)
        self._socket.close()
        for connection in list(self._callers):
            self._dismiss(connection)
        for ticket in list(self._kept):
            self._drop(ticket)

    def _expire(self, ticket: bytes, lost: Callable[[], None] | None) -> None:
        self._drop(ticket)
        log.info("ticket_expired")
        if lost is not None:
            lost()

    def _drop(self, ticket: bytes) -> None:
        kept = self._kept.pop(ticket)
        kept.expiry.cancel()
        os.close(kept.descriptor)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # nobody waits any more, or there is no descriptor: whoever waits asks in the plain way
                return
            peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            pid, uid, _ = _CREDENTIALS.unpack(peer)
            if uid != os.geteuid() or len(self._callers) >= MOST_CALLERS:
                connection.close()
                self._refused.warn("stranger_turned_away", pid=pid, uid=uid)
                continue
            connection.setblocking(False)
            self._callers[connection] = self._loop.call_later(SHOWN_WITHIN_S, self._dismiss, connection)
            self._loop.add_reader(connection, self._answer, connection)
            self._answer(connection)  # it may have said so already

    def _answer(self, connection: socket.socket) -> None:
        """Hand over what a caller has the ticket for, and hang up."""
        try:
            ticket = connection.recv(TICKET_BYTES + 1)
        except BlockingIOError:
            return
        except OSError:
            ticket = b""
        with contextlib.suppress(OSError):  # it is gone: then so is what was sent to it
            if ticket in self._kept:
                socket.send_fds(connection, [HANDED], [self._kept[ticket].descriptor], socket.MSG_NOSIGNAL)
            else:
                connection.send(REFUSED, socket.MSG_NOSIGNAL)
        if ticket in self._kept:
            self._drop(ticket)
        self._dismiss(connection)

    def _dismiss(self, connection: socket.socket) -> None:
        self._callers.pop(connection).cancel()
        self._loop.remove_reader(connection)
        connection.close()
