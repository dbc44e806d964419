"""Turns: requests to one node run one at a time, in order of arrival; different nodes run in parallel.

Each node has a queue. A request takes its place in the queues of all the nodes that it needs at once, when it
arrives, so that two requests over the same two nodes can never wait for each other. Requests that change
nothing at a node share their turn there with neighbours of the same kind.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from itertools import count
from types import TracebackType

MOST_RECENT = 16
_moments = count(1)


class Traffic:
    """Where requests are, by the numbers of queues: ``busy`` has those in use, ``recent`` the few used last."""

    def __init__(self) -> None:
        self.busy: dict[int, NodeQueue] = {}
        self.recent: OrderedDict[int, None] = OrderedDict()

    def enter(self, queue: NodeQueue) -> None:
        """Take note that a request takes its place in a queue."""
        self.busy[queue.number] = queue
        self.recent[queue.number] = None
        self.recent.move_to_end(queue.number)
        if len(self.recent) > MOST_RECENT:
            self.recent.popitem(last=False)

    def leave(self, queue: NodeQueue) -> None:
        """Take note that a request has left a queue."""
        if not queue.turns:
            self.busy.pop(queue.number, None)

    def forget(self, number: int) -> None:
        """Take note that a node is gone, so that those that are there are not crowded out."""
        self.recent.pop(number, None)

    @property
    def longest(self) -> int:
        """How many requests there are in the longest queue."""
        return max((len(queue.turns) for queue in self.busy.values()), default=0)


class NodeQueue:
    """The requests to one node, in order of arrival. ``used`` is higher the later it was used last.

    ``wanted`` is called for whoever comes while a turn lasts that is given up for others.

    Args:
        number: The node's.
        traffic: Where it says that it is in use.
    """

    __slots__ = ("number", "traffic", "turns", "used", "wanted")

    def __init__(self, number: int = 0, traffic: Traffic | None = None) -> None:
        self.turns: deque[Turn] = deque()
        self.used = next(_moments)
        self.number = number
        self.wanted: Callable[[], None] | None = None
        self.traffic = Traffic() if traffic is None else traffic

    @property
    def busy(self) -> bool:
        """Whether a request runs or waits here."""
        return bool(self.turns)

    @property
    def shareable(self) -> bool:
        """Whether a request that shares its turn would have it at once."""
        return all(turn.shares(self) for turn in self.turns)


class Turn:
    """One request's place in the queues that it needs; entered with ``async with``, or left by who has it at once.

    Args:
        alone: Lanes of nodes that the request changes.
        shared: Lanes of nodes that it only reads or clones.

    The place is taken when the turn is made: make it and enter it before anything is awaited.
    """

    __slots__ = ("_queues", "_ready")

    def __init__(self, *alone: NodeQueue, shared: Iterable[NodeQueue] = ()) -> None:
        self._queues: dict[NodeQueue, bool] = {**dict.fromkeys(shared, True), **dict.fromkeys(alone, False)}
        self._ready: asyncio.Future[None] | None = None
        moment = next(_moments)
        for queue in self._queues:
            queue.turns.append(self)
            queue.used = moment
            queue.traffic.enter(queue)
            if queue.wanted is not None:
                queue.wanted()

    async def __aenter__(self) -> None:
        if self._is_next():
            return
        self._ready = asyncio.get_running_loop().create_future()
        try:
            await self._ready
        except BaseException:
            self.leave()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, cause: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def shares(self, queue: NodeQueue) -> bool:
        """Return whether it shares its turn there with neighbours that do."""
        return self._queues[queue]

    def _is_next(self) -> bool:
        for queue, shared in self._queues.items():
            for other in queue.turns:
                if other is self:
                    break
                if not (shared and other._queues[queue]):
                    return False
        return True

    def leave(self) -> None:
        """Give its place up, and have those go on that waited for it."""
        for queue in self._queues:
            queue.turns.remove(self)
            queue.traffic.leave(queue)
        for queue in self._queues:
            for other in queue.turns:
                if other._ready is not None and not other._ready.done() and other._is_next():
                    other._ready.set_result(None)
                if not other._queues[queue]:
                    break
