"""Outcomes on their way: sent as soon as they are there, or as a slow client takes them, and kept for a retry.

A connection can break in the middle, so a retry of what was done gets every outcome again before its reply.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from snapserv_client.protocol import Outcome
from snapserv_client.wire import Frames, pack

from ..errors import SnapservError
from .outgoing import replies_wait
from .sessions import MOST_REPLY_BYTES

TAKES_WITHIN_S = 30.0
"""A client that takes nothing at all for so long is not waited for any more."""
TRY_EVERY_S = 0.01


class Stream:
    """The messages before the final reply of one request, in the order in which they were sent.

    Args:
        request_id: Whose they are.
        offer: Sends a message, and returns whether the client could take it.
        kept: Those that were sent before, where they are to be sent again.
    """

    def __init__(self, request_id: int, offer: Callable[[Frames], bool], kept: list[Frames] | None = None) -> None:
        self._id = request_id
        self._offer = offer
        self._bytes = 0
        self._patient = True
        self._kept = [] if kept is None else kept

    @property
    def kept(self) -> list[Frames] | None:
        """What a retry gets; None where it is more than is remembered of one client."""
        return self._kept if self._bytes <= MOST_REPLY_BYTES else None

    async def tell(self, outcome: Outcome) -> None:
        """Send an outcome; where the client does not take it in time, an error in its place."""
        try:
            frames = pack({"id": self._id, "outcome": outcome})
        except SnapservError as error:
            frames = self._in_its_place(outcome, error)
        self._bytes += sum(map(len, frames))
        self._kept.append(frames)
        if self.kept is None:
            self._kept.clear()
        if not await self._taken(frames):
            self._offer(self._in_its_place(outcome, replies_wait()))

    async def again(self) -> None:
        """Send everything once more."""
        for frames in self._kept:
            await self._taken(frames)

    async def _taken(self, frames: Frames) -> bool:
        """Return whether the client has taken a message, once it has or was waited for long enough."""
        loop = asyncio.get_running_loop()
        until = loop.time() + TAKES_WITHIN_S
        while not self._offer(frames):
            if not self._patient or loop.time() > until:
                self._patient = False
                return False
            await asyncio.sleep(TRY_EVERY_S)
        return True

    def _in_its_place(self, outcome: Outcome, error: SnapservError) -> Frames:
        return pack({"id": self._id, "outcome": Outcome(outcome.index, False, outcome.step, error=error.to_wire())})
