"""How a request gets there and its reply comes back: one socket, and the requests in flight on it."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import zmq

from . import protocol, requests
from .errors import BadRequestError, RequestTimeoutError, SnapservError, UnreachableError
from .keys import ClientKeys
from .requests import Reply, Request
from .transport import receive_frames, routing_id, send_frames, takes_output
from .wire import Frames

T = TypeVar("T")
Progress = Callable[[int, int], None]
OnOutcome = Callable[[protocol.Outcome], None]

REQUEST_TIMEOUT_S = 60.0
INTERRUPT_WITHIN_S = 5.0
RETRY_AFTER_S = 1.0
RETRY_AT_MOST_EVERY_S = 5.0
SLOW_BYTES_PER_S = 1e6
"""How slow a network may be for a request to have arrived before it is sent again."""
DEAF_AFTER_S = 30.0
"""A connection on which nothing comes for so long is made anew."""
LOST_AFTER_S = 90.0
"""A server that says nothing at all for so long, to any of several retries, is taken for gone."""


class Waiting(TypedDict, total=False):
    """How a request is waited for; see `Connection.run`."""

    timeout_s: float | None
    progress: Progress | None
    outcome: OnOutcome | None


def refuse_missing_socket(endpoint: str) -> None:
    """Raise UnreachableError at once where an ipc endpoint's socket file does not exist."""
    if endpoint.startswith("ipc://") and not Path(endpoint.removeprefix("ipc://")).exists():
        raise unreachable(endpoint)


def unreachable(endpoint: str) -> UnreachableError:
    """Return the error for a server that is not there."""
    return UnreachableError(
        f"no server answers at {endpoint}",
        hint="start one with: snapserv serve MODULE:CLASS",
        details={"endpoint": endpoint},
    )


def connect_again(socket: zmq.Socket[bytes], endpoint: str) -> None:
    """Give a socket a fresh connection in the place of the one that it has, or has lost."""
    with contextlib.suppress(zmq.ZMQError):  # it was given up already
        socket.disconnect(endpoint)
    socket.connect(endpoint)


def release(owner: int, socket: zmq.Socket[bytes], context: zmq.Context[zmq.Socket[bytes]]) -> None:
    """Close a socket and its context, in the process that made them: in a forked child they are its parent's."""
    if owner == os.getpid():
        socket.close(0)
        context.destroy(0)


class Patience:
    """When to send a request again that has no reply yet, and when to give the server up.

    A request is sent again with the same id, first after `RETRY_AFTER_S` and then ever more rarely. The server does
    it once all the same: it ignores the retry of what still runs, and answers that of what was done with the first
    reply, also where another server has taken its place meanwhile. So a message may get lost anywhere.

    Args:
        now: The clock.
        size_bytes: The request's: a large one is given the time that it takes on a slow network.
    """

    def __init__(self, now: float, size_bytes: int) -> None:
        self._heard = now
        self._at_least = RETRY_AFTER_S + size_bytes / SLOW_BYTES_PER_S
        self._pause = self._at_least
        self.next = now + self._pause

    def heard(self, now: float) -> None:
        """Take note that the server said something."""
        self._heard = now

    def retry(self, now: float) -> bool:
        """Return whether it is time to send the request again; a ping goes with it, which is answered at once."""
        if now < self.next:
            return False
        self._pause = max(self._at_least, min(2 * self._pause, RETRY_AT_MOST_EVERY_S))
        self.next = now + self._pause
        return True

    def deaf(self, now: float, connected: float) -> bool:
        """Return whether the connection, made at ``connected``, is to be made anew, though it takes requests.

        Not soon: what does not come can be a large reply that is still on its way.
        """
        return now - max(self._heard, connected) > DEAF_AFTER_S

    def lost(self, now: float) -> bool:
        """Return whether the server is to be taken for gone."""
        return now - self._heard > LOST_AFTER_S


