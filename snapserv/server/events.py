"""Events for whoever watches: published, never waited for, numbered so that a gap is seen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog
import zmq
from snapserv_client.protocol import Event, EventKind, NodeInfo
from snapserv_client.wire import pack

from .listening import bind, watch_peers

log = structlog.get_logger(__name__)

MOST_WAITING = 10_000


class Events:
    """The PUB socket. A watcher that is too slow loses events and sees it by their numbers.

    Args:
        context: The server's.
        endpoint: Where to publish.
        guard: Secures the socket before it is bound.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        guard: Callable[[zmq.Socket[bytes]], None],
    ) -> None:
        self.sequence = 0
        self._socket = context.socket(zmq.PUB)
        self._socket.setsockopt(zmq.LINGER, 200)
        self._socket.setsockopt(zmq.SNDHWM, MOST_WAITING)
        watch_peers(self._socket, endpoint)
        guard(self._socket)
        self._loop = asyncio.get_running_loop()
        self.endpoint = bind(self._socket, endpoint)

    def publish(self, kind: EventKind, node: NodeInfo | None, text: str) -> None:
        """Send an event to all who watch, after what is being done now: nobody waits for watchers."""
        self.sequence += 1
        log.debug("event", kind=kind, node=node.name if node is not None else None, text=text)
        event = Event(self.sequence, kind, time.time(), node, text)
        self._loop.call_soon(self._send, event)

    def _send(self, event: Event) -> None:
        if not self._socket.closed:
            self._socket.send_multipart([event.kind.encode(), *pack(event)], zmq.NOBLOCK)

    def close(self) -> None:
        """Close the socket; what was sent has a moment to leave."""
        self._socket.close()
