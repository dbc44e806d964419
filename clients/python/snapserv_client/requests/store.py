"""Requests of the store."""

from __future__ import annotations

from ..protocol import LoadResult, SaveResult, StoredResult
from .message import Request, convert

__all__ = ["load", "save", "stored"]


def save(node: str | int, name: str | None, *, all: bool, replay: bool, embed: bool) -> Request[SaveResult]:
    """Ask for a snapshot to last."""
    args = {"name": name, "all": all, "replay": replay, "embed": embed}
    return Request("save", node, args, lambda ok: convert(ok, SaveResult), long=True)


def load(stored: str, name: str | None, *, tree: bool, replay: bool, progress: bool) -> Request[LoadResult]:
    """Ask for a node out of the store."""
    args = {"stored": stored, "name": name, "tree": tree, "replay": replay, "progress": progress}
    return Request("load", None, args, lambda ok: convert(ok, LoadResult), long=True)


def stored(offset: int) -> Request[StoredResult]:
    """Ask for a page of what the store holds."""
    return Request("stored", None, {"offset": offset}, lambda ok: convert(ok, StoredResult), long=True)
