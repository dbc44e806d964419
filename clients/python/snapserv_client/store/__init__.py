"""Reading a store of durable snapshots, on any machine and without a server: `open_store`. See docs/store.md.

Names are imported on first use, since what is needed for them is an extra: ``pip install snapserv-client[store]``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ..errors import UnsupportedError

if TYPE_CHECKING:
    from .places import default_path
    from .reader import Store, open_store

_PLACES = {"Store": "reader", "default_path": "places", "open_store": "reader"}

__all__ = ["Store", "default_path", "open_store"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)
    except ModuleNotFoundError as cause:
        raise UnsupportedError(
            f"stores need {cause.name}, which is not installed", hint="pip install 'snapserv-client[store]'"
        ) from cause
    globals()[name] = value
    return value
