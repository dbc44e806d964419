"""Automatic snapshots: taken every so many steps or seconds in a branch's own turn, and thinned out.

A long request is done in pieces that end where a snapshot falls due. What stays is a ladder of places to go back
to, dense near the present and sparse further back (`retention.py`). What a user made, tagged or pinned is never
among what goes.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import structlog
from snapserv_client.protocol import DEFAULT_RUNGS, AutosnapArgs

from ..errors import BadRequestError, SnapservError
from ..nodes.nodes import Nodes
from ..nodes.tree import Autosnap, Node
from ..nodes.turns import Turn
from .retention import superfluous

log = structlog.get_logger(__name__)

LEFT_BEHIND = 0
"""The place of an automatic snapshot that is no past of its branch any more, since that went back beyond it."""


def changed(rule: Autosnap | None, args: AutosnapArgs) -> Autosnap | None:
    """Return the rule that a client's arguments make of the one that held so far; None for none.

    Raises:
        BadRequestError: Arguments that exclude each other, or a number to keep where there is no rule.
    """
    if (args.every_steps is not None) + (args.every_s is not None) + args.off > 1:
        raise BadRequestError("every_steps, every_s and off exclude each other", hint="give one of them")
    if args.off:
        return None
    keep = args.keep or (rule.keep if rule is not None else DEFAULT_RUNGS)
    if args.every_steps is not None or args.every_s is not None:
        return Autosnap(args.every_steps, args.every_s, keep, time.monotonic() + (args.every_s or 0.0))
    if rule is None and args.keep is not None:
        raise BadRequestError("keep, but no snapshots are taken", hint="say how often: every_steps or every_s")
    return None if rule is None else replace(rule, keep=keep)


def govern(nodes: Nodes, branch: Node, args: AutosnapArgs) -> None:
    """Set, change or end a branch's rule; what is not given remains as it is.

    Raises:
        BadRequestError: Arguments that do not go together.
    """
    branch.autosnap = changed(branch.autosnap, args)
    nodes.note(branch)
    _thin_out(nodes, branch)


def piece(branch: Node, step: int, ticks: int) -> tuple[int, float | None]:
    """Return how much of so many ticks a branch does before a snapshot falls due: ticks, and seconds."""
    rule = branch.autosnap
    if rule is None:
        return ticks, None
    if rule.every_steps is not None:
        return min(ticks, rule.every_steps - step % rule.every_steps), None
    return ticks, max(0.0, rule.due_s - time.monotonic())


async def keep_up(nodes: Nodes, branch: Node, before: int) -> None:
    """Take a snapshot of a branch, whose turn the caller holds, if one fell due since the step ``before``.

    One that cannot be taken fails no step: the branch's rule says why, until one can.
    """
    rule, step = branch.autosnap, nodes.look(branch)
    if rule is None:
        return
    if rule.every_steps is not None:
        due = step // rule.every_steps > before // rule.every_steps
    else:
        due = step > before and time.monotonic() >= rule.due_s
    if not due:
        return
    # At once, and not with what is answered in the end: the request may run for hours.
    with nodes.ledger.at_once():
        await _take(nodes, branch, rule, step)
    _thin_out(nodes, branch)


async def _take(nodes: Nodes, branch: Node, rule: Autosnap, step: int) -> None:
    _leave_behind(nodes, branch)
    try:
        taken, _ = await nodes.take_snapshot(branch, name=free_name(branch, step), automatic=True)
    except SnapservError as error:
        rule.error = error.message
        log.warning("autosnap_failed", node=branch.path, step=step, error=error.message)
    else:
        rule.error = ""
        branch.rungs[taken.id] = max(branch.rungs.values(), default=0) + 1
    rule.due_s = time.monotonic() + (rule.every_s or 0.0)
    nodes.note(branch)


def abandon(nodes: Nodes, branch: Node) -> None:
    """Drop, soon, the automatic snapshots of a branch that was dropped: they belong to it."""
    rungs = [nodes.forest.nodes[rung] for rung in branch.rungs if rung in nodes.forest.nodes]
    branch.rungs.clear()
    for rung in rungs:
        _drop_soon(nodes, rung)


def _leave_behind(nodes: Nodes, branch: Node) -> None:
    """Take note of which automatic snapshots the branch went back beyond since the last one was taken."""
    past = {node.id for node in nodes.forest.ancestors(branch) if node.step <= branch.step}
    for rung in branch.rungs:
        if rung not in past:
            branch.rungs[rung] = LEFT_BEHIND


def free_name(branch: Node, step: int) -> str:
    """Return what to call an automatic snapshot of a branch: by its step, and as no other node is called."""
    plain = f"auto-{step}"
    own = f"{plain}-{branch.id}"  # another branch has been there
    again = (f"{own}-{count}" for count in itertools.count(2))  # and so has this one
    return next(name for name in itertools.chain((plain, own), again) if name not in branch.tree.names)


def _thin_out(nodes: Nodes, branch: Node) -> None:
    """Drop, soon, what a branch's rule leaves no room for: what was left behind first, then as the ladder says."""
    rule = branch.autosnap
    if rule is None:
        return
    there = nodes.forest.nodes
    branch.rungs = {rung: place for rung, place in branch.rungs.items() if rung in there}
    counted = {rung: place for rung, place in branch.rungs.items() if _may_go(there[rung])}
    useless = [rung for rung, place in counted.items() if place == LEFT_BEHIND or there[rung].death is not None]
    doomed = useless[: max(0, len(counted) - rule.keep)]
    places = {place: rung for rung, place in counted.items() if rung not in useless}
    doomed += [places[place] for place in superfluous(places, rule.keep)]
    for rung in doomed:
        del branch.rungs[rung]
        _drop_soon(nodes, there[rung])


def _may_go(node: Node) -> bool:
    return node.automatic and not node.pinned and not node.tags


def _drop_soon(nodes: Nodes, node: Node) -> None:
    """Drop a snapshot in its own turn, for which nobody waits: whoever uses it now is done first."""
    turn = Turn(nodes.queue(node))

    async def drop() -> None:
        async with turn:
            if node.id in nodes.forest.nodes and _may_go(node):
                await nodes.drop(node)

    nodes.in_background(drop())
