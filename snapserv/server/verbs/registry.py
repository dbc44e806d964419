"""Which coroutine handles which verb."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import msgspec

from ..service import Call

Handler: TypeAlias = Callable[[Call, Any], Awaitable[msgspec.Struct]]
HANDLERS: dict[str, Handler] = {}
"""The handler of every verb of the protocol, once `snapserv.server.verbs.all` is imported."""


def handles(verb: str) -> Callable[[Handler], Handler]:
    """Register the handler of ``verb``."""

    def register(handler: Handler) -> Handler:
        HANDLERS[verb] = handler
        return handler

    return register
