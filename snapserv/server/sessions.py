"""What the server remembers of its clients: replies, so that a retry changes nothing a second time.

All that is remembered has a bound for all clients together, for they may be many, and come and go. What goes first
is what the client that was silent longest was told: who waits for a reply asks again every few seconds. That
something was done is remembered for longer than what came of it, since doing it again is worse than any error.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from snapserv_client.wire import Frames

from ..errors import BadRequestError, TooLargeError
from ..nodes.ledger import Ledger

MOST_CLIENTS = 4096
MOST_REPLIES = 256
"""Of one client."""
MOST_REPLY_BYTES = 16 << 20
"""Of all clients together."""
MOST_LASTING_BYTES = 1 << 20
"""A larger reply is not written to the ledger, only that there was one."""
GONE: Frames = []
"""Stands for a reply that is not kept, where that it was given is."""


@dataclass(slots=True, eq=False)
class Session:
    """One client: the replies that it may ask for again, and the requests that it waits for.

    ``streamed`` are the messages that went before a reply, which a retry gets before it: they count with it.
    ``forgotten`` is the highest id of those whose replies are not even known to have been any more.
    """

    client: bytes
    replies: OrderedDict[int, Frames] = field(default_factory=OrderedDict)
    reply_bytes: int = 0
    forgotten: int = 0
    running: set[int] = field(default_factory=set)
    streamed: dict[int, list[Frames]] = field(default_factory=dict)

    def recall(self, request_id: int) -> Frames | None:
        """Return the reply that ``request_id`` got, if it was answered.

        Raises:
            BadRequestError: It was answered so long ago that nothing is known of it. Running it again could do it
                twice, so it is refused.
            TooLargeError: It was done, and its reply had to make room, or was too large to be kept at all, or to
                outlive a server that was killed.
        """
        if request_id in self.replies:
            reply = self.replies[request_id]
            if reply is GONE:
                raise TooLargeError(
                    f"request {request_id} was done, and its reply is not remembered any more",
                    hint="read what it has changed; it is not done a second time",
                    details={"completed": True, "most_bytes": MOST_REPLY_BYTES},
                )
            return reply
        if request_id <= self.forgotten:
            raise BadRequestError(
                f"request {request_id} is too old to be retried",
                hint="ids grow with each new request; a retry repeats the id of a recent one",
                details={"forgotten": self.forgotten},
            )
        return None


class Sessions:
    """Every client's session, by routing id; the clients that were silent longest are forgotten first.

    Args:
        ledger: Where replies are written, and where those of an earlier server are found: a retry may come to the
            server's successor.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.reply_bytes = 0
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._holding: OrderedDict[bytes, Session] = OrderedDict()
        """Those of them that have replies which take room; in the same order."""
        for (client, request_id), (forgotten, reply, *streamed) in ledger.entries("reply").items():
            session = self._sessions.setdefault(client, Session(client))
            session.forgotten = max(session.forgotten, forgotten)
            kept = GONE if reply is None else reply
            self._put(session, request_id, kept, streamed, _size(kept, streamed))
        self._make_room(None)

    def __len__(self) -> int:
        return len(self._sessions)

    def of(self, client: bytes) -> Session:
        """Return the session of ``client``, which has just been heard of; a new one where there is none."""
        session = self._sessions.get(client)
        if session is None:
            return Session(client)
        self._heard(session)
        return session

    def begin(self, session: Session, request_id: int) -> None:
        """Note that a request runs; a client is forgotten only when none of its requests does."""
        session.running.add(request_id)
        if session.client in self._sessions:
            return
        self._sessions[session.client] = session
        if len(self._sessions) > MOST_CLIENTS:
            idle = next((other for other in self._sessions.values() if not other.running), None)
            if idle is not None:
                self._forget(idle)

    def end(self, session: Session, request_id: int) -> None:
        """Note that a request was answered; of a client that has changed nothing there is nothing to remember."""
        session.running.discard(request_id)
        if not session.running and not session.replies and self._sessions.get(session.client) is session:
            del self._sessions[session.client]

    def remember(self, session: Session, request_id: int, reply: Frames, streamed: Sequence[Frames] = ()) -> None:
        """Keep a reply, and the messages that went before it, for a retry; older ones make room.

        Where they are larger than all that may be kept, only that there was a reply is remembered.
        """
        self._sessions.setdefault(session.client, session)
        self._heard(session)
        if request_id in session.replies:
            self._take(session, request_id)
        size = _size(reply, streamed)
        if size <= MOST_REPLY_BYTES:
            self._put(session, request_id, reply, streamed, size)
        else:
            self._put(session, request_id, GONE)
        while len(session.replies) > MOST_REPLIES:
            self._drop_oldest(session)
        if self.reply_bytes > MOST_REPLY_BYTES:
            self._make_room(session)
        kept = session.replies[request_id]
        lasts = kept is not GONE and size <= MOST_LASTING_BYTES
        lasting = _copied(kept) if lasts else None
        before = [_copied(each) for each in streamed] if lasts else []
        self._ledger.put("reply", (session.client, request_id), lambda: [session.forgotten, lasting, *before])

    # ------------------------------------------------------------------------------------------------- room

    def _make_room(self, newest: Session | None) -> None:
        """Forget replies until few enough are left: of those that were silent longest all, of the last one some."""
        while self.reply_bytes > MOST_REPLY_BYTES:
            silent = next(iter(self._holding.values()))
            if silent is newest:
                self._drop_oldest(silent)
            else:
                self._hollow(silent)

    def _drop_oldest(self, session: Session) -> None:
        """Forget a client's oldest reply: that it was given is known by its id, which is below those to come."""
        oldest = next(iter(session.replies))
        self._take(session, oldest)
        session.forgotten = max(session.forgotten, oldest)
        self._ledger.remove("reply", (session.client, oldest))

    def _hollow(self, session: Session) -> None:
        """Forget what a client was told, and remember up to which request it was told something.

        The ledger must say so too, and says it with a reply: so one of them stays, without what it was.
        """
        while len(session.replies) > 1:
            self._drop_oldest(session)
        (last,) = session.replies
        self._take(session, last)
        self._put(session, last, GONE)
        self._ledger.put("reply", (session.client, last), lambda: [session.forgotten, None])

    def _forget(self, session: Session) -> None:
        """Forget a client altogether."""
        for request_id in list(session.replies):
            self._take(session, request_id)
            self._ledger.remove("reply", (session.client, request_id))
        del self._sessions[session.client]

    def _put(
        self, session: Session, request_id: int, reply: Frames, streamed: Sequence[Frames] = (), size: int = 0
    ) -> None:
        session.replies[request_id] = reply
        if streamed:
            session.streamed[request_id] = list(streamed)
        session.reply_bytes += size
        self.reply_bytes += size
        if size:
            self._holding[session.client] = session

    def _take(self, session: Session, request_id: int) -> None:
        size = _size(session.replies.pop(request_id), session.streamed.pop(request_id, ()))
        session.reply_bytes -= size
        self.reply_bytes -= size
        if not session.reply_bytes:
            self._holding.pop(session.client, None)

    def _heard(self, session: Session) -> None:
        self._sessions.move_to_end(session.client)
        if session.client in self._holding:
            self._holding.move_to_end(session.client)


def _copied(frames: Frames) -> list[bytes]:
    return [bytes(frame) for frame in frames]


def _size(reply: Frames, streamed: Sequence[Frames] = ()) -> int:
    return sum(map(len, reply)) + (sum(sum(map(len, frames)) for frames in streamed) if streamed else 0)
