"""Commands for runs that may go wrong: automatic snapshots, and what to do about a fault."""

from __future__ import annotations

from typing import Annotated

from ..protocol import NodeInfo
from .nodes import BranchName, line_of, live
from .options import Endpoint, Json, connected
from .output import show
from .parameters import Option


def autosnap(
    node: BranchName,
    every_steps: Annotated[int | None, Option(help="At each multiple of so many steps.")] = None,
    every_s: Annotated[float | None, Option("--every-s", help="After so many seconds of stepping.")] = None,
    keep: Annotated[int | None, Option(help="How many stay; 16 at first.")] = None,
    off: Annotated[bool, Option("--off", help="Take no more; what there is stays.")] = False,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Have snapshots of a branch taken by themselves, dense near the present and sparse further back.

    Examples:
        snapserv autosnap main --every-steps 1000 --keep 8
        snapserv autosnap main --off
    """
    with connected(endpoint, as_json=as_json) as server:
        found = live(server, node)
        found.autosnap(every_steps=every_steps, every_s=every_s, keep=keep, off=off)
    show(found.last, as_json=as_json, people=lambda: _told(found.last))


def clear(node: BranchName, endpoint: Endpoint = None, as_json: Json = False) -> None:
    """Go on with what a simulation left that raised: the branch is no longer faulted.

    Examples:
        snapserv clear main
    """
    with connected(endpoint, as_json=as_json) as server:
        found = live(server, node)
        found.clear()
    show(found.last, as_json=as_json, people=lambda: line_of(found.last))


def _told(node: NodeInfo) -> str:
    rule = node.autosnap
    if rule is None:
        return f"{node.name} · no automatic snapshots"
    often = f"{rule.every_steps:,} steps" if rule.every_steps is not None else f"{rule.every_s:g} s"
    failed = f" · the last one could not be taken: {rule.error}" if rule.error else ""
    return f"{node.name} · a snapshot every {often}, {rule.keep} of them stay{failed}"
