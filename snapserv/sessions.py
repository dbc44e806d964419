"""What the server remembers of its clients: replies, so that a retry changes nothing a second time."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from snapserv_client.wire import Frames

from .errors import BadRequestError

MOST_CLIENTS = 4096
MOST_REPLIES = 256
MOST_REPLY_BYTES = 16 << 20


@dataclass(slots=True)
class Session:
    """One client: the replies that it may ask for again, and the requests that it waits for."""

    replies: OrderedDict[int, Frames] = field(default_factory=OrderedDict)
    reply_bytes: int = 0
    forgotten: int = 0
    running: set[int] = field(default_factory=set)

    def recall(self, request_id: int) -> Frames | None:
        """Return the reply that ``request_id`` got, if it was answered.

        Raises:
            BadRequestError: It was answered so long ago that the reply is gone. Running it again would do it
                twice, so it is refused.
        """
        if request_id in self.replies:
            return self.replies[request_id]
        if request_id <= self.forgotten:
            raise BadRequestError(
                f"request {request_id} is too old to be retried",
                hint="ids grow with each new request; a retry repeats the id of a recent one",
                details={"forgotten": self.forgotten},
            )
        return None

    def remember(self, request_id: int, reply: Frames) -> None:
        """Keep ``reply`` for a retry; the oldest replies make room."""
        self.replies[request_id] = reply
        self.reply_bytes += _size(reply)
        while len(self.replies) > 1 and (len(self.replies) > MOST_REPLIES or self.reply_bytes > MOST_REPLY_BYTES):
            oldest, gone = self.replies.popitem(last=False)
            self.reply_bytes -= _size(gone)
            self.forgotten = max(self.forgotten, oldest)


class Sessions:
    """Every client's session, by routing id; the clients that were silent longest are forgotten first."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def of(self, client: bytes) -> Session:
        """Return the session of ``client``, a new one where there is none."""
        session = self._sessions.get(client)
        if session is None:
            session = self._sessions[client] = Session()
            for idle in [key for key, other in self._sessions.items() if not other.running]:
                if len(self._sessions) <= MOST_CLIENTS:
                    break
                if idle != client:
                    del self._sessions[idle]
        else:
            self._sessions.move_to_end(client)
        return session


def _size(frames: Frames) -> int:
    return sum(map(len, frames))
