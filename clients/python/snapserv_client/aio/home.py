"""A server as its nodes know it: servers know all of nodes, and nodes this much of their server."""

from __future__ import annotations

from typing import Any, TypeVar, Unpack

from ..channel import Channel
from ..connection import Waiting
from ..display import ServerDisplay
from ..protocol import HelloResult, NodeInfo
from ..requests import Request
from .connection import Connection

T = TypeVar("T")


class Home(ServerDisplay):
    """What nodes ask of the server that they are on."""

    _connection: Connection
    hello: HelloResult | None
    channel: Channel | None = None
    """Its side channel, for a client of the server's user on its machine."""

    @property
    def atomic(self) -> bool:
        """Whether steps that do not say are atomic."""
        return self.hello is not None and self.hello.atomic

    async def _run(self, request: Request[T], **waiting: Unpack[Waiting]) -> T:
        return await self._connection.run(request, **waiting)

    def _wrap(self, info: NodeInfo) -> Any:
        """Return a node as what it is, which only the server knows."""
        raise NotImplementedError
