"""How a request gets there and its reply comes back, one at a time: whoever asks reads the socket, and waits.

Only here: it belongs to one thread; a callback may ask for something itself while its request waits; Ctrl-C stops
what runs; and several requests can be sent together, since nobody could send the next while the first is awaited.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import TypeVar

import zmq

from .. import requests
from ..connection import Arrivals, Line, OnOutcome, Patience, Progress, connect_again, lost, timed_out
from ..errors import BadRequestError, SnapservError
from ..keys import ClientKeys
from ..requests import Reply, Request
from ..transport import NOBLOCK, receive_frames, send_frames, takes_output
from ..wire import Frames

T = TypeVar("T")
INTERRUPT_WITHIN_S = 5.0


class Connection(Line):
    """A DEALER socket, and the requests that are in flight on it."""

    def __init__(self, endpoint: str, timeout_s: float | None, keys: ClientKeys | None = None) -> None:
        self._owner = (os.getpid(), threading.get_ident())
        super().__init__(endpoint, timeout_s, keys)
        self._socket = self._dealer
        self._receive_timeout_ms = -1
        self._early: dict[int, deque[Reply]] = {}  # of requests that wait while a callback of theirs asks something

    def run(
        self,
        request: Request[T],
        *,
        timeout_s: float | None = None,
        progress: Progress | None = None,
        outcome: OnOutcome | None = None,
        request_id: int | None = None,
    ) -> T:
        """Send a request and wait for its result.

        Args:
            request: What to ask.
            timeout_s: How long to wait; the connection's own timeout by default, for ever where the request runs
                the simulation's code.
            progress: Called with ticks done and wanted.
            outcome: Called with what came of each child, as soon as it is there; perhaps twice with the same one.
            request_id: Its id, where it was sent already.

        Raises:
            RequestTimeoutError: No reply in time. The connection stays usable; a late reply is dropped.
            UnreachableError: The server is gone, and no other has taken its place.
            SnapservError: What the server answered.
            KeyboardInterrupt: Ctrl-C; a step that was running has stopped between two ticks.
        """
        request_id = self.next_id() if request_id is None else request_id
        frames = request.frames(request_id)
        limit = timeout_s if timeout_s is not None or request.long else self.timeout_s
        alone = not self._early
        self._early[request_id] = deque()
        try:
            self._send(frames, alone=alone)
            return self._result(request, request_id, frames, limit, progress, outcome)
        except KeyboardInterrupt:
            self._settle()
            if request.verb in requests.INTERRUPTIBLE and request.node is not None:
                self._stop(request.node, request_id)
            raise
        finally:
            del self._early[request_id]

    def _send(self, frames: Frames, *, alone: bool) -> None:
        if not alone:
            send_frames(self._socket, frames)
            return
        try:
            send_frames(self._socket, frames, flags=NOBLOCK)
        except zmq.Again:
            connect_again(self._socket, self.endpoint)  # it broke while nobody waited for anything
            send_frames(self._socket, frames)

    def next_id(self) -> int:
        """Return the id of a new request.

        Raises:
            BadRequestError: The connection is closed, or somebody else's.
        """
        self._check_owner()
        self._last_id += 1
        return self._last_id

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
        return super().subscribe(endpoint)

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
        arrivals = Arrivals(request.outcomes, outcome)
        while True:
            if early:
                reply = early.popleft()
            else:
                wake = patience.wake if deadline is None else min(deadline, patience.wake)
                self._wait_at_most(max(0.0, wake - time.monotonic()))
                try:
                    reply = Reply.parse(receive_frames(self._socket))
                except zmq.Again:
                    now = time.monotonic()
                    if deadline is not None and now >= deadline:
                        raise timed_out(request.verb, timeout_s) from None
                    if patience.lost(now) or self.gone:
                        raise lost(self.endpoint) from None
                    if patience.silent(now):
                        left = patience.left(now)
                        self.tell_silent(request.verb, now, left if deadline is None else min(left, deadline - now))
                    broken = patience.deaf(now, connected) or not takes_output(self._socket)
                    if patience.retry(now):
                        if broken:
                            connect_again(self._socket, self.endpoint)
                            connected = now
                        self._last_id += 1
                        send_frames(self._socket, frames)
                        send_frames(self._socket, requests.ping().frames(self._last_id))
                    continue
                if reply.id == request_id and reply.ok is not None and reply.error is None and not request.outcomes:
                    reply.tell()
                    return request.understand(reply.ok)  # as nearly always
                patience.heard(time.monotonic())
            if reply.id != request_id:
                if reply.id in self._early:
                    self._early[reply.id].append(reply)
                continue  # otherwise it is late: its caller gave up
            if reply.final:
                if reply.error is not None:
                    raise reply.error
                if arrivals.ask_again():
                    send_frames(self._socket, frames)
                    continue
                reply.tell()
                return request.understand(reply.ok)
            if progress is not None and reply.progress is not None:
                progress(reply.progress.done, reply.progress.total)
            if reply.outcome is not None:
                arrivals.take(reply.outcome)

    def _wait_at_most(self, seconds: float) -> None:
        wanted = math.ceil(seconds * 1000)
        if wanted != self._receive_timeout_ms:
            self._receive_timeout_ms = wanted
            self._socket.setsockopt(zmq.RCVTIMEO, wanted)

    def _settle(self) -> None:
        """Have the next message begin, on either way, where Ctrl-C may have come in the midst of one.

        What was cut short ends with a ping's frames, and is refused; where nothing was, it is a ping.
        """
        while self._socket.getsockopt(zmq.RCVMORE):
            self._socket.recv()
        self._last_id += 1
        send_frames(self._socket, requests.ping().frames(self._last_id))

    def _stop(self, node: str | int, request_id: int) -> None:
        """Interrupt a request and wait until it has stopped, so that nothing moves when this returns.

        It is not sent again meanwhile: what has not come there by now is not to begin.
        """
        self._last_id += 1
        stop_id, until = self._last_id, time.monotonic() + INTERRUPT_WITHIN_S
        stop = requests.interrupt(node, request=request_id)
        send_frames(self._socket, stop.frames(stop_id))
        early = self._early[request_id]
        while not any(reply.final for reply in early) and time.monotonic() < until:
            self._wait_at_most(until - time.monotonic())
            try:
                reply = Reply.parse(receive_frames(self._socket))
            except (zmq.Again, SnapservError):
                return  # the latter is a final reply that cannot be read
            if reply.id == stop_id and (reply.error is not None or not stop.understand(reply.ok)):
                return  # nothing of it runs
            if reply.id in self._early:
                self._early[reply.id].append(reply)

    def _check_owner(self) -> None:
        if self.closed:
            raise BadRequestError("the connection is closed", hint="connect again")
        if self._owner != (os.getpid(), threading.get_ident()):
            raise BadRequestError(
                "a connection belongs to the thread and process that made it",
                hint="connect again here, or use snapserv_client.aio for many requests at once",
            )
