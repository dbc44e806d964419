"""What the synchronous client does its own way; all else is generated from the asyncio client.

Whoever waits for events can do nothing else meanwhile, so `OwnServer.watch` takes a timeout. Requests that
are to run at the same time go out together, as there are no tasks to wait for one each. What blocks may
block. A server that is forgotten is closed, with a warning. Servers and nodes can be pickled; see `pickled`.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ParamSpec, TypeVar

from .. import requests
from ..connection import Progress, timed_out
from ..direct import LeaseOverError, Line
from ..display import NodeDisplay
from ..errors import SnapservError
from ..framing import framed
from ..protocol import Event
from ..requests import Reply, Request
from .connection import INTERRUPT_WITHIN_S
from .home import Home

CLIENT = "snapserv-client"
"""What it is called in the server's log."""

P = ParamSpec("P")
T = TypeVar("T")


def blocking(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call what blocks."""
    return function(*args, **kwargs)


def settled(value: object) -> object:
    """Return what a function of the caller's has returned."""
    return value


class Stream(Line):
    """A stream to a branch's process; Ctrl-C stops a step."""

    def ask(
        self, request: Request[Any], request_id: int, timeout_s: float | None, progress: Progress | None
    ) -> Reply:
        """Send a request and wait for its reply; see `snapserv_client.aio.own.Stream.ask`."""
        try:
            self.begin(request, request_id)
            return self.end(request, request_id, timeout_s, progress)
        except KeyboardInterrupt:
            self._stop(request, request_id)
            raise

    def begin(self, request: Request[Any], request_id: int) -> None:
        """Send a request, whose reply is waited for by `end`."""
        parts = framed(request.frames(request_id))
        self.busy = True
        try:
            for part in parts:
                self._socket.sendall(part)
        except OSError:
            self.close()  # and whoever waits for the reply hears of it

    def end(
        self, request: Request[Any], request_id: int, timeout_s: float | None, progress: Progress | None
    ) -> Reply:
        """Wait for the reply to a request that was sent."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            return self._reply(request_id, deadline, progress)
        except TimeoutError as cause:
            self.close()
            raise timed_out(request.verb, timeout_s) from cause
        except (EOFError, OSError) as cause:
            self.close()
            raise LeaseOverError from cause
        except KeyboardInterrupt:
            self._stop(request, request_id)
            raise
        finally:
            self.busy = False

    def _stop(self, request: Request[Any], request_id: int) -> None:
        """Interrupt a request and wait until it has stopped; the branch is the server's again."""
        if request.verb == "step" and not self.closed:
            self._interrupt(request_id)
            with contextlib.suppress(SnapservError, LeaseOverError, EOFError, OSError):
                self._reply(request_id, time.monotonic() + INTERRUPT_WITHIN_S, None)
        self.close()

    def _reply(self, request_id: int, deadline: float | None, progress: Progress | None) -> Reply:
        frames = None
        while True:
            while frames is None:
                if deadline is not None:
                    self._socket.settimeout(max(1e-6, deadline - time.monotonic()))
                self._reader.more()
                frames = self._next()
            if deadline is not None:
                self._socket.settimeout(None)
            reply = self._heard(frames, request_id, progress)
            if reply is not None:
                return reply
            frames = self._next()


class OwnServer(Home):
    """What only this client's server has."""

    _closes_itself = False
    """Whether nobody closes it, who has it from a pickle."""

    def watch(self, *, timeout_s: float | None = None) -> Iterator[Event]:
        """Yield events as they happen, until the server ends or none came for ``timeout_s``."""
        where = self._connection.run(requests.watch())
        socket = self._connection.subscribe(requests.events_endpoint(self.endpoint, where.events))
        try:
            while socket.poll(None if timeout_s is None else round(timeout_s * 1000)):
                event = requests.event_of(socket.recv_multipart())
                if event is None:
                    continue
                yield event
                if event.kind == "shutdown":
                    return
        finally:
            socket.close()

    def close(self) -> None:
        """Close the connection."""
        raise NotImplementedError

    def __del__(self) -> None:
        if not self._connection.closed:
            if not self._closes_itself:
                warnings.warn(f"{self!r} was not closed", ResourceWarning, stacklevel=2)
            self.close()


class OwnNode(NodeDisplay):
    """What only this client's nodes have."""

    _server: Home

    def run_together(self, wanted: Sequence[Request[T]]) -> list[T]:
        """Run requests of `snapserv_client.requests` at the same time, on its connection; see `Connection`."""
        return self._server._connection.run_together(wanted)
