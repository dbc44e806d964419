"""What would be gone if the server ended now: what no store has or will have, and setup alone does not give."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import UnsavedError
from ..nodes.nodes import Nodes
from ..nodes.tree import Node
from ..nodes.turns import Turn

if TYPE_CHECKING:
    from .keeping import Keeper

MOST_NAMED = 5
MOST_LISTED = 100


async def refuse_to_lose(nodes: Nodes, keeper: Keeper | None) -> None:
    """Refuse to end a server where something would be gone.

    Raises:
        UnsavedError: Something would; ``details["lost"]`` lists it.
    """
    lost = [node for node in list(nodes.forest.nodes.values()) if await _is_lost(nodes, keeper, node)]
    if not lost:
        return
    named = [f"{node.path} at step {nodes.look(node):,}" for node in lost[:MOST_NAMED]]
    named += [f"{len(lost) - MOST_NAMED:,} more"] if len(lost) > MOST_NAMED else []
    raise UnsavedError(
        f"what is not saved would be gone: {', '.join(named)}",
        hint="save it (serve --store), or end the server all the same: snapserv shutdown --yes",
        details={
            "count": len(lost),
            "lost": [
                {"name": node.path, "kind": node.kind, "step": node.step, "message": node.message}
                for node in lost[:MOST_LISTED]
            ],
        },
    )


async def _is_lost(nodes: Nodes, keeper: Keeper | None, node: Node) -> bool:
    if node.death is not None or node.id == node.tree.root or node.id not in nodes.forest.nodes:
        return False
    if node.kind == "snapshot":
        return not nodes.stored.lasts(node) and not (keeper is not None and keeper.saving.will_save(node))
    queue = nodes.queue(node)
    if queue.busy:
        return True
    if keeper is not None and keeper.saving.durable != "none":
        return False  # it is snapshotted as the server ends, and that is saved
    parent = nodes.forest.nodes.get(node.parent or 0)
    if parent is None or nodes.look(node) != parent.step:
        return True
    if parent.id != node.tree.root:
        return False  # as far as its steps tell, it is what its parent is
    async with Turn(queue):
        page = await nodes.cell(node).ask("history", start=0)
    return any(action["kind"] != "begin" for action in page["actions"])
