"""snapserv's client. `connect` talks to a server, `local` starts a private one, `aio` is for asyncio.

Names are imported on first use: the processes that hold simulations import this package's protocol and must
not load ZeroMQ, which does not survive a fork.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import aio
    from .bisection import Bisection
    from .display import Diff, Tree
    from .endpoint import default_endpoint
    from .errors import SnapservError, SnapservWarning
    from .expansion import Best, Outcome, Outcomes
    from .history import Actions, Verification
    from .narrowing import number
    from .pages import Pages
    from .plain import Array, InputValues, Outputs, Sendable, Value
    from .protocol import Event, NodeInfo, StepResult
    from .records import Records, side_by_side
    from .sync import Branch, Server, Snapshot, connect, local
    from .watching import condition, field, holds, when

_PLACES = {
    "Actions": "history",
    "Array": "plain",
    "Best": "expansion",
    "Bisection": "bisection",
    "Branch": "sync",
    "Diff": "display",
    "Event": "protocol",
    "InputValues": "plain",
    "NodeInfo": "protocol",
    "Outcome": "expansion",
    "Outcomes": "expansion",
    "Outputs": "plain",
    "Pages": "pages",
    "Records": "records",
    "Sendable": "plain",
    "Server": "sync",
    "Snapshot": "sync",
    "SnapservError": "errors",
    "SnapservWarning": "errors",
    "StepResult": "protocol",
    "Tree": "display",
    "Value": "plain",
    "Verification": "history",
    "condition": "watching",
    "connect": "sync",
    "default_endpoint": "endpoint",
    "field": "watching",
    "holds": "watching",
    "local": "sync",
    "number": "narrowing",
    "side_by_side": "records",
    "when": "watching",
}

__all__ = [
    "Actions",
    "Array",
    "Best",
    "Bisection",
    "Branch",
    "Diff",
    "Event",
    "InputValues",
    "NodeInfo",
    "Outcome",
    "Outcomes",
    "Outputs",
    "Pages",
    "Records",
    "Sendable",
    "Server",
    "SnapservError",
    "SnapservWarning",
    "Snapshot",
    "StepResult",
    "Tree",
    "Value",
    "Verification",
    "aio",
    "condition",
    "connect",
    "default_endpoint",
    "field",
    "holds",
    "local",
    "number",
    "side_by_side",
    "when",
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
