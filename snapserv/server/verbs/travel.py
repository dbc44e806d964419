"""The verb that goes back to a step of a node's past."""

from __future__ import annotations

from snapserv_client import protocol

from ...errors import BadRequestError
from ...nodes.turns import Turn
from ...operations.travelling import Retracing, Travel
from ..service import Call
from .registry import handles


@handles("goto")
async def goto(call: Call, args: protocol.GotoArgs) -> protocol.GotoResult:
    await call.service.planted()
    nodes = call.service.nodes
    node = nodes.find(call.reference) if args.new else nodes.branch(call.reference)
    if (args.step is None) == (args.back is None):
        raise BadRequestError("a step, or how many ticks back", hint="give one of both")
    if args.name is not None and not args.new:
        raise BadRequestError(f"{node.path} keeps its name", hint="a name is that of a new branch")
    nodes.check_free(node.tree, args.name)

    def on_way(retracing: Retracing) -> None:
        call.stepping = retracing

    queue, root = nodes.queue(node), nodes.queue(nodes.find(node.tree.root))
    turn = Turn(queue, shared=[root]) if node.kind == "branch" else Turn(shared=[queue, root])
    try:
        async with turn:
            travel = Travel(nodes, node, args, on_way, call.told(args.progress))
            result = await travel.run()
    finally:
        call.stepping = None
    if result.node.id in nodes.forest.nodes:
        result.node = nodes.info(nodes.forest.nodes[result.node.id])  # idle again
    if result.parted is not None and not args.tell:
        call.tell([_parted(result)])
    return result


def _parted(result: protocol.GotoResult) -> protocol.Notice:
    return protocol.Notice(
        "not_the_same",
        f"{result.node.name} is not what it was at step {result.node.step:,}: what was done again since "
        f"{result.since} has put out something else at step {result.parted:,} at the latest",
        hint="the simulation does not do the same thing twice; verify says from which tick on",
        details={"agreed": result.agreed, "parted": result.parted},
    )
