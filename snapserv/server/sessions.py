"""What the server remembers of its clients: replies, so that a retry changes nothing a second time."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from snapserv_client.wire import Frames

from ..errors import BadRequestError, TooLargeError
from ..nodes.ledger import Ledger

MOST_CLIENTS = 4096
MOST_REPLIES = 256
MOST_REPLY_BYTES = 16 << 20


MOST_LASTING_BYTES = 1 << 20
"""A larger reply is not written to the ledger, only that there was one."""
GONE: Frames = []
"""Stands for a reply that was too large to be remembered, or to outlive its server."""


@dataclass(slots=True)
class Session:
    """One client: the replies that it may ask for again, and the requests that it waits for.

    Replies are written to the ledger as well: a retry may reach the server's successor. ``streamed`` are the
    messages that went before a reply, which a retry gets before it.
    """

    client: bytes
    ledger: Ledger
    replies: OrderedDict[int, Frames] = field(default_factory=OrderedDict)
    reply_bytes: int = 0
    forgotten: int = 0
    running: set[int] = field(default_factory=set)
    streamed: dict[int, list[Frames]] = field(default_factory=dict)

    def recall(self, request_id: int) -> Frames | None:
        """Return the reply that ``request_id`` got, if it was answered.

        Raises:
            BadRequestError: It was answered so long ago that the reply is gone. Running it again would do it
                twice, so it is refused.
            TooLargeError: It was answered with more than is remembered, or than outlives a server that was killed.
        """
        if request_id in self.replies:
            reply = self.replies[request_id]
            if reply is GONE:
                raise TooLargeError(
                    f"request {request_id} was done, and its reply was too large to be kept for a retry",
                    hint="read what it has changed; it is not done a second time",
                    details={"completed": True},
                )
            return reply
        if request_id <= self.forgotten:
            raise BadRequestError(
                f"request {request_id} is too old to be retried",
                hint="ids grow with each new request; a retry repeats the id of a recent one",
                details={"forgotten": self.forgotten},
            )
        return None

    def remember(self, request_id: int, reply: Frames, streamed: list[Frames] | None = None) -> None:
        """Keep ``reply``, and the messages that went before it, for a retry; the oldest replies make room."""
        self.replies[request_id] = reply
        if streamed:
            self.streamed[request_id] = streamed
        self.reply_bytes += self._bytes_of(request_id, reply)
        while len(self.replies) > 1 and (len(self.replies) > MOST_REPLIES or self.reply_bytes > MOST_REPLY_BYTES):
            oldest, gone = self.replies.popitem(last=False)
            self.reply_bytes -= self._bytes_of(oldest, gone)
            self.streamed.pop(oldest, None)
            self.forgotten = max(self.forgotten, oldest)
            self.ledger.remove("reply", (self.client, oldest))
        lasts = reply is not GONE and self._bytes_of(request_id, reply) <= MOST_LASTING_BYTES
        lasting = _copied(reply) if lasts else None
        before = [_copied(each) for each in streamed or ()] if lasts else []
        self.ledger.put("reply", (self.client, request_id), lambda: [self.forgotten, lasting, *before])

    def forget(self) -> None:
        """Keep no reply."""
        for request_id in self.replies:
            self.ledger.remove("reply", (self.client, request_id))

    def _bytes_of(self, request_id: int, reply: Frames) -> int:
        return _size(reply) + sum(map(_size, self.streamed.get(request_id, ())))


class Sessions:
    """Every client's session, by routing id; the clients that were silent longest are forgotten first.

    Args:
        ledger: Where replies are written, and where those of an earlier server are found.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        for (client, request_id), (forgotten, reply, *streamed) in ledger.entries("reply").items():
            session = self._sessions.setdefault(client, Session(client, ledger))
            session.forgotten = max(session.forgotten, forgotten)
            session.replies[request_id] = GONE if reply is None else reply
            if streamed:
                session.streamed[request_id] = streamed
            session.reply_bytes += session._bytes_of(request_id, session.replies[request_id])

    def __len__(self) -> int:
        return len(self._sessions)

    def of(self, client: bytes) -> Session:
        """Return the session of ``client``, a new one where there is none."""
        session = self._sessions.get(client)
        if session is None:
            session = self._sessions[client] = Session(client, self._ledger)
            for idle in [key for key, other in self._sessions.items() if not other.running]:
                if len(self._sessions) <= MOST_CLIENTS:
                    break
                if idle != client:
                    self._sessions.pop(idle).forget()
        else:
            self._sessions.move_to_end(client)
        return session


def _copied(frames: Frames) -> list[bytes]:
    return [bytes(frame) for frame in frames]


def _size(frames: Frames) -> int:
    return sum(map(len, frames))
