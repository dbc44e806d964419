"""How two nodes differ: field by field; and where there are no fields, in whatever else they can be compared by."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from snapserv_client.protocol import DiffResult

from ..errors import BadRequestError
from ..nodes.nodes import Nodes
from ..nodes.tree import Node
from ..nodes.turns import Turn
from ..outside import comparing, fields
from ..outside.other_memory import differing_pages

InThread = Callable[..., Awaitable[Any]]


async def compare(nodes: Nodes, in_thread: InThread, a: Node, b: Node, wanted: Sequence[str] | None) -> DiffResult:
    """Compare two nodes, each in its turn.

    Args:
        nodes: Where both are.
        in_thread: Runs what takes long without holding up others.
        a: One node.
        b: The other.
        wanted: Names of fields; None for all there is.

    Raises:
        BadRequestError: Their fields are not the same ones.
        NotFoundError: No such field.
        SnapservError: A process died, or none could be made to ask a snapshot by.
    """
    plan, other = nodes.plan(a), nodes.plan(b)
    if plan.places != other.places:
        raise BadRequestError(
            f"{a.path} and {b.path} cannot be compared: their fields differ",
            hint="compare nodes of one tree, or of trees made with the same shapes",
        )
    names = [place.name for place in plan.places] if wanted is None else wanted
    places = [fields.place_of(plan.places, name) for name in names]
    segments = plan.segments if plan.segments == other.segments else None
    blind = wanted is None and not any(place.nbytes for place in places)
    queues = [nodes.queue(a), nodes.queue(b)]
    # Whoever is asked what it put out must not be asked anything else meanwhile.
    alone = [nodes.queue(node) for node in (a, b) if blind and node.kind == "branch"]
    async with Turn(*alone, shared=queues):
        pids = (await nodes.present(a)).pid, (await nodes.present(b)).pid
        result: DiffResult = await in_thread(comparing.compare, places, *pids, segments)
        result.step, result.other_step, result.other = nodes.look(a), nodes.look(b), b.path
        if blind:
            if a is b:
                result.other_pages = 0
            elif plan is other:  # of other trees, nothing need lie where it does here
                result.other_pages = await in_thread(differing_pages, *pids, plan.segments)
            result.outputs = await _same_outputs(nodes, a, b)
    result.same = _verdict(result, named=wanted is not None, blind=blind)
    return result


async def _same_outputs(nodes: Nodes, a: Node, b: Node) -> bool | None:
    """Return whether the last steps of two nodes put out the same; None where there is nothing to compare."""
    last = []
    for node in (a, b):
        async with nodes.awake(node) as cell:
            last.append((await cell.ask("trail"))["last"])
    return None if last == [None, None] else last[0] == last[1]


def _verdict(result: DiffResult, *, named: bool, blind: bool) -> bool | None:
    """Return whether two nodes are the same; None where nothing differs and that is not enough to say so."""
    if any(field.changed for field in result.fields):
        return False
    if named:
        return True if any(field.total for field in result.fields) else None
    if result.step != result.other_step or result.outputs is False:
        return False
    return True if not blind or result.other_pages == 0 else None
