"""A branch of one's own: what both clients' streams to a branch's process have in common.

A stream is leased from the server, which has it end as soon as somebody else wants the branch. What was asked then
and not answered is asked again by way of the server, with the same id: it is done once, wherever it arrives.
"""

from __future__ import annotations

import contextlib
import os
import socket
import weakref
from typing import Any

from . import requests
from .connection import Progress
from .errors import SimulationError, SnapservError
from .framing import Reader, framed
from .requests import Reply, Request
from .wire import Frames, unpack

MOST_PAUSES = 64
"""At most so many requests go by way of the server before another lease is tried."""


class LeaseOverError(Exception):
    """The stream has ended before it brought the reply."""


class ElsewhereError(Exception):
    """The branch's process does not do it by itself: the server is to be asked."""


class Pauses:
    """When to try another lease: where others want the branch as well, leases end before they are of any use."""

    def __init__(self) -> None:
        self._length = self._left = 0

    def over(self) -> bool:
        """Return whether to try now."""
        self._left = max(0, self._left - 1)
        return not self._left

    def note(self, served: int) -> None:
        """Take note that a lease has ended after so many requests."""
        self._length = 0 if served > MOST_PAUSES else min(MOST_PAUSES, 2 * self._length + 1)
        self._left = self._length + 1


def goes_directly(request: Request[Any]) -> bool:
    """Return whether a branch's own process may do it, so that it is worth asking."""
    if request.verb in ("step", "call"):
        return not request.args.get("atomic") and request.args.get("timeout_s") is None
    return request.verb == "read"


class Line:
    """A stream to a branch's process, which takes one request at a time.

    Args:
        descriptor: A connected socket, which is this object's from now on.
    """

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._reader = Reader(self._socket)
        self._release = weakref.finalize(self, _hang_up, os.getpid(), self._socket)
        self.busy = False
        self.served = 0

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return not self._release.alive

    def close(self) -> None:
        """Hang up; the branch is the server's again."""
        self._release()

    def _heard(self, frames: Frames, request_id: int, progress: Progress | None) -> Reply | None:
        """Return a final reply; None for a message that is none, or late.

        Raises:
            ElsewhereError: The server is to be asked.
            SnapservError: What the request met; after an error the lease is over.
        """
        try:
            header = unpack(frames[1], frames[2:])
        except SnapservError as cause:
            raise SimulationError(
                f"what it returned cannot be read: {cause}",
                details={"completed": True},
                hint="keys of dicts must be plain values: no tuples",
            ) from cause
        if isinstance(header, dict) and header.get("id") == request_id and header.get("elsewhere"):
            raise ElsewhereError
        reply = Reply.of(header)
        if reply.id != request_id:
            return None
        if reply.error is not None:
            self.close()
            raise reply.error
        if not reply.final:
            if progress is not None and reply.progress is not None:
                progress(reply.progress.done, reply.progress.total)
            return None
        self.served += 1
        return reply

    def _next(self) -> Frames | None:
        """Return the next message, if all of it is here.

        Raises:
            LeaseOverError: What has come is none.
        """
        try:
            return self._reader.take()
        except SnapservError as cause:
            self.close()
            raise LeaseOverError from cause

    def _interrupt(self, request_id: int) -> None:
        """Have a step stop after its tick."""
        stop = requests.interrupt(0, request=request_id).frames(request_id)
        with contextlib.suppress(OSError):
            for part in framed(stop):
                self._socket.send(part)


def _hang_up(owner: int, stream: socket.socket) -> None:
    if owner == os.getpid():  # a forked child has it as well, and it is its parent's
        with contextlib.suppress(OSError):
            stream.shutdown(socket.SHUT_RDWR)
    stream.close()
