"""What was done to a node, as its head in a store carries it: the way back where no image is, or none fits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ..errors import NotPortableError, SnapservError
from ..nodes.nodes import Nodes
from ..nodes.plans import Plan
from ..nodes.process import CellProcess
from ..nodes.tree import Node
from ..outside.hashing import hash_fields

MOST_BYTES = 1 << 25
"""What is kept of a node at most: half a million actions that all differ."""

InThread = Callable[..., Awaitable[Any]]


async def recorded_of(nodes: Nodes, node: Node) -> tuple[dict[str, Any], bytes]:
    """Return what a store says of what was done to a snapshot, whose turn the caller shares, and the stream of it.

    That takes a clone for a moment: its history lies in its memory. Where it cannot be had, ``missing`` says why.
    """
    if node.id == node.tree.root:
        return {}, b""
    try:
        async with nodes.awake(node, passing=True) as cell:
            found = await cell.ask("stream", most=MOST_BYTES)
    except SnapservError as error:
        return {"missing": error.message}, b""
    if found["actions"] is None:
        return {"missing": f"it is {found['size']:,} bytes, and {MOST_BYTES:,} are kept at most"}, b""
    return {name: found[name] for name in ("count", "said", "told")}, found["actions"].tobytes()


async def recorded_alone(
    nodes: Nodes, in_thread: InThread, node: Node, cell: CellProcess, recorded: dict[str, Any]
) -> dict[str, Any]:
    """Return what a store says of what was done to a node, and where it leads, if there is to be nothing else.

    Raises:
        NotPortableError: It is too long, or nothing would tell whether a replay has led there.
        NodeDiedError: The node has ended.
    """
    if recorded.get("missing"):
        raise NotPortableError(
            f"{node.path} cannot be saved as its recording either: {recorded['missing']}",
            details={"missing": recorded["missing"]},
        )
    plan = nodes.plan(node)
    refuse_unsaid(node.path, plan, recorded)
    root = nodes.cell_of(nodes.find(node.tree.root))
    alive = root is not None and root.pid and not root.ended.done()
    return {**recorded, "end": await hashes_in(in_thread, plan, cell, root if alive else None)}


def refuse_unsaid(what: str, plan: Plan, recorded: dict[str, Any]) -> None:
    """Raise NotPortableError where nothing would tell whether a replay has led to the node."""
    if not plan.places and recorded.get("count") and not recorded.get("said"):
        raise NotPortableError(
            f"nothing would tell whether a replay leads to {what}: it has no fields, and has put nothing out",
            hint="give the simulation a field, or have its steps return something",
        )


async def hashes_in(in_thread: InThread, plan: Plan, cell: CellProcess, root: CellProcess | None) -> dict[str, str]:
    """Return the hash of each field in a process that stands still, 32 hexadecimal digits each.

    Args:
        in_thread: Runs what takes long without holding up others.
        plan: Of its tree.
        cell: The process.
        root: That of the tree's root, which makes it faster; None where it has none.
    """
    base = root.pid if root is not None and plan.file_backed else None
    found: dict[str, int] = await in_thread(
        hash_fields, plan.places, cell.pid, plan.segments, root=base, base=plan.base_hashes
    )
    return {name: f"{value:032x}" for name, value in found.items()}
