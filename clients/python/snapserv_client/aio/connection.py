"""How requests get there and their replies come back, many at once: a task reads the socket for all who wait.

Only here: it belongs to one event loop; and cancelling the task that awaits a step or an expansion interrupts it.
"""

from __future__ import annotations

import asyncio
import math
import os
import warnings
from typing import Any, TypeVar

import zmq.asyncio

from .. import requests
from ..connection import Arrivals, Line, OnOutcome, Patience, Progress, connect_again, lost, timed_out
from ..errors import BadRequestError, InternalError, SnapservError
from ..keys import ClientKeys
from ..requests import Reply, Request
from ..transport import takes_output
from ..wire import Frames

T = TypeVar("T")


class Connection(Line):
    """A DEALER socket, one task that reads it, and the futures of the requests in flight."""

    def __init__(self, endpoint: str, timeout_s: float | None, keys: ClientKeys | None = None) -> None:
        self._owner = os.getpid()
        super().__init__(endpoint, timeout_s, keys)
        self._socket = zmq.asyncio.Socket(shadow=self._dealer)
        self._waiting: dict[int, tuple[asyncio.Future[Any], Progress | None, Arrivals]] = {}
        self._loop = asyncio.get_running_loop()
        self._heard = self._connected = self._loop.time()
        self._reader = self._loop.create_task(self._read())

    async def run(
        self,
        request: Request[T],
        *,
        timeout_s: float | None = None,
        progress: Progress | None = None,
        outcome: OnOutcome | None = None,
        request_id: int | None = None,
    ) -> T:
        """Send a request and await its result; see `snapserv_client.sync.connection.Connection.run`."""
        request_id = self.next_id() if request_id is None else request_id
        arrivals = Arrivals(request.outcomes, outcome)

        def wait() -> asyncio.Future[Reply]:
            reply: asyncio.Future[Reply] = self._loop.create_future()
            self._waiting[request_id] = (reply, progress, arrivals)
            return reply

        reply = wait()
        limit = timeout_s if timeout_s is not None or request.long else self.timeout_s
        frames = request.frames(request_id)
        try:
            if len(self._waiting) == 1 and not takes_output(self._dealer):
                connect_again(self._dealer, self.endpoint)  # it broke while nobody waited for anything
            await self._socket.send_multipart(frames, copy=False)
            deadline = math.inf if limit is None else self._loop.time() + limit
            async with asyncio.timeout(limit):
                answer = await self._patiently(reply, frames, request.verb, deadline)
                while arrivals.ask_again():
                    reply = wait()
                    await self._socket.send_multipart(frames, copy=False)
                    answer = await self._patiently(reply, frames, request.verb, deadline)
                answer.tell()
                return request.understand(answer.ok)
        except TimeoutError as cause:
            raise timed_out(request.verb, limit) from cause
        except asyncio.CancelledError:
            there = not self.closed and takes_output(self._dealer)  # otherwise nobody could stop it
            if there and request.verb in requests.INTERRUPTIBLE and request.node is not None:
                self._last_id += 1
                stop = requests.interrupt(request.node, request=request_id)
                await self._socket.send_multipart(stop.frames(self._last_id))
            raise
        finally:
            self._waiting.pop(request_id, None)

    def next_id(self) -> int:
        """Return the id of a new request.

        Raises:
            BadRequestError: The connection is closed, or somebody else's.
        """
        if self.closed or self._owner != os.getpid():
            raise BadRequestError("the connection is closed, or another process's", hint="connect again")
        if self._loop is not asyncio.get_running_loop():
            raise BadRequestError("the connection belongs to another event loop", hint="connect again in this one")
        self._last_id += 1
        return self._last_id

    async def _patiently(self, reply: asyncio.Future[Reply], frames: Frames, verb: str, deadline: float) -> Reply:
        """Await a reply, and send the request again where it takes long; see `connection.Patience`.

        Raises:
            UnreachableError: The server is gone, and no other has taken its place.
        """
        patience = Patience(self._loop.time(), sum(map(len, frames)))
        while not reply.done():
            await asyncio.wait((reply,), timeout=max(0.0, patience.wake - self._loop.time()))
            now = self._loop.time()
            if reply.done():
                break
            patience.heard(self._heard)
            if patience.lost(now) or self.gone:
                raise lost(self.endpoint)
            if patience.silent(now):
                self.tell_silent(verb, now, min(patience.left(now), deadline - now))
            broken = patience.deaf(now, self._connected) or not takes_output(self._dealer)
            if patience.retry(now):
                if broken:
                    connect_again(self._dealer, self.endpoint)
                    self._connected = now
                self._last_id += 1
                await self._socket.send_multipart(frames, copy=False)
                await self._socket.send_multipart(requests.ping().frames(self._last_id))
        return reply.result()

    async def close(self) -> None:
        """Close the socket; requests that are in flight get an error. In a forked child it only forgets it."""
        if self.closed:
            return
        self.closed = True
        if self._owner != os.getpid():
            return
        if self._loop is asyncio.get_running_loop():
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        for reply, _, _ in self._waiting.values():
            if not reply.done():
                reply.set_exception(BadRequestError("the connection was closed", hint="connect again"))
                reply.exception()  # whoever waits has it; asyncio need not complain of those that nobody waits for
        # It leaves the event loop as well, where a later connection may get the same descriptor.
        self._socket.close(0)
        self._release()

    def __del__(self) -> None:
        if not self.closed:
            warnings.warn(f"the connection to {self.endpoint} was not closed", ResourceWarning, stacklevel=2)

    async def _read(self) -> None:
        while True:
            frames = await self._socket.recv_multipart(copy=False)
            self._heard = self._loop.time()
            try:
                reply = Reply.parse([frame.buffer for frame in frames])
            except SnapservError as error:
                self._fail(InternalError(f"the server sent nonsense: {error}"))
                continue
            future, progress, arrivals = self._waiting.get(reply.id, (None, None, None))
            if future is None or arrivals is None or future.done():
                continue  # late: its caller gave up
            if reply.error is not None:
                future.set_exception(reply.error)
            elif reply.final:
                future.set_result(reply)
            else:
                try:
                    if progress is not None and reply.progress is not None:
                        progress(reply.progress.done, reply.progress.total)
                    if reply.outcome is not None:
                        arrivals.take(reply.outcome)
                except Exception as error:  # noqa: BLE001 - it is the caller's, and goes to the caller
                    future.set_exception(error)

    def _fail(self, error: SnapservError) -> None:
        for reply, _, _ in self._waiting.values():
            if not reply.done():
                reply.set_exception(error)
