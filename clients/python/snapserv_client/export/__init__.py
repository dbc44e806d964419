"""Fields for analysis: a node as a Zarr dataset, a tree as an Icechunk repository. See docs/export.md.

Names are imported on first use, since what is needed for them is an extra: ``pip install snapserv-client[export]``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ..errors import UnsupportedError

if TYPE_CHECKING:
    from ..labelled.source import FieldFacts, NodeFacts, NodeSource, TreeNode, TreeSource
    from .dataset import export_zarr
    from .repository import Exported, export_icechunk
    from .served import node_of_server, tree_of_server
    from .stored import node_of_store, tree_of_store

_PLACES = {
    "Exported": "repository",
    "FieldFacts": ".labelled.source",
    "NodeFacts": ".labelled.source",
    "NodeSource": ".labelled.source",
    "TreeNode": ".labelled.source",
    "TreeSource": ".labelled.source",
    "export_icechunk": "repository",
    "export_zarr": "dataset",
    "node_of_server": "served",
    "node_of_store": "stored",
    "tree_of_server": "served",
    "tree_of_store": "stored",
}

__all__ = [
    "Exported",
    "FieldFacts",
    "NodeFacts",
    "NodeSource",
    "TreeNode",
    "TreeSource",
    "export_icechunk",
    "export_zarr",
    "node_of_server",
    "node_of_store",
    "tree_of_server",
    "tree_of_store",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)
    except ModuleNotFoundError as cause:
        raise UnsupportedError(
            f"an export needs {cause.name}, which is not installed", hint="pip install 'snapserv-client[export]'"
        ) from cause
    globals()[name] = value
    return value
