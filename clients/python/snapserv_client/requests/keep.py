"""Requests for what stays and what goes."""

from __future__ import annotations

from ..protocol import DropResult, NodeInfo
from .message import Request, convert, understand_node

__all__ = ["autosnap", "drop", "pin", "tag"]


def tag(node: str | int, name: str, *, remove: bool) -> Request[NodeInfo]:
    """Ask for a further name."""
    return Request("tag", node, {"name": name, "remove": remove}, understand_node)


def pin(node: str | int, *, pinned: bool) -> Request[NodeInfo]:
    """Ask to protect a node."""
    return Request("pin", node, {"pinned": pinned}, understand_node)


def autosnap(
    node: str | int, every_steps: int | None, every_s: float | None, keep: int | None, *, off: bool
) -> Request[NodeInfo]:
    """Ask for snapshots that are taken by themselves, or for none any more."""
    args = {"every_steps": every_steps, "every_s": every_s, "keep": keep, "off": off}
    return Request("autosnap", node, args, understand_node)


def drop(node: str | int, *, recursive: bool, force: bool) -> Request[list[str]]:
    """Ask to end a node."""
    args = {"recursive": recursive, "force": force}
    return Request("drop", node, args, lambda ok: convert(ok, DropResult).dropped, long=recursive)
