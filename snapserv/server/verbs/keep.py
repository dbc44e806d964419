"""Verbs that say what stays and what goes."""

from __future__ import annotations

import asyncio

from snapserv_client import protocol

from ...errors import BadRequestError
from ...nodes.turns import Turn
from ...operations import autosnap
from ..service import Call
from .registry import handles

DROPPED_TOGETHER = 64


@handles("tag")
async def tag(call: Call, args: protocol.TagArgs) -> protocol.NodeResult:
    await call.service.planted()
    nodes = call.service.nodes
    node = nodes.find(call.reference)
    nodes.tag(node, args.name, remove=args.remove)
    return protocol.NodeResult(nodes.info(node))


@handles("pin")
async def pin(call: Call, args: protocol.PinArgs) -> protocol.NodeResult:
    await call.service.planted()
    nodes = call.service.nodes
    node = nodes.find(call.reference)
    nodes.pin(node, pinned=args.pinned)
    return protocol.NodeResult(nodes.info(node))


@handles("autosnap")
async def autosnap_branch(call: Call, args: protocol.AutosnapArgs) -> protocol.NodeResult:
    await call.service.planted()
    nodes = call.service.nodes
    node = nodes.branch(call.reference)
    autosnap.govern(nodes, node, args)
    if (lease := call.service.leases.of(node)) is not None:
        lease.end()  # from here on steps go by the server, which takes the snapshots
    return protocol.NodeResult(nodes.info(node))


@handles("drop")
async def drop(call: Call, args: protocol.DropArgs) -> protocol.DropResult:
    await call.service.planted()
    nodes = call.service.nodes
    node = nodes.find(call.reference)
    doomed = [node, *nodes.forest.descendants(node)] if args.recursive else [node]
    for each in doomed:
        if each.id == each.tree.root and (each.tree.first or not args.recursive):
            raise BadRequestError(
                f"{each.path} is the root of its tree, which everything stands on",
                hint="shutdown ends the server" if each.tree.first else "drop it recursively, with all the tree",
            )
        if each.pinned:
            raise BadRequestError(f"{each.path} is pinned", hint="unpin it first")
    if args.force:
        for each in doomed:
            if nodes.queue(each).busy and each.death is None:
                nodes.cell(each).kill()
            for other in call.service.calls.values():
                if other.expanding is each and other.task is not None:
                    other.cancel()
    async with Turn(*(nodes.queue(each) for each in doomed)):
        there = [each for each in reversed(doomed) if each.id in nodes.forest.nodes]
        for start in range(0, len(there), DROPPED_TOGETHER):
            # Several at a time: the kernel takes a millisecond for each, and on every core.
            await asyncio.gather(*map(nodes.drop, there[start : start + DROPPED_TOGETHER]))
        for each in there:
            autosnap.abandon(nodes, each)
    return protocol.DropResult([each.path for each in there])
