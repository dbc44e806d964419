"""``show``: all that there is to know of a node, and where it is faulted, why, since when and by what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..display import ago
from ..errors import SnapservError
from ..figures import space
from ..history import describe_action
from ..protocol import Action, NodeInfo, ShowResult
from .nodes import NodeName, line_of
from .options import Endpoint, Json, connected
from .output import moment, plain, show, table

if TYPE_CHECKING:
    from .. import Branch, Snapshot

MOST_CHILDREN = 20


def show_(node: NodeName, endpoint: Endpoint = None, as_json: Json = False) -> None:
    """Say what a node is: its relatives, what it costs; where it is faulted, why, since when and by which action.

    Examples:
        snapserv show main
        snapserv show before --json
    """
    with connected(endpoint, as_json=as_json) as server:
        found = server.node(node)
        told = found.show()
        action = _raised_in(found, told)
    fault = None if told.fault is None else {**plain(told.fault), "did": plain(action)}
    show({**plain(told), "fault": fault}, as_json=as_json, people=lambda: _page(told, action))


def _raised_in(node: Branch | Snapshot, told: ShowResult) -> Action | None:
    """Return the action in which a node's simulation raised; None where that cannot be told any more."""
    number = None if told.fault is None else told.fault.action
    if number is None:
        return None
    try:
        return node.action(number)
    except SnapservError:
        return None


def _page(told: ShowResult, action: Action | None) -> Any:
    from rich.console import Group
    from rich.text import Text

    node = told.node
    rows = table(node.name, f"{node.kind} · step {node.step:,}")
    for name, value in _facts(told).items():
        if value:
            rows.add_row(name, value)
    parts: list[Any] = [rows]
    if told.fault is not None:
        fault = told.fault
        number = "" if fault.action is None else f"action {fault.action:,}"
        said = "" if action is None else describe_action(action)
        facts = {
            "since": f"step {fault.step:,} · {ago(fault.at)} · {moment(fault.at)}",
            "by": " · ".join(part for part in (number, said) if part),
        }
        faulted = table("faulted", fault.message)
        for name, value in facts.items():
            if value:
                faulted.add_row(name, value)
        parts.append(faulted)
        if fault.traceback:
            parts.append(Text(fault.traceback.rstrip(), "dim"))
        if node.kind == "branch":
            parts.append(
                Text(f"→ restore, reset or rewind it, or go on as it is: snapserv clear {node.name}", "cyan")
            )
    return Group(*parts)


def _facts(told: ShowResult) -> dict[str, str]:
    node = told.node
    children = [*told.children[:MOST_CHILDREN]]
    left = len(told.children) - len(children) + told.more
    return {
        "state": node.death or node.state,
        "message": node.message,
        "tree": node.tree,
        "id": str(node.id),
        "parent": "" if told.parent is None else line_of(told.parent),
        "taken of": told.taken_of,
        "children": ", ".join([*children, *([f"{left:,} more"] if left else [])]),
        "since": f"{ago(node.created)} · {moment(node.created)}",
        "tags": ", ".join(node.tags),
        "pinned": "yes" if node.pinned else "",
        "pid": str(node.pid or ""),
        "autosnap": _rule(node),
        "private": _size(node.private_bytes),
        "charged": _size(told.charged_bytes),
        "durable": ("by replay" if node.recorded else "yes") if node.durable else "",
        "stored": _size(told.stored_bytes),
        "shared": ", ".join(node.shared),
    }


def _rule(node: NodeInfo) -> str:
    rule = node.autosnap
    if rule is None:
        return ""
    often = f"{rule.every_steps:,} steps" if rule.every_steps is not None else f"{rule.every_s:g} s"
    return f"every {often}, {rule.keep} stay"


def _size(size: int | None) -> str:
    return "" if size is None else space(size)
