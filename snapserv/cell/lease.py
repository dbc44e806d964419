"""A lease: a client has a branch to itself, and asks it without the server, through a second socket.

The server's own socket is listened to all along: whatever comes there ends the lease after the request that runs.
So nobody waits for the client: neither whoever else wants the branch, nor a server that takes another one's place.
What goes wrong ends the lease as well, for the server has to know it; and what the cell does not do by itself, as
it is the server's to refuse, to roll back or to copy, the client is told to ask the server for.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from snapserv_client.framing import Reader, framed
from snapserv_client.protocol import CallArgs, InterruptArgs, Progress, ReadArgs, RequestHeader, StepArgs
from snapserv_client.wire import MAGIC, Frames, convert, pack, unpack

from ..errors import SnapservError, error_from_wire
from ..ext import fork
from ..memory.regions import resolve_region
from ..simulation.base import Simulation
from .holdings import notice_of
from .link import CellEnd, unsendable
from .ticks import FOUND, SAID, looked_at

MOST_READ_BYTES = 1 << 16
"""A larger region is read from outside, which touches no page of the branch."""
_NO_WAIT = int(socket.MSG_DONTWAIT) | int(socket.MSG_NOSIGNAL)


class Leased(Protocol):
    """What a lease knows of its cell."""

    @property
    def step(self) -> int:
        """How many ticks its state is from its tree's root."""

    def answer(self, request: Mapping[str, Any], descriptor: int | None = None) -> dict[str, Any]:
        """Do a request, and return its reply."""

    def delivered(self) -> None:
        """Take note that whoever asked last has the reply."""

    def housekeep(self) -> None:
        """Do what there is to do between two requests."""


