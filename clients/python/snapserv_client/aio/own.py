"""What the asyncio client does its own way; all else is written once, for both (see ``generate_sync.py``).

Whoever waits for events can be cancelled, also by ``asyncio.timeout``, so `OwnServer.watch` takes no timeout.
Outcomes can be taken with ``async for`` as they come, while other tasks go on. Several requests at the same
time are ``asyncio.gather``'s. What blocks is done in a thread. A server that is forgotten stays open, since
closing has to be awaited: its connection complains.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack

import zmq.asyncio

from .. import protocol, requests
from ..connection import Progress, timed_out
from ..direct import LeaseOverError, Line
from ..display import NodeDisplay
from ..expansion import Options, Outcome
from ..framing import LARGE_READ_BYTES, framed
from ..plain import InputValues
from ..protocol import Event
from ..requests import Reply, Request
from .home import Home

if TYPE_CHECKING:
    from .branch import Branch
    from .node import Snapshot

CLIENT = "snapserv-client.aio"
"""What it is called in the server's log."""

P = ParamSpec("P")
T = TypeVar("T")


async def blocking(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call what blocks, such as the start or the end of a process, in a thread."""
    return await asyncio.to_thread(function, *args, **kwargs)


async def settled(value: object) -> object:
    """Return what a function of the caller's has returned or, where that is to be awaited, what comes of it."""
    return await value if inspect.isawaitable(value) else value


class Stream(Line):
    """A stream to a branch's process; whoever is cancelled while it waits for a step stops the step."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self._socket.setblocking(False)

    async def ask(
        self, request: Request[Any], request_id: int, timeout_s: float | None, progress: Progress | None
    ) -> Reply:
        """Send a request and await its reply.

        Raises:
            LeaseOverError: The stream has ended before.
            ElsewhereError: The server is to be asked.
            RequestTimeoutError: No reply in time; the stream is closed.
            SnapservError: What the request met.
        """
        parts, loop = framed(request.frames(request_id)), asyncio.get_running_loop()
        self.busy = True
        try:
            async with asyncio.timeout(timeout_s):
                for part in parts:
                    await loop.sock_sendall(self._socket, part)
                while True:
                    while (frames := self._next()) is None:
                        self._reader.feed(await loop.sock_recv(self._socket, LARGE_READ_BYTES))
                    reply = self._heard(frames, request_id, progress)
                    if reply is not None:
                        return reply
        except TimeoutError as cause:
            self.close()
            raise timed_out(request.verb, timeout_s) from cause
        except (EOFError, OSError) as cause:
            self.close()
            raise LeaseOverError from cause
        except asyncio.CancelledError:
            if request.verb == "step":
                self._interrupt(request_id)
            self.close()
            raise
        finally:
            self.busy = False


class OwnServer(Home):
    """What only this client's server has."""

    async def watch(self) -> AsyncIterator[Event]:
        """Yield events as they happen, until the server ends."""
        where = await self._connection.run(requests.watch())
        plain = self._connection.subscribe(requests.events_endpoint(self.endpoint, where.events))
        socket = zmq.asyncio.Socket(shadow=plain)
        try:
            while True:
                event = requests.event_of(await socket.recv_multipart())
                if event is None:
                    continue
                yield event
                if event.kind == "shutdown":
                    return
        finally:
            socket.close()
            plain.close()


class OwnNode(NodeDisplay):
    """What only this client's nodes have."""

    _server: Home

    async def expand_as_completed(
        self, inputs: Sequence[InputValues | Sequence[InputValues]], **options: Unpack[Options]
    ) -> AsyncIterator[Outcome[Branch | Snapshot | None]]:
        """Try every input from here, and yield what came of each as soon as it is there; those that are kept last.

        Closing it early ends the children that are left: loop over it in ``async with contextlib.aclosing(...)``.
        """
        arrived: asyncio.Queue[protocol.Outcome | None] = asyncio.Queue()
        request = requests.expand(self.id, inputs, options)
        running = asyncio.create_task(self._server._run(request, outcome=arrived.put_nowait))
        running.add_done_callback(lambda _: arrived.put_nowait(None))
        held: dict[int, Outcome[Branch | Snapshot | None]] = {}
        seen: set[int] = set()
        keeps = options.get("keep", "none") != "none"
        try:
            while (found := await arrived.get()) is not None:
                outcome: Outcome[Branch | Snapshot | None] = Outcome(found)
                if keeps and outcome.ok:
                    held[outcome.index] = outcome
                elif outcome.index not in seen:
                    yield outcome
                seen.add(outcome.index)
            for kept in (await running).kept:
                held[kept.index].node = self._server._wrap(kept.node)
            for outcome in held.values():
                yield outcome
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
