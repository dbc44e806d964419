"""The same tree over many machines, on Ray: `Cluster`. See docs/cluster.md.

Names are imported on first use, since Ray is an extra: ``pip install 'snapserv[ray]'``. `aio` is for asyncio.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import aio
    from .facts import HostInfo
    from .sync import Cluster, ClusterBranch, ClusterSnapshot
    from .trees import ClusterTree

_PLACES = {
    "Cluster": "sync",
    "ClusterBranch": "sync",
    "ClusterSnapshot": "sync",
    "ClusterTree": "trees",
    "HostInfo": "facts",
}

__all__ = ["Cluster", "ClusterBranch", "ClusterSnapshot", "ClusterTree", "HostInfo", "aio"]


def __getattr__(name: str) -> Any:
    if name == "aio":
        return importlib.import_module(".aio", __name__)
    if name in _PLACES:
        value = getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
