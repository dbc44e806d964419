"""What both clients' connections have in common: their socket, and when to send again and when to give up."""

from __future__ import annotations

import contextlib
import math
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import zmq

from . import protocol
from .errors import BadRequestError, RequestTimeoutError, UnreachableError
from .handles import Handle
from .keys import ClientKeys
from .transport import routing_id
from .trust import refuse_strangers

Progress = Callable[[int, int], None]
OnOutcome = Callable[[protocol.Outcome], None]

REQUEST_TIMEOUT_S = 60.0
START_WITHIN_S = 600.0
"""How long the setup of a private server may take."""
RETRY_AFTER_S = 1.0
RETRY_AT_MOST_EVERY_S = 5.0
SLOW_BYTES_PER_S = 1e6
"""How slow a network may be for a request to have arrived before it is sent again."""
DEAF_AFTER_S = 30.0
"""A connection on which nothing comes for so long is made anew."""
LOST_AFTER_S = 90.0
"""A server that says nothing at all for so long, to any of several retries, is taken for gone."""
NOTICE_AFTER_S = 2.0
"""A server that says nothing for so long, nor to a ping for half of it, is waited for with a word about it."""
MOST_ASKED_AGAIN = 5
"""How often a request is sent again for outcomes that got lost on the way."""


class Waiting(TypedDict, total=False):
    """How a request is waited for; see ``Connection.run`` of either client."""

    timeout_s: float | None
    progress: Progress | None
    outcome: OnOutcome | None


def refuse_missing_socket(endpoint: str) -> None:
    """Raise UnreachableError at once where an ipc endpoint's socket file does not exist."""
    if endpoint.startswith("ipc://") and not Path(endpoint.removeprefix("ipc://")).exists():
        raise unreachable(endpoint)


def unreachable(endpoint: str, told: str = "") -> UnreachableError:
    """Return the error for a server that is not there."""
    return UnreachableError(
        f"no server answers at {endpoint}" + (f": {told}" if told else ""),
        hint="start one with: snapserv serve MODULE:CLASS",
        details={"endpoint": endpoint},
    )


def lost(endpoint: str) -> UnreachableError:
    """Return the error for a server that was there, and has said nothing for too long."""
    return unreachable(endpoint, f"it was there, and has said nothing for {LOST_AFTER_S:g} s")


def timed_out(verb: str, timeout_s: float | None) -> RequestTimeoutError:
    """Return the error for a reply that did not come in time."""
    return RequestTimeoutError(
        f"no reply to {verb} within {timeout_s:g} s", hint="it may still be running; interrupt stops a step"
    )


def connect_again(socket: zmq.Socket[bytes], endpoint: str) -> None:
    """Give a socket a fresh connection in the place of the one that it has, or has lost.

    Raises:
        UntrustedError: An ipc endpoint that may be a stranger's by now.
    """
    refuse_strangers(endpoint)
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

    __slots__ = ("_asked", "_at_least", "_heard", "_pause", "_told", "next")

    def __init__(self, now: float, size_bytes: int) -> None:
        self._heard = now
        self._asked = math.inf  # since when an answer to a ping is due
        self._told = False
        self._at_least = RETRY_AFTER_S + size_bytes / SLOW_BYTES_PER_S
        self._pause = self._at_least
        self.next = now + self._pause

    def heard(self, now: float) -> None:
        """Take note that the server said something, at that time."""
        if now > self._asked:
            self._asked = math.inf
        self._heard = max(self._heard, now)

    @property
    def wake(self) -> float:
        """When there is something to do next, should nothing come."""
        return self.next if self._told else min(self.next, self._notice)

    @property
    def _notice(self) -> float:
        return max(self._heard + NOTICE_AFTER_S, self._asked + NOTICE_AFTER_S / 2)

    def silent(self, now: float) -> bool:
        """Return whether the server has been silent for so long that whoever waits should hear of it; True once."""
        if self._told or now < self._notice:
            return False
        self._told = True
        return True

    def left(self, now: float) -> float:
        """Return for how long it may go on saying nothing, in seconds."""
        return max(0.0, self._heard + LOST_AFTER_S - now)

    def retry(self, now: float) -> bool:
        """Return whether it is time to send the request again; a ping goes with it, which is answered at once."""
        if now < self.next:
            return False
        self._pause = max(self._at_least, min(2 * self._pause, RETRY_AT_MOST_EVERY_S))
        self.next = now + self._pause
        self._asked = min(self._asked, now)
        return True

    def deaf(self, now: float, connected: float) -> bool:
        """Return whether the connection, made at ``connected``, is to be made anew, though it takes requests.

        Not soon: what does not come can be a large reply that is still on its way.
        """
        return now - max(self._heard, connected) > DEAF_AFTER_S

    def lost(self, now: float) -> bool:
        """Return whether the server is to be taken for gone."""
        return now - self._heard > LOST_AFTER_S


