"""Turns: requests to one node run one at a time, in order of arrival; different nodes run in parallel.

Each node has a lane. A request takes its place in the lanes of all the nodes that it needs at once, when it
arrives, so that two requests over the same two nodes can never wait for each other. Requests that change
nothing at a node share their turn there with neighbours of the same kind.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from itertools import count
from types import TracebackType

_moments = count(1)


class Lane:
    """The requests to one node, in order of arrival. ``used`` is higher the later it was used last."""

    __slots__ = ("queue", "used")

    def __init__(self) -> None:
        self.queue: deque[Turn] = deque()
        self.used = next(_moments)

    @property
    def busy(self) -> bool:
        """Whether a request runs or waits here."""
        return bool(self.queue)


class Turn:
    """One request's place in the lanes that it needs; entered with ``async with``.

    Args:
        alone: Lanes of nodes that the request changes.
        shared: Lanes of nodes that it only reads or clones.

    The place is taken when the turn is made: make it and enter it before anything is awaited.
    """

    __slots__ = ("_lanes", "_ready")

    def __init__(self, *alone: Lane, shared: Iterable[Lane] = ()) -> None:
        self._lanes: dict[Lane, bool] = {**dict.fromkeys(shared, True), **dict.fromkeys(alone, False)}
        self._ready: asyncio.Future[None] | None = None
        moment = next(_moments)
        for lane in self._lanes:
            lane.queue.append(self)
            lane.used = moment

    async def __aenter__(self) -> None:
        if self._is_next():
            return
        self._ready = asyncio.get_running_loop().create_future()
        try:
            await self._ready
        except BaseException:
            self._leave()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, cause: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _is_next(self) -> bool:
        for lane, shared in self._lanes.items():
            for other in lane.queue:
                if other is self:
                    break
                if not (shared and other._lanes[lane]):
                    return False
        return True

    def _leave(self) -> None:
        for lane in self._lanes:
            lane.queue.remove(self)
        for lane in self._lanes:
            for other in lane.queue:
                if other._ready is not None and not other._ready.done() and other._is_next():
                    other._ready.set_result(None)
                if not other._lanes[lane]:
                    break
