"""Verbs that look at nodes and change nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from snapserv_client import protocol
from snapserv_client.arrays import dtype_to_wire
from snapserv_client.wire import MAX_MESSAGE_BYTES

from ...errors import BadRequestError, OverBudgetError
from ...memory.regions import ResolvedRegion, resolve_region
from ...nodes.turns import Turn
from ...operations.comparing import compare
from ...operations.verifying import Verifier
from ...outside import fields
from ...outside.pages import inspect
from ...outside.rooms import hand_region
from ..outgoing import MOST_WAITING_BYTES, replies_wait
from ..service import Call
from .registry import handles

log = structlog.get_logger(__name__)

INLINE_BYTES = 1 << 18
"""A copy that costs less takes less time than handing it to a worker thread; many small runs cost as well."""
HANDED_FROM_BYTES = 1 << 20
"""From this size on a region is handed over at the side channel, where the client can fetch it there."""


@handles("read")
async def read(call: Call, args: protocol.ReadArgs) -> protocol.ReadResult:
    await call.service.planted()
    nodes = call.service.nodes
    node = nodes.find(call.reference)
    place = fields.place_of(nodes.plan(node).places, args.field)
    region = resolve_region(args.region, place.shape, what=place.name)
    async with Turn(shared=[nodes.queue(node)]):
        if node.id in nodes.stored.away and call.service.keeper is not None:
            kept = await call.service.keeper.fetching.read(node, args.field, args.region)
            return protocol.ReadResult(kept, nodes.look(node))
        pid = (await nodes.present(node)).pid
        if args.handed and (handed := await _hand(call, pid, place, region)) is not None:
            return protocol.ReadResult(None, nodes.look(node), handed)
        copy = call.service.in_thread if fields.cost_of(place, region) > INLINE_BYTES else _inline
        value = await copy(fields.read_region, pid, place, region, most_bytes=MAX_MESSAGE_BYTES)
        return protocol.ReadResult(value, nodes.look(node))


async def _hand(call: Call, pid: int, place: fields.FieldPlace, region: ResolvedRegion) -> protocol.Handed | None:
    """Have a large region wait at the side channel; None where it is to go the plain way.

    Raises:
        BusyError: The client has not fetched what waits there already.
        SnapservError: What reading meets.
    """
    service, size = call.service, fields.size_of(place, region)
    if service.channel is None or size < HANDED_FROM_BYTES or region.backwards:
        return None
    waiting = service.channel.waiting_bytes(call.client)
    if waiting and waiting + size > MOST_WAITING_BYTES:
        raise replies_wait()
    try:
        room, shape = await service.in_thread(
            hand_region, pid, place, region, service.copying, most_bytes=MAX_MESSAGE_BYTES
        )
    except (OSError, OverBudgetError) as cause:
        log.info("not_handed", bytes=size, why=str(cause))
        return None
    ticket = service.channel.keep(room.leave(), call.client, size)
    return protocol.Handed(ticket, dtype_to_wire(place.dtype), shape)


@handles("diff")
async def diff(call: Call, args: protocol.DiffArgs) -> protocol.DiffResult:
    await call.service.planted()
    nodes = call.service.nodes
    a = nodes.find(call.reference)
    if args.other is None and a.parent is None:
        raise BadRequestError(f"{a.path} has no parent to compare it with", hint="name another node")
    other = args.other if args.other is not None else a.parent
    return await compare(nodes, call.service.in_thread, a, nodes.find(other or 0), args.fields)


@handles("pages")
async def pages(call: Call, args: protocol.PagesArgs) -> protocol.PagesResult:
    await call.service.planted()
    nodes = call.service.nodes
    node = nodes.find(call.reference)
    both = [node] if args.other is None else [node, nodes.find(args.other)]
    if len(both) > len({each.id for each in both}):
        raise BadRequestError(f"{node.path} is compared with itself", hint="name another node, or only one")
    plan = nodes.plan(node)
    if any(nodes.plan(each) is not plan for each in both):
        raise BadRequestError(
            f"{both[0].path} and {both[1].path} share no page: they are of different trees",
            hint="compare nodes of one tree",
        )
    wanted = [place.name for place in plan.places] if args.fields is None else args.fields
    places = [fields.place_of(plan.places, name) for name in wanted]
    async with Turn(shared=[nodes.queue(each) for each in both]):
        pids = [(await nodes.present(each)).pid for each in both]
        return await call.service.in_thread(inspect, places, pids, base=plan.file_backed)


@handles("verify")
async def verify(call: Call, args: protocol.VerifyArgs) -> protocol.VerifyResult:
    await call.service.planted()
    nodes = call.service.nodes
    node = nodes.find(call.reference)
    since = nodes.snapshot(node.tree.root if args.since is None else args.since, "since")
    if since not in nodes.forest.ancestors(node):
        raise BadRequestError(f"{since.path} is no ancestor of {node.path}", hint="log lists the ancestors")
    return await Verifier(nodes, call.service.in_thread, node, since, call.told(args.progress)).run()


async def _inline(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return work(*args, **kwargs)
