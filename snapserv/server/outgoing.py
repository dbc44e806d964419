"""Replies on their way: sent at once or given up, and bounded in bytes for a client that does not take them.

ZeroMQ's high-water mark counts messages, and one of ours may be a gigabyte. So whoever has much on the way already
gets a small error in the place of a further large reply.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import zmq
from snapserv_client.transport import COPY_BELOW_BYTES, NOBLOCK, send_frames
from snapserv_client.wire import Buffer

from ..errors import BusyError

MOST_WAITING_BYTES = 256 << 20
"""Of one client; a single reply may be larger, if nothing else waits."""
_SNDMORE = int(zmq.SNDMORE)


class Outgoing:
    """The large replies that ZeroMQ still holds, by client."""

    def __init__(self, router: zmq.Socket[bytes]) -> None:
        self._router = router
        self._waiting: dict[bytes, deque[tuple[zmq.MessageTracker, int]]] = {}

    def admits(self, client: bytes, frames: Sequence[Buffer]) -> bool:
        """Return whether a reply may be sent: it is small, or the client has taken what was sent before."""
        if client not in self._waiting:
            return True
        size = sum(map(len, frames))
        if size < COPY_BELOW_BYTES:
            return True
        self.forget_taken(client)
        waiting = self._waiting.get(client)
        return not waiting or size + sum(each for _, each in waiting) <= MOST_WAITING_BYTES

    def send(self, client: bytes, routing_id: bytes, frames: Sequence[Buffer]) -> None:
        """Send a message to a client at its routing id, whole or not at all.

        Raises:
            zmq.Again: It takes no more for now.
            zmq.ZMQError: It is gone (EHOSTUNREACH).
        """
        size = sum(map(len, frames))
        if size < COPY_BELOW_BYTES:
            send_frames(self._router, [routing_id, *frames], flags=NOBLOCK)
            return
        # The last frame is let go of when it was written to the network, and all before it then were.
        last = zmq.Frame(frames[-1], copy=False, track=True, copy_threshold=0)
        self._router.send(routing_id, NOBLOCK | _SNDMORE)
        for frame in frames[:-1]:
            self._router.send(frame, NOBLOCK | _SNDMORE, len(frame) < COPY_BELOW_BYTES)
        self._router.send(last, NOBLOCK, copy=False)
        self._waiting.setdefault(client, deque()).append((last.tracker, size))

    def forget_taken(self, client: bytes | None = None) -> None:
        """Forget the replies that were taken, of one client or of all."""
        for each in list(self._waiting) if client is None else [client]:
            waiting = self._waiting[each]
            while waiting and waiting[0][0].done:
                waiting.popleft()
            if not waiting:
                del self._waiting[each]


def replies_wait() -> BusyError:
    """Return the error in the place of a reply to a client that has not taken what was sent before."""
    return BusyError(
        f"this client has not taken its replies, and {MOST_WAITING_BYTES:,} bytes of them may wait",
        hint="receive replies before asking for more; a retry gets this one for as long as it is remembered",
        details={"most_bytes": MOST_WAITING_BYTES},
    )