class Lease:
    """The way to the client, for as long as the lease lasts.

    Args:
        control: The server's end.
        descriptor: The client's end of the second socket; closed with the lease.
        request: What the server asked: the lease's ``number``, which ``client`` it is, and the branch's ``path``.
    """

    def __init__(self, control: CellEnd, descriptor: int, request: Mapping[str, Any]) -> None:
        self._control = control
        self._number: int = request["number"]
        self._client: bytes = request["client"]
        self._path: str = request["path"]
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(True)
        self._own = descriptor
        fork.lease_is(descriptor)
        self._reader = Reader(self._socket)
        self._stashed: deque[Frames] = deque()
        self._gone = False
        self._farewell: Frames | None = None
        self._reports = 0
        self._poll = select.poll()
        self._poll.register(control.fileno(), select.POLLIN)
        self._poll.register(descriptor, select.POLLIN)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Those that are no part of the simulation's."""
        return self._control.fileno(), self._own

    def close(self) -> None:
        """Tell the client what the lease ended with, if it does not know, and hang up."""
        if self._farewell is not None:
            self._send(self._farewell)
        fork.lease_is(-1)
        self._socket.close()

    def serve(self, simulation: Simulation, cell: Leased) -> dict[str, Any]:
        """Do what the client asks until the lease ends; return what the server has to know of it.

        Raises:
            EOFError: The server is gone, and no other will come.
        """
        ticks = 0
        while (frames := self._next()) is not None:
            try:
                header = convert(unpack(frames[1], frames[2:], request=True), RequestHeader, what="header")
            except SnapservError:
                break  # what is no request ends it: nothing was done
            try:
                ask = self._understood(simulation, cell, header)
            except SnapservError:
                ask = None  # to be refused by the server, as ever
            if ask is None:
                self._tell({"id": header.id, "elsewhere": True})
                continue
            reply = ask()
            told, error = _sendable(header.id, self._as_told(header.verb, reply))
            done: Any = reply.get("ok") if error is None else error.details
            ticks += done.get("ticks", 0) if header.verb == "step" and isinstance(done, dict) else 0
            if error is not None:
                # The server hears of it first: whoever has heard of it and asks the server finds that it knows.
                self._farewell = told
                return {"ticks": ticks, "error": error.to_wire(), "missed": [header.id, {"error": error.to_wire()}]}
            if not self._send(told):
                return {"ticks": ticks, "error": None, "missed": [header.id, reply]}
            cell.delivered()
            cell.housekeep()
        return {"ticks": ticks, "error": None, "missed": None}

    # -------------------------------------------------------------------------------------- what a step looks at

    def waiting(self, kind: int, number: int) -> bool:
        """Return whether the request that runs is to stop: its client says so, or the server does."""
        if self._control.waiting(kind, self._number):
            return True
        try:
            self._reader.more(wait=False)
        except BlockingIOError:
            return False
        except EOFError:
            self._gone = True  # what runs goes on: it was asked for
            return False
        try:
            while (frames := self._reader.take()) is not None:
                header = convert(unpack(frames[1], frames[2:], request=True), RequestHeader, what="header")
                if header.verb != "interrupt":
                    self._stashed.append(frames)
                elif convert(header.args, InterruptArgs, what="interrupt").request in (number, None):
                    return True
        except SnapservError:
            self._gone = True
        return False

    def ready(self) -> bool:
        """Return whether somebody waits for the cell."""
        return bool(self._gone or self._stashed or self._control.holds or self._poll.poll(0))

    def send(self, kind: int, told: Mapping[str, int]) -> None:
        """Report progress, where that is wanted."""
        if self._reports:
            self._tell({"id": self._reports, "progress": Progress(told["done"], told["total"])})

    # ------------------------------------------------------------------------------------------------- requests

    def _next(self) -> Frames | None:
        """Wait for the client's next request; None where the lease has ended."""
        while not (self._gone or self._control.holds):
            if self._stashed:
                return self._stashed.popleft()
            try:
                frames = self._reader.take()
                if frames is not None:
                    return frames
                ready = self._poll.poll()
                if len(ready) > 1 or ready[0][0] != self._own:
                    return None  # the server wants something
                self._reader.more()
            except (EOFError, SnapservError):
                return None
        return None

    def _understood(
        self, simulation: Simulation, cell: Leased, header: RequestHeader
    ) -> Callable[[], dict[str, Any]] | None:
        """Return what does a request, or None where the server has to.

        Raises:
            SnapservError: It is none that there is.
        """
        self._reports = 0
        key = (self._client, header.id)
        if header.verb == "step":
            step = convert(header.args, StepArgs, what="step")
            if step.atomic or step.timeout_s is not None or step.snapshot:
                return None
            self._reports = header.id if step.progress else 0
            asked = {"op": "step", "ticks": step.ticks, "inputs": step.inputs, **looked_at(step)}
        elif header.verb == "call":
            call = convert(header.args, CallArgs, what="call")
            if call.atomic:
                return None
            simulation.exported_method(call.method)
            asked = {"op": "call", "method": call.method, "args": call.args, "kwargs": call.kwargs}
        elif header.verb == "read":
            return _reading(simulation, cell, convert(header.args, ReadArgs, what="read"))
        else:
            return None
        return lambda: cell.answer({**asked, "number": header.id, "key": key})

    def _as_told(self, verb: str, reply: dict[str, Any]) -> dict[str, Any]:
        """Return a reply as a client is told it."""
        if verb != "step" or "error" in reply:
            return reply
        done = reply["ok"]
        notices = [notice_of(self._path, held) for held in done.get("held", ())]
        told = {"ok": {name: done[name] for name in (*SAID, *FOUND) if name in done}}
        return {**told, "notices": notices} if notices else told

    def _tell(self, header: dict[str, Any]) -> bool:
        return self._send(pack(header))

    def _send(self, frames: Frames) -> bool:
        """Send a message; return whether the client has it: nobody waits for one that does not take it."""
        for part in () if self._gone else framed([MAGIC, *frames]):
            view = memoryview(part)
            while view:
                try:
                    view = view[self._socket.send(view, _NO_WAIT) :]
                except BlockingIOError:
                    self._gone = not self._has_room()
                except (BrokenPipeError, ConnectionResetError):
                    self._gone = True
                if self._gone:
                    return False
        return not self._gone

    def _has_room(self) -> bool:
        """Wait until the client takes more, or the server wants something; return which it was."""
        waiting = select.poll()
        waiting.register(self._socket, select.POLLOUT)
        waiting.register(self._control.fileno(), select.POLLIN)
        return not self._control.holds and all(ready != self._control.fileno() for ready, _ in waiting.poll())


def _reading(simulation: Simulation, cell: Leased, args: ReadArgs) -> Callable[[], dict[str, Any]] | None:
    array = simulation.array(args.field)
    region = resolve_region(args.region, array.shape, what=args.field)
    taken = array[(*region.select, ...)]
    if taken.nbytes > MOST_READ_BYTES:
        return None
    return lambda: {"ok": {"value": np.array(taken, order="C"), "step": cell.step}}


def _sendable(request: int, reply: dict[str, Any]) -> tuple[Frames, SnapservError | None]:
    """Return a reply as frames, and the error that it is, also because it cannot be sent."""
    try:
        frames = pack({"id": request, **reply})
    except SnapservError as cause:
        error = unsendable(cause)
        return pack({"id": request, "error": error.to_wire()}), error
    return frames, error_from_wire(reply["error"]) if "error" in reply else None
