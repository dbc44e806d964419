"""Snapshots that have given their process up: they lie in a store, and come back when somebody needs them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ..errors import NotFoundError
from .tree import Node

if TYPE_CHECKING:
    from .process import CellProcess


class Stored:
    """Which snapshots last, and which of them have no process now; ``recorded`` last as their recordings alone.

    ``fetch`` brings the process of one back, ``save`` has one last, and ``lasts`` says whether one does, or is to;
    they are set by whoever has the store.
    """

    def __init__(self) -> None:
        self.durable: set[int] = set()
        self.recorded: set[int] = set()
        self.away: set[int] = set()
        self.lasts: Callable[[Node], bool] = lambda node: False
        self.save: Callable[[Node], Awaitable[object]] = _nowhere
        self.fetch: Callable[[Node], Awaitable[CellProcess]] = _nowhere
        self._coming: dict[int, asyncio.Future[CellProcess]] = {}

    def lasting(self, node: Node, *, recorded: bool) -> None:
        """Take note that a node lasts: by its image or, where it is only ``recorded``, by what was done to it."""
        by, other = (self.recorded, self.durable) if recorded else (self.durable, self.recorded)
        by.add(node.id)
        other.discard(node.id)

    async def bring(self, node: Node) -> CellProcess:
        """Return the process of a stored node, once: who asks while it comes waits for the same.

        Raises:
            SnapservError: It cannot be brought back.
        """
        coming = self._coming.get(node.id)
        if coming is None:
            coming = self._coming[node.id] = asyncio.ensure_future(self.fetch(node))
            coming.add_done_callback(lambda _: self._coming.pop(node.id, None))
        return await asyncio.shield(coming)

    def forget(self, node: Node) -> None:
        """Take note that a node is gone."""
        self.durable.discard(node.id)
        self.recorded.discard(node.id)
        self.away.discard(node.id)


async def _nowhere(node: Node) -> CellProcess:
    raise NotFoundError(f"{node.path} lies in a store, and this server has none")
