"""Requests for nodes and their lineage, for new ones, and to go back to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..plain import InputValues
from ..protocol import (
    Action,
    BranchResult,
    GotoResult,
    LogResult,
    NodeInfo,
    NodeResult,
    Rng,
    SnapshotResult,
    TreeResult,
)
from ..watching import Until
from .message import Request, ask, convert, understand_node

MOST_LISTED = 1000

__all__ = [
    "action",
    "actions",
    "branch",
    "branch_at",
    "create",
    "goto",
    "info",
    "lineage",
    "reset",
    "restore",
    "snapshot",
    "tree",
]


def tree(name: str | None, *, offset: int, sizes: bool) -> Request[TreeResult]:
    """Ask for a page of nodes."""
    return ask(TreeResult, "tree", tree=name, offset=offset, sizes=sizes)


def create(simulation: str | None, name: str | None, params: InputValues) -> Request[NodeInfo]:
    """Ask for another tree."""
    args = {"simulation": simulation, "name": name, "params": dict(params)}
    return Request("create", None, args, understand_node, long=True)


def info(node: str | int) -> Request[NodeInfo]:
    """Ask what a node is: the log of itself alone."""
    return Request("log", node, {"limit": 1}, lambda ok: convert(ok, LogResult).entries[-1])


def lineage(node: str | int, most: int = MOST_LISTED) -> Request[list[NodeInfo]]:
    """Ask for a node's nearest ancestors and itself, so many of them."""
    return Request("log", node, {"limit": most}, lambda ok: convert(ok, LogResult).entries)


def actions(node: str | int, start: int) -> Request[LogResult]:
    """Ask for a page of what was done to a node."""
    return Request(
        "log",
        node,
        {"limit": 1, "actions": True, "start": start, "recording": True},
        lambda ok: convert(ok, LogResult),
        long=True,
    )


def action(node: str | int, number: int) -> Request[Action | None]:
    """Ask for one action of a node's history, counted from 0; None where there are fewer."""
    args = {"limit": 1, "actions": True, "start": number}
    return Request("log", node, args, lambda ok: next(iter(convert(ok, LogResult).actions or ()), None), long=True)


def snapshot(node: str | int, name: str | None, message: str = "") -> Request[SnapshotResult]:
    """Ask for a snapshot."""
    args = {"name": name, "message": message}
    return Request("snapshot", node, args, lambda ok: convert(ok, SnapshotResult))


def branch(node: str | int, count: int, names: Sequence[str] | None, rng: Rng) -> Request[BranchResult]:
    """Ask for branches."""
    args = {"count": count, "names": None if names is None else list(names), "rng": rng}
    return Request("branch", node, args, lambda ok: convert(ok, BranchResult))


def restore(node: str | int, snapshot_: str | int, rng: Rng) -> Request[NodeResult]:
    """Ask to go back to a snapshot."""
    return Request("restore", node, {"snapshot": snapshot_, "rng": rng}, lambda ok: convert(ok, NodeResult))


def reset(node: str | int, rng: Rng) -> Request[NodeResult]:
    """Ask to go back to the root."""
    return Request("reset", node, {"rng": rng}, lambda ok: convert(ok, NodeResult))


def goto(node: str | int, step: int | None, back: int | None, *, keep: bool, progress: bool) -> Request[GotoResult]:
    """Ask a branch to go back."""
    args = {"step": step, "back": back, "keep": keep, "progress": progress}
    return Request("goto", node, args, lambda ok: convert(ok, GotoResult), long=True)


def branch_at(
    node: str | int,
    step: int,
    name: str | None,
    *,
    since: str | int | None = None,
    tell: bool = False,
    until: Until | None = None,
    progress: bool = False,
) -> Request[GotoResult]:
    """Ask for a branch at a step of a node's past."""
    args: dict[str, Any] = {
        "step": step,
        "new": True,
        "name": name,
        "since": since,
        "tell": tell,
        "progress": progress,
    }
    if until is not None:
        args["until"] = until.condition
    return Request("goto", node, args, lambda ok: convert(ok, GotoResult), long=True)