class Arrivals:
    """The outcomes of a request on their way in, and whether all have come when its final reply has.

    They have not where a connection broke in the middle. The request is sent again then, with the same id: the
    server remembers what it has sent. So some can come twice, and whoever is given them must not mind.

    Args:
        wanted: How many there will be.
        give: Called with each.
    """

    __slots__ = ("_asked", "_give", "_missing")

    def __init__(self, wanted: int, give: OnOutcome | None) -> None:
        self._give = give
        self._missing = set(range(wanted)) if give is not None else set()
        self._asked = 0

    def take(self, outcome: protocol.Outcome) -> None:
        """Give an outcome out."""
        self._missing.discard(outcome.index)
        if self._give is not None:
            self._give(outcome)

    def ask_again(self) -> bool:
        """Return whether to send the request again, where its final reply has come."""
        self._asked += 1
        return bool(self._missing) and self._asked <= MOST_ASKED_AGAIN


class Line(Handle):
    """A DEALER socket to a server, by which a client is known; how requests travel on it is each client's own.

    Args:
        endpoint: ``ipc:///PATH`` or ``tcp://HOST:PORT``.
        timeout_s: How long any request may take that does not run the simulation's code; None for ever.
        keys: What it needs to be let in, where the server asks for keys.

    Raises:
        UnreachableError: An ipc endpoint that is not there.
        UntrustedError: An ipc endpoint that may be a stranger's.
        BadRequestError: No endpoint.
    """

    def __init__(self, endpoint: str, timeout_s: float | None, keys: ClientKeys | None = None) -> None:
        self.endpoint = endpoint
        self.timeout_s = timeout_s
        self.keys = keys
        self.closed = True  # until there is something to close
        self.gone = False
        """Whether somebody knows that the server is gone for good: nobody waits for it then."""
        refuse_missing_socket(endpoint)
        refuse_strangers(endpoint)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._dealer = self._context.socket(zmq.DEALER)
        # Whether closed or forgotten, and whether an event loop still runs: first the socket goes, then the
        # context, which would wait for it.
        self._release = weakref.finalize(self, release, os.getpid(), self._dealer, self._context)
        self._dealer.setsockopt(zmq.LINGER, 0)
        self._dealer.setsockopt(zmq.ROUTING_ID, routing_id())
        if keys is not None:
            keys.secure(self._dealer)
        try:
            self._dealer.connect(endpoint)
        except zmq.ZMQError as cause:
            self._release()
            raise BadRequestError(
                f"{endpoint!r} is no endpoint: {cause.strerror}", hint="write ipc:///PATH or tcp://HOST:PORT"
            ) from cause
        self._last_id = 0
        self._noticed = -math.inf
        self.closed = False

    def tell_silent(self, verb: str, now: float, left_s: float) -> None:
        """Have it be known that a request waits for a server that says nothing: once for as long as that may be."""
        if now - self._noticed < LOST_AFTER_S:
            return
        self._noticed = now
        import logging  # where there is something to say

        logging.getLogger("snapserv_client").warning(
            "no answer from %s for %g s: the request %r goes on waiting, for up to %.0f s. Check that the server "
            "runs (its log; snapserv status), that it is not stopped, and the way there. Ctrl-C gives up.",
            self.endpoint, NOTICE_AFTER_S, verb, left_s,
        )  # fmt: skip

    def subscribe(self, endpoint: str) -> zmq.Socket[bytes]:
        """Return a SUB socket on the server's events, which the caller closes.

        Raises:
            UntrustedError: An ipc endpoint that may be a stranger's.
        """
        refuse_strangers(endpoint)
        socket = self._context.socket(zmq.SUB)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        if self.keys is not None:
            self.keys.secure(socket)
        socket.connect(endpoint)
        return socket
