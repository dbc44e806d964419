"""Verbs that make nodes, list them, and put branches back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import msgspec
from snapserv_client import protocol

from ...errors import BadRequestError, NotFoundError, SnapservError
from ...machine.sizes import NODE_BYTES, fitting
from ...nodes.nodes import Nodes
from ...nodes.seeds import Reseeding
from ...nodes.tree import Node
from ...nodes.turns import Turn
from ...operations.recording import recording_of
from ...operations.travelling import Retracing, Travel
from ...outside import accounting
from ..service import Call, Service
from .registry import handles


@handles("create")
async def create(call: Call, args: protocol.CreateArgs) -> protocol.NodeResult:
    await call.service.planted()
    service = call.service
    target = service.target(args.simulation)
    number = len(service.nodes.forest.trees) + 1
    while f"t{number}" in service.nodes.forest.trees:
        number += 1
    main = await service.nodes.create(target, name=args.name or f"t{number}", params=args.params)
    return protocol.NodeResult(service.nodes.info(main))


@handles("tree")
async def tree(call: Call, args: protocol.TreeArgs) -> protocol.TreeResult:
    await call.service.planted()
    nodes = call.service.nodes
    if args.tree is not None:
        nodes.tree(args.tree)
    listed = [node for node in nodes.forest.nodes.values() if args.tree in (None, node.tree.name)]
    page = listed[args.offset : args.offset + args.limit]
    page = page[: fitting(map(_told_bytes, page))]
    sizes: list[int | None] = [None] * len(page)
    if args.sizes:
        everyone = [_measurable(call.service, node) for node in nodes.forest.nodes.values()]
        sizes = await call.service.in_thread(_measure, [_measurable(call.service, node) for node in page], everyone)
    after = args.offset + len(page)
    return protocol.TreeResult(
        trees=[
            protocol.TreeInfo(tree.name, tree.simulation, tree.root)
            for tree in nodes.forest.trees.values()
            if tree.root and args.tree in (None, tree.name)
        ],
        nodes=[
            nodes.info(node, private_bytes=size)
            for node, size in zip(page, sizes, strict=True)
            if node.id in nodes.forest.nodes
        ],
        total=len(listed),
        next=after if after < len(listed) else None,
    )


@handles("show")
async def show(call: Call, args: protocol.Empty) -> protocol.ShowResult:
    await call.service.planted()
    service, nodes = call.service, call.service.nodes
    node = nodes.find(call.reference)
    everyone = [_measurable(service, each) for each in nodes.forest.nodes.values()]
    (size,) = await service.in_thread(_measure, [_measurable(service, node)], everyone)
    if node.id not in nodes.forest.nodes:
        raise NotFoundError(f"{node.path} was dropped")
    children = [nodes.forest.nodes[child].path for child in node.children]
    listed = children[: fitting(map(len, children))]
    cell, keeper = nodes.cell_of(node), service.keeper
    account = None if cell is None else service.budget.accounts.by_cell.get(cell)
    saved = None if keeper is None else keeper.saving.saved(node)
    parent = nodes.forest.nodes.get(node.parent or 0)
    return protocol.ShowResult(
        node=nodes.info(node, private_bytes=size),
        parent=None if parent is None else nodes.info(parent),
        children=listed,
        more=len(children) - len(listed),
        taken_of=node.taken_of,
        fault=None if node.fault is None else protocol.FaultInfo(**asdict(node.fault)),
        charged_bytes=None if account is None else account.own_bytes,
        stored_bytes=None if saved is None else saved.size,
    )


@handles("log")
async def log(call: Call, args: protocol.LogArgs) -> protocol.LogResult:
    await call.service.planted()
    nodes = call.service.nodes
    node = nodes.find(call.reference)
    lineage = nodes.forest.ancestors(node, args.limit)
    entries = [nodes.info(each) for each in lineage[-fitting(map(_told_bytes, reversed(lineage))) :]]
    if not args.actions:
        return protocol.LogResult(entries)
    queue, recording = nodes.queue(node), None
    root = [nodes.queue(nodes.find(node.tree.root))] if args.recording else []  # for what the recording began with
    async with (
        Turn(queue, shared=root) if node.kind == "branch" else Turn(shared=[queue, *root]),
        nodes.awake(node) as cell,
    ):
        page = await cell.ask("history", start=args.start)
        if args.recording and page["next"] is None:
            recording = await recording_of(nodes, call.service.in_thread, node, cell)
    actions = msgspec.convert(page["actions"], list[protocol.Action])
    return protocol.LogResult(entries, actions, page["next"], recording)


@handles("snapshot")
async def snapshot(call: Call, args: protocol.SnapshotArgs) -> protocol.SnapshotResult:
    await call.service.planted()
    nodes = call.service.nodes
    node = nodes.branch(call.reference)
    async with Turn(nodes.queue(node)):
        taken, fork_us = await nodes.take_snapshot(node, name=args.name, message=args.message)
        return protocol.SnapshotResult(nodes.info(taken), fork_us)


@handles("branch")
async def branch(call: Call, args: protocol.BranchArgs) -> protocol.BranchResult:
    await call.service.planted()
    nodes = call.service.nodes
    node = nodes.find(call.reference)
    names: list[str | None] = list(args.names or [])
    if args.names is not None and len(names) != args.count:
        raise BadRequestError(f"{args.count} branches and {len(names)} names", hint="give one name each")
    if len(set(names)) != len(names):
        raise BadRequestError("two of the branches have the same name")
    for name in names:
        nodes.check_free(node.tree, name)
    taken = None
    source = node
    queue = nodes.queue(node)
    async with Turn(queue) if node.kind == "branch" else Turn(shared=[queue]):
        if node.kind == "branch":
            source, _ = await nodes.take_snapshot(node, name=None)
            taken = nodes.info(source)
        made: list[Node] = []
        async with Turn(shared=[nodes.queue(source)] if taken else []):  # nobody evicts it before it is branched
            try:
                for index in range(args.count):
                    name = names[index] if names else None
                    made.append(await nodes.make_branch(source, name=name, rng=args.rng))
            except SnapservError:
                # All of them or none: who asked cannot know the names of some.
                for each in (*made, *([source] if taken else [])):
                    await nodes.drop(each)
                raise
        reseeding = Reseeding(args.rng)
        for each in made:
            reseeding.add(_begun(nodes, each))
        call.tell(reseeding.notices())
        return protocol.BranchResult([nodes.info(each) for each in made], taken, reseeding.names)


@handles("restore")
async def restore(call: Call, args: protocol.RestoreArgs) -> protocol.NodeResult:
    await call.service.planted()
    nodes = call.service.nodes
    node, source = nodes.branch(call.reference), nodes.find(args.snapshot)
    if source.kind != "snapshot":
        raise BadRequestError(
            f"{source.path} is a live branch", hint="restore from a snapshot; snapshot the branch first"
        )
    if source.tree is not node.tree:
        raise BadRequestError(f"{node.path} and {source.path} are of different trees")
    return await _revive(call, node, source, args.rng)


@handles("reset")
async def reset(call: Call, args: protocol.ResetArgs) -> protocol.NodeResult:
    await call.service.planted()
    nodes = call.service.nodes
    node = nodes.branch(call.reference)
    return await _revive(call, node, nodes.find(node.tree.root), args.rng)


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


async def _revive(call: Call, node: Node, source: Node, rng: protocol.Rng) -> protocol.NodeResult:
    nodes = call.service.nodes
    async with Turn(nodes.queue(node), shared=[nodes.queue(source)]):
        if node.id not in nodes.forest.nodes:
            raise NotFoundError(f"{node.path} was dropped")
        await nodes.revive(node, source, rng=rng)
        reseeding = Reseeding(rng)
        reseeding.add(_begun(nodes, node))
    call.tell(reseeding.notices())
    return protocol.NodeResult(nodes.info(node), reseeding.names)


def _begun(nodes: Nodes, branch: Node) -> Mapping[str, Any]:
    cell = nodes.cell_of(branch)
    return {} if cell is None else cell.begun


def _parted(result: protocol.GotoResult) -> protocol.Notice:
    return protocol.Notice(
        "not_the_same",
        f"{result.node.name} is not what it was at step {result.node.step:,}: what was done again since "
        f"{result.since} has put out something else at step {result.parted:,} at the latest",
        hint="the simulation does not do the same thing twice; verify says from which tick on",
        details={"agreed": result.agreed, "parted": result.parted},
    )


def _told_bytes(node: Node) -> int:
    texts = (node.message, node.faulted or "", node.death or "", *node.tags)
    return NODE_BYTES + sum(len(text.encode()) for text in texts)


def _measurable(service: Service, node: Node) -> accounting.Measurable:
    pid = 0 if node.death is not None else service.nodes.info(node).pid
    return pid, service.nodes.plan(node).segments


def _measure(page: list[accounting.Measurable], everyone: list[accounting.Measurable]) -> list[int | None]:
    shared = accounting.count_bases(everyone)
    return [accounting.private_bytes(pid, segments, shared) if pid else None for pid, segments in page]