class Connection:
    """A DEALER socket, and the requests that are in flight on it."""

    def __init__(self, endpoint: str, timeout_s: float | None, keys: ClientKeys | None = None) -> None:
        self.endpoint = endpoint
        self.timeout_s = timeout_s
        self.keys = keys
        self._owner = (os.getpid(), threading.get_ident())
        refuse_missing_socket(endpoint)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        # Whether closed or forgotten: first the socket goes, then the context, which would wait for it.
        self._release = weakref.finalize(self, release, os.getpid(), self._socket, self._context)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.ROUTING_ID, routing_id())
        if keys is not None:
            keys.secure(self._socket)
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as cause:
            self._release()
            raise BadRequestError(
                f"{endpoint!r} is no endpoint: {cause.strerror}", hint="write ipc:///PATH or tcp://HOST:PORT"
            ) from cause
        self._last_id = 0
        self._receive_timeout_ms = -1
        self._early: dict[int, deque[Reply]] = {}  # of requests that wait while a callback of theirs asks something
        self.closed = False

    def run(
        self,
        request: Request[T],
        *,
        timeout_s: float | None = None,
        progress: Progress | None = None,
        outcome: OnOutcome | None = None,
    ) -> T:
        """Send a request and wait for its result.

        Args:
            request: What to ask.
            timeout_s: How long to wait; the connection's own timeout by default, for ever where the request runs
                the simulation's code.
            progress: Called with ticks done and wanted.
            outcome: Called with what came of each child, as soon as it is there.

        Raises:
            RequestTimeoutError: No reply in time. The connection stays usable; a late reply is dropped.
            UnreachableError: The server is gone, and no other has taken its place.
            SnapservError: What the server answered.
            KeyboardInterrupt: Ctrl-C; a step that was running has stopped between two ticks.
        """
        self._check_owner()
        self._last_id += 1
        request_id = self._last_id
        frames = request.frames(request_id)
        if not self._early and not takes_output(self._socket):
            connect_again(self._socket, self.endpoint)  # it broke while nobody waited for anything
        send_frames(self._socket, frames)
        limit = timeout_s if timeout_s is not None or request.long else self.timeout_s
        self._early[request_id] = deque()
        try:
            return self._result(request, request_id, frames, limit, progress, outcome)
        except KeyboardInterrupt:
            if request.verb in ("step", "expand"):
                self._stop(request, request_id)
            raise
        finally:
            del self._early[request_id]

    def run_together(self, wanted: Sequence[Request[T]]) -> list[T]:
        """Send several requests at once and wait for all of their results, in order.

        Raises:
            SnapservError: The first error, once all are answered.
        """
        self._check_owner()
        sent: dict[int, Frames] = {}
        for request in wanted:
            self._last_id += 1
            sent[self._last_id] = request.frames(self._last_id)
            self._early[self._last_id] = deque()
            send_frames(self._socket, sent[self._last_id])
        results: list[T] = []
        failed: SnapservError | None = None
        try:
            for (request_id, frames), request in zip(sent.items(), wanted, strict=True):
                try:
                    limit = None if request.long else self.timeout_s
                    results.append(self._result(request, request_id, frames, limit, None, None))
                except SnapservError as error:
                    failed = failed or error
        finally:
            for request_id in sent:
                del self._early[request_id]
        if failed is not None:
            raise failed
        return results

    def close(self) -> None:
        """Close the socket. In a forked child it only forgets it: it is the parent's."""
        if self.closed:
            return
        self.closed = True
        self._release()

    def subscribe(self, endpoint: str) -> zmq.Socket[bytes]:
        """Return a SUB socket on the server's events, which the caller closes."""
        self._check_owner()
        socket = self._context.socket(zmq.SUB)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        if self.keys is not None:
            self.keys.secure(socket)
        socket.connect(endpoint)
        return socket

    def _result(
        self,
        request: Request[T],
        request_id: int,
        frames: Frames,
        timeout_s: float | None,
        progress: Progress | None,
        outcome: OnOutcome | None,
    ) -> T:
        now = connected = time.monotonic()
        deadline = None if timeout_s is None else now + timeout_s
        patience = Patience(now, sum(map(len, frames)))
        early = self._early[request_id]
        while True:
            if early:
                reply = early.popleft()
            else:
                wake = patience.next if deadline is None else min(deadline, patience.next)
                self._wait_at_most(max(0.0, wake - time.monotonic()))
                try:
                    reply = Reply.parse(receive_frames(self._socket))
                except zmq.Again:
                    now = time.monotonic()
                    if deadline is not None and now >= deadline:
                        raise RequestTimeoutError(
                            f"no reply to {request.verb} within {timeout_s:g} s",
                            hint="it may still be running; interrupt stops a step",
                        ) from None
                    if patience.lost(now):
                        raise unreachable(self.endpoint) from None
                    broken = patience.deaf(now, connected) or not takes_output(self._socket)
                    if patience.retry(now):
                        if broken:
                            connect_again(self._socket, self.endpoint)
                            connected = now
                        self._last_id += 1
                        send_frames(self._socket, frames)
                        send_frames(self._socket, requests.ping().frames(self._last_id))
                    continue
                patience.heard(time.monotonic())
            if reply.id != request_id:
                if reply.id in self._early:
                    self._early[reply.id].append(reply)
                continue  # otherwise it is late: its caller gave up
            if reply.final:
                if reply.error is not None:
                    raise reply.error
                return request.understand(reply.ok)
            if progress is not None and reply.progress is not None:
                progress(reply.progress.done, reply.progress.total)
            if outcome is not None and reply.outcome is not None:
                outcome(reply.outcome)

    def _wait_at_most(self, seconds: float) -> None:
        wanted = math.ceil(seconds * 1000)
        if wanted != self._receive_timeout_ms:
            self._receive_timeout_ms = wanted
            self._socket.setsockopt(zmq.RCVTIMEO, wanted)

    def _stop(self, request: Request[Any], request_id: int) -> None:
        """Interrupt a request and wait until it has stopped, so that nothing moves when this returns."""
        node = request.node
        if node is None:
            return
        self._last_id += 1
        interrupt = requests.interrupt(node, request=request_id)
        send_frames(self._socket, interrupt.frames(self._last_id))
        try:
            self._result(request, request_id, request.frames(request_id), INTERRUPT_WITHIN_S, None, None)
        except SnapservError:
            return  # `interrupted`, as it should be, or the step had ended with an error of its own

    def _check_owner(self) -> None:
        if self.closed:
            raise BadRequestError("the connection is closed", hint="connect again")
        if self._owner != (os.getpid(), threading.get_ident()):
            raise BadRequestError(
                "a connection belongs to the thread and process that made it",
                hint="connect again here, or use snapserv_client.aio for many requests at once",
            )
