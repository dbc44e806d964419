"""Requests to go back to a step of a node's past."""

from __future__ import annotations

from typing import Any

from ..protocol import GotoResult
from ..watching import Until
from .message import Request, convert

__all__ = ["branch_at", "goto"]


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
