"""snapserv's client. `connect` talks to a server, `local` starts a private one, `aio` is for asyncio.

Names are imported on first use: the processes that hold simulations import this package's protocol and must
not load ZeroMQ, which does not survive a fork.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import aio
    from .display import Diff, Tree
    from .endpoint import default_endpoint
    from .errors import SnapservError, SnapservWarning
    from .expansion import Best, Outcome
    from .history import Actions, Verification
    from .pages import Pages
    from .protocol import Event, NodeInfo, StepResult
    from .sync import Branch, Server, Snapshot, connect, local

_PLACES = {
    "Actions": "history",
    "Best": "expansion",
    "Branch": "sync",
    "Diff": "display",
    "Event": "protocol",
    "NodeInfo": "protocol",
    "Outcome": "expansion",
    "Pages": "pages",
    "Server": "sync",
    "Snapshot": "sync",
    "SnapservError": "errors",
    "SnapservWarning": "errors",
    "StepResult": "protocol",
    "Tree": "display",
    "Verification": "history",
    "connect": "sync",
    "default_endpoint": "endpoint",
    "local": "sync",
}

__all__ = [
    "Actions",
    "Best",
    "Branch",
    "Diff",
    "Event",
    "NodeInfo",
    "Outcome",
    "Pages",
    "Server",
    "SnapservError",
    "SnapservWarning",
    "Snapshot",
    "StepResult",
    "Tree",
    "Verification",
    "aio",
    "connect",
    "default_endpoint",
    "local",
]


def __getattr__(name: str) -> Any:
    if name == "aio":
        return importlib.import_module(".aio", __name__)
    if name in _PLACES:
        value = getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
