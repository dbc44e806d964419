"""Verbs that run a simulation, change what it holds, and stop it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Any

import msgspec
from snapserv_client import protocol

from ...cell.holdings import notice_of
from ...errors import BadRequestError, NotFoundError
from ...memory.regions import resolve_region
from ...nodes.faults import noting_faults, refuse_faulted
from ...nodes.process import CellProcess
from ...nodes.tree import Node
from ...nodes.turns import Turn
from ...operations import stepping
from ...operations.atomic import atomically
from ...operations.expansion import Expansion
from ...operations.recording import refuse_another, refuse_elsewhere
from ...operations.replaying import replay, saying
from ...operations.stepping import Stepping
from ...outside.fields import place_of
from ..service import Call
from .registry import handles


@handles("step")
async def step(call: Call, args: protocol.StepArgs) -> protocol.StepResult:
    return await _step(call, args)


@handles("run")
async def run(call: Call, args: protocol.RunArgs) -> protocol.StepResult:
    return await _step(call, args)


async def _step(call: Call, args: protocol.StepArgs | protocol.RunArgs) -> protocol.StepResult:
    await call.service.planted()
    nodes = call.service.nodes
    node = nodes.branch(call.reference)
    atomic = call.service.options.atomic if args.atomic is None else args.atomic
    deadline_s = None if args.timeout_s is None else asyncio.get_running_loop().time() + args.timeout_s
    async with Turn(nodes.queue(node)):
        refuse_faulted(node, unless=call.key in nodes.processes.answers)
        if args.snapshot is not None:
            if args.until is None:
                raise BadRequestError("a snapshot of a step is taken where a condition holds", hint="give until")
            nodes.check_free(node.tree, args.snapshot)
        cell = nodes.cell(node)
        cell.on_progress = call.progress if args.progress else None
        call.stepping = Stepping(cell, key=call.key)
        work = call.stepping
        try:
            done = await stepping.step(nodes, node, work, args, atomic=atomic, deadline_s=deadline_s)
            if args.snapshot is not None and done.stopped:
                taken, _ = await nodes.take_snapshot(node, name=args.snapshot)
                done.snapshot = nodes.info(taken)
            return done
        finally:
            call.tell(notice_of(node.path, held) for held in work.held)
            call.stepping = None
            cell.on_progress = None
            nodes.look(node)


@handles("record")
async def record(call: Call, args: protocol.RecordArgs) -> protocol.Empty:
    await call.service.planted()
    nodes = call.service.nodes
    node = nodes.branch(call.reference)
    async with Turn(nodes.queue(node)):
        await nodes.cell(node).ask("record", record=msgspec.to_builtins(args.record), every=args.every)
    return protocol.Empty()


@handles("records")
async def records(call: Call, args: protocol.RecordsArgs) -> protocol.Records:
    await call.service.planted()
    nodes = call.service.nodes
    node = nodes.find(call.reference)
    queue = nodes.queue(node)
    async with Turn(queue) if node.kind == "branch" else Turn(shared=[queue]), nodes.awake(node) as cell:
        found = await cell.ask("records", after=args.after)
    return msgspec.convert(found, protocol.Records)


@handles("write")
async def write(call: Call, args: protocol.WriteArgs) -> protocol.Empty:
    await call.service.planted()
    nodes = call.service.nodes
    node = nodes.branch(call.reference)
    place = place_of(nodes.plan(node).places, args.field)
    resolve_region(args.region, place.shape, what=place.name)
    async with Turn(nodes.queue(node)):
        refuse_faulted(node, unless=call.key in nodes.processes.answers)
        await nodes.cell(node).ask("write", key=call.key, field=args.field, value=args.value, region=args.region)
    return protocol.Empty()


@handles("call")
async def call_method(call: Call, args: protocol.CallArgs) -> protocol.CallResult:
    await call.service.planted()
    nodes = call.service.nodes
    node = nodes.branch(call.reference)
    if args.method not in (method.name for method in nodes.plan(node).spec.methods):
        names = ", ".join(method.name for method in nodes.plan(node).spec.methods) or "none"
        raise NotFoundError(f"no exported method {args.method!r}", hint=f"exported methods: {names}")

    def ask() -> Awaitable[dict[str, Any]]:
        return nodes.cell(node).ask("call", key=call.key, method=args.method, args=args.args, kwargs=args.kwargs)

    async with Turn(nodes.queue(node)):
        refuse_faulted(node, unless=call.key in nodes.processes.answers)
        if args.atomic:
            answer = await atomically(nodes, node, ask)
        else:
            with noting_faults(nodes, node):
                answer = await ask()
        return protocol.CallResult(answer["value"])


@handles("direct")
async def direct(call: Call, args: protocol.Empty) -> protocol.DirectResult:
    await call.service.planted()
    service, nodes = call.service, call.service.nodes
    node = nodes.branch(call.reference)
    async with contextlib.AsyncExitStack() as turn:
        await turn.enter_async_context(Turn(nodes.queue(node)))
        refuse_faulted(node)
        if service.channel is None or node.autosnap is not None:
            return protocol.DirectResult(None, nodes.look(node))
        line = service.leases.begin(node, call.client, turn.pop_all())
        return protocol.DirectResult(service.channel.keep(line.detach(), call.client), nodes.look(node))


@handles("expand")
async def expand(call: Call, args: protocol.ExpandArgs) -> protocol.ExpandResult:
    await call.service.planted()
    nodes = call.service.nodes
    node = nodes.find(call.reference)
    _check_expansion(args, nodes.plan(node).spec)
    if node.kind == "snapshot":
        async with Turn(shared=[nodes.queue(node)]):
            refuse_faulted(node)
            return await _expand(call, node, args)
    async with Turn(nodes.queue(node)):
        refuse_faulted(node)
        source, _ = await nodes.take_snapshot(node, name=None)
        turn = Turn(shared=[nodes.queue(source)])  # before anybody else can drop it
    kept = False
    try:
        async with turn:
            result = await _expand(call, source, args)
        kept = bool(result.kept)
    finally:
        if not kept and source.id in nodes.forest.nodes:
            async with Turn(nodes.queue(source)):
                await nodes.drop(source)
    result.snapshot = nodes.info(source) if kept else None
    return result


@handles("interrupt")
async def interrupt(call: Call, args: protocol.InterruptArgs) -> protocol.InterruptResult:
    nodes = call.service.nodes
    own = args.request is not None and not args.force
    node = nodes.find(call.reference) if own else nodes.branch(call.reference)
    if args.force:
        lease = call.service.leases.of(node)
        if lease is not None and await lease.gives_way():
            return protocol.InterruptResult(False)  # nothing ran
        busy = nodes.queue(node).busy
        if busy:
            nodes.cell(node).kill()
        return protocol.InterruptResult(busy)
    if args.request is not None:
        mine = call.service.calls.get((call.client, args.request))
        if mine is None or (mine.stepping is None and mine.task is None):
            return protocol.InterruptResult(False)
        if mine.stepping is None:
            mine.cancel()
            return protocol.InterruptResult(True)
        running = mine.stepping
    else:
        cell = nodes.cell(node)
        lease = call.service.leases.of(node)
        if lease is not None:
            return protocol.InterruptResult(await lease.interrupt())
        if call.service.recovery.running(node) is cell:
            cell.interrupt(0)  # whatever runs there was asked for by an earlier server
            return protocol.InterruptResult(True)
        found = (other.stepping for other in call.service.calls.values() if other.stepping)
        at_node = next((each for each in found if each.cell is cell), None)
        if at_node is None:
            return protocol.InterruptResult(False)
        running = at_node
    running.interrupt()
    return protocol.InterruptResult(True)


@handles("mark")
async def mark(call: Call, args: protocol.MarkArgs) -> protocol.MarkResult:
    await call.service.planted()
    nodes = call.service.nodes
    node = nodes.branch(call.reference)
    async with Turn(nodes.queue(node)):
        refuse_faulted(node, unless=call.key in nodes.processes.answers)
        return protocol.MarkResult(**await nodes.cell(node).ask("mark", key=call.key, remove=args.remove))


@handles("rewind")
async def rewind(call: Call, args: protocol.Empty) -> protocol.RewindResult:
    await call.service.planted()
    nodes = call.service.nodes
    node = nodes.branch(call.reference)
    async with Turn(nodes.queue(node)):
        result = protocol.RewindResult(**await nodes.cell(node).ask("rewind", key=call.key))
        nodes.rewound(node)
        return result


@handles("clear")
async def clear(call: Call, args: protocol.Empty) -> protocol.NodeResult:
    await call.service.planted()
    nodes = call.service.nodes
    node = nodes.branch(call.reference)
    async with Turn(nodes.queue(node)):
        nodes.cell(node)  # a dead branch has nothing to go on with
        nodes.clear(node)
    return protocol.NodeResult(nodes.info(node))


@handles("replay")
async def replay_actions(call: Call, args: protocol.ReplayArgs) -> protocol.NodeResult:
    await call.service.planted()
    nodes = call.service.nodes
    source = nodes.tree(None).root if args.start is None else args.start
    start = nodes.snapshot(source, "start")
    begins = bool(args.actions) and isinstance(args.actions[0], protocol.BeginAction)

    async def prepare(cell: CellProcess) -> None:
        def about_to() -> None:
            call.stepping = Stepping(cell, cell.number + 1)

        ticks = sum(each.ticks * each.repeat for each in args.actions if isinstance(each, protocol.StepAction))
        try:
            async with saying(cell, start.step, ticks, call.told(args.progress)):
                await replay(cell, args.actions, before=about_to)
        finally:
            call.stepping = None
        if recording is not None:
            await refuse_elsewhere(nodes, call.service.in_thread, recording, start, cell)

    recording = None if args.force else args.recording
    async with Turn(shared=[nodes.queue(start)]):
        refuse_faulted(start)
        if recording is not None:
            await refuse_another(nodes, call.service.in_thread, recording, start)
        made = await nodes.make_branch(start, name=args.name, rng="same", silent=begins, prepare=prepare)
        return protocol.NodeResult(nodes.info(made))


async def _expand(call: Call, source: Node, args: protocol.ExpandArgs) -> protocol.ExpandResult:
    await call.service.nodes.present(source)  # where it has died, that is the error, and not each child's
    on_outcome = call.stream.tell if args.stream and call.stream is not None else _forget
    call.expanding = source
    expansion = Expansion(call.service.nodes, source, args, on_outcome)
    result = await expansion.run()
    call.tell(expansion.reseeding.notices())
    if args.stream:
        result.outcomes = []
    return result


async def _forget(outcome: protocol.Outcome) -> None:
    """Leave it to the final reply."""


def _check_expansion(args: protocol.ExpandArgs, spec: protocol.SpecResult) -> None:
    methods = [method.name for method in spec.methods]
    if args.policy is not None and args.policy not in methods:
        raise NotFoundError(
            f"no exported method {args.policy!r}", hint=f"exported methods: {', '.join(methods) or 'none'}"
        )
    if args.policy_ticks and args.policy is None:
        raise BadRequestError("policy_ticks without a policy", hint="name an exported method that returns inputs")
    if args.keep == "best" and not args.by:
        raise BadRequestError("keep best, but by nothing", hint="by names an output, or one of sum")
    if any(isinstance(each, list) and not each for each in args.inputs) and not (args.policy_ticks or args.read):
        raise BadRequestError("an input sequence is empty, and there is nothing to read", hint="give it a tick")
