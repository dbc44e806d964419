"""What each verb does: one coroutine a verb, from checked arguments to the result that is sent.

A handler takes its turn (see `snapserv.nodes.turns`) before it awaits anything, so that requests to one node run in
the order in which they came.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
from snapserv_client import protocol
from snapserv_client.protocol import PROTOCOL_VERSION
from snapserv_client.wire import MAX_MESSAGE_BYTES

import snapserv

from ..errors import BadRequestError, NotFoundError, SnapservError, VersionMismatchError
from ..machine import descriptors
from ..memory.regions import resolve_region
from ..nodes import states
from ..nodes.faults import noting_faults, refuse_faulted
from ..nodes.histograms import BOUNDS_S
from ..nodes.process import CellProcess, RequestKey
from ..nodes.tree import Node
from ..nodes.turns import Turn
from ..operations import autosnap, stepping
from ..operations.atomic import atomically
from ..operations.expansion import Expansion
from ..operations.replaying import replay
from ..operations.stepping import Stepping
from ..operations.verifying import Verifier
from ..outside import accounting, pages
from ..outside import fields as reading

if TYPE_CHECKING:
    from .server import Server

INLINE_BYTES = 1 << 18
"""A copy below this size takes less time than handing it to a worker thread."""

DROPPED_TOGETHER = 64


@dataclass(eq=False, slots=True)
class Call:
    """One request being served.

    ``stepping`` is its step, once that runs; ``expanding`` the snapshot that it expands; ``code`` what came of it.
    """

    server: Server
    client: bytes
    id: int
    verb: protocol.Verb
    node: str | int | None
    progress: Callable[[int, int], None] | None = None
    outcome: Callable[[protocol.Outcome], None] | None = None
    stepping: Stepping | None = None
    expanding: Node | None = None
    task: asyncio.Task[None] | None = field(default=None)
    code: str = "ok"

    @property
    def key(self) -> RequestKey:
        """Whose request it is: a cell that does it remembers that."""
        return self.client, self.id

    def named(self) -> dict[str, str | int]:
        """What the log calls the request: its node by name if it has one, and not at all where it names none."""
        told: dict[str, str | int] = {"client": self.client.hex(), "request": self.id, "verb": self.verb.name}
        if self.node is not None:
            node = self.server.nodes.forest.find(self.node)
            told["node"] = self.node if node is None else node.path
        return told

    @property
    def reference(self) -> str | int:
        """The node that the request names.

        Raises:
            BadRequestError: It names none.
        """
        if self.node is None:
            raise BadRequestError("the request names no node", hint="set node to a name or an id")
        return self.node


Handler = Callable[[Call, Any], Awaitable[msgspec.Struct]]
HANDLERS: dict[str, Handler] = {}
"""The handler of every verb of the protocol."""


def handles(verb: str) -> Callable[[Handler], Handler]:
    """Register the handler of ``verb``."""

    def register(handler: Handler) -> Handler:
        HANDLERS[verb] = handler
        return handler

    return register


# ----------------------------------------------------------------------------------------- about the server


@handles("hello")
async def hello(call: Call, args: protocol.HelloArgs) -> protocol.HelloResult:
    if args.protocol != PROTOCOL_VERSION:
        raise VersionMismatchError(
            f"the client speaks version {args.protocol} of the protocol, and this server {PROTOCOL_VERSION}",
            hint=f"install snapserv-client {snapserv.__version__}",
        )
    server = call.server
    return protocol.HelloResult(
        server=snapserv.__version__,
        protocol=PROTOCOL_VERSION,
        name=server.name,
        pid=os.getpid(),
        trees=list(server.nodes.forest.trees),
        events=server.events.endpoint,
        atomic=server.options.atomic,
    )


@handles("ping")
async def ping(call: Call, args: protocol.Empty) -> protocol.Empty:
    return protocol.Empty()


@handles("spec")
async def spec(call: Call, args: protocol.SpecArgs) -> protocol.SpecResult:
    await call.server.planted()
    nodes = call.server.nodes
    return nodes.spec(nodes.tree(args.tree))


@handles("stats")
async def stats(call: Call, args: protocol.Empty) -> protocol.StatsResult:
    server, kinds = call.server, call.server.nodes.forest.kinds
    counters = server.nodes.counters
    times = sorted(counters.fork_us)
    return protocol.StatsResult(
        uptime_s=server.uptime_s,
        nodes=kinds.total(),
        snapshots=kinds["snapshot"],
        branches=kinds["branch"],
        dead=server.nodes.dead,
        clients=len(server.sessions),
        requests=server.requests,
        errors=server.errors,
        steps=counters.steps,
        forks=counters.forks,
        fork_us_p50=times[len(times) // 2] if times else 0.0,
        fork_us_p99=times[len(times) * 99 // 100] if times else 0.0,
        in_flight=len(server.calls),
        descriptors=descriptors.count_open(),
        threads=len(os.listdir("/proc/self/task")),
        resident_bytes=accounting.resident_bytes(os.getpid()),
        memory=server.budget.statistics(),
        longest_lane=server.nodes.traffic.longest,
        states=states.states(server.nodes),
        deaths=dict(counters.deaths),
        verbs=server.counts.by_verb(),
        bounds_s=list(BOUNDS_S),
        active=[server.nodes.info(node) for node in states.in_use(server.nodes)],
    )


@handles("tree")
async def tree(call: Call, args: protocol.TreeArgs) -> protocol.TreeResult:
    await call.server.planted()
    nodes = call.server.nodes
    if args.tree is not None:
        nodes.tree(args.tree)
    listed = [node for node in nodes.forest.nodes.values() if args.tree in (None, node.tree.name)]
    page = listed[args.offset : args.offset + args.limit]
    sizes: list[int | None] = [None] * len(page)
    if args.sizes:
        everyone = [_measurable(call.server, node) for node in nodes.forest.nodes.values()]
        sizes = await call.server.in_thread(_measure, [_measurable(call.server, node) for node in page], everyone)
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


@handles("watch")
async def watch(call: Call, args: protocol.Empty) -> protocol.WatchResult:
    events = call.server.events
    return protocol.WatchResult(events.endpoint, events.sequence)


@handles("shutdown")
async def shutdown(call: Call, args: protocol.Empty) -> protocol.Empty:
    call.server.stop("a client asked for it")
    return protocol.Empty()


@handles("create")
async def create(call: Call, args: protocol.CreateArgs) -> protocol.NodeResult:
    await call.server.planted()
    server = call.server
    target = server.target(args.simulation)
    number = len(server.nodes.forest.trees) + 1
    while f"t{number}" in server.nodes.forest.trees:
        number += 1
    main = await server.nodes.create(target, name=args.name or f"t{number}", params=args.params)
    return protocol.NodeResult(server.nodes.info(main))


# ---------------------------------------------------------------------------------------------- about nodes


@handles("log")
async def log(call: Call, args: protocol.LogArgs) -> protocol.LogResult:
    await call.server.planted()
    nodes = call.server.nodes
    node = nodes.find(call.reference)
    entries = [nodes.info(each) for each in nodes.forest.ancestors(node, args.limit)]
    if not args.actions:
        return protocol.LogResult(entries)
    queue = nodes.queue(node)
    async with Turn(queue) if node.kind == "branch" else Turn(shared=[queue]), nodes.awake(node) as cell:
        page = await cell.ask("history", start=args.start)
    return protocol.LogResult(entries, msgspec.convert(page["actions"], list[protocol.Action]), page["next"])


@handles("replay")
async def replay_actions(call: Call, args: protocol.ReplayArgs) -> protocol.NodeResult:
    await call.server.planted()
    nodes = call.server.nodes
    source = nodes.tree(None).root if args.start is None else args.start
    start = nodes.snapshot(source, "start")
    begins = bool(args.actions) and isinstance(args.actions[0], protocol.BeginAction)

    async def prepare(cell: CellProcess) -> None:
        def about_to() -> None:
            call.stepping = Stepping(cell, cell.number + 1)

        try:
            await replay(cell, args.actions, before=about_to)
        finally:
            call.stepping = None

    async with Turn(shared=[nodes.queue(start)]):
        refuse_faulted(start)
        made = await nodes.make_branch(start, name=args.name, rng="same", silent=begins, prepare=prepare)
        return protocol.NodeResult(nodes.info(made))


@handles("verify")
async def verify(call: Call, args: protocol.VerifyArgs) -> protocol.VerifyResult:
    await call.server.planted()
    nodes = call.server.nodes
    node = nodes.find(call.reference)
    since = nodes.snapshot(node.tree.root if args.since is None else args.since, "since")
    if since not in nodes.forest.ancestors(node):
        raise BadRequestError(f"{since.path} is no ancestor of {node.path}", hint="log lists the ancestors")
    return await Verifier(nodes, call.server.in_thread, node, since).run()


@handles("read")
async def read(call: Call, args: protocol.ReadArgs) -> protocol.ReadResult:
    await call.server.planted()
    nodes = call.server.nodes
    node = nodes.find(call.reference)
    place = reading.place_of(nodes.plan(node).places, args.field)
    region = resolve_region(args.region, place.shape, what=place.name)
    async with Turn(shared=[nodes.queue(node)]):
        pid = nodes.cell(node).pid
        copy = call.server.in_thread if place.nbytes > INLINE_BYTES else _inline
        value = await copy(reading.read_region, pid, place, region, most_bytes=MAX_MESSAGE_BYTES)
        return protocol.ReadResult(value, nodes.look(node))


@handles("diff")
async def diff(call: Call, args: protocol.DiffArgs) -> protocol.DiffResult:
    await call.server.planted()
    nodes = call.server.nodes
    a, b = nodes.find(call.reference), nodes.find(args.other)
    plan, other = nodes.plan(a), nodes.plan(b)
    if plan.places != other.places:
        raise BadRequestError(
            f"{a.path} and {b.path} cannot be compared: their fields differ",
            hint="compare nodes of one tree, or of trees made with the same shapes",
        )
    wanted = [place.name for place in plan.places] if args.fields is None else args.fields
    places = [reading.place_of(plan.places, name) for name in wanted]
    segments = plan.segments if plan.segments == other.segments else None
    async with Turn(shared=[nodes.queue(a), nodes.queue(b)]):
        pids = nodes.cell(a).pid, nodes.cell(b).pid
        return await call.server.in_thread(reading.compare, places, *pids, segments)


@handles("pages")
async def pages_of(call: Call, args: protocol.PagesArgs) -> protocol.PagesResult:
    await call.server.planted()
    nodes = call.server.nodes
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
    places = [reading.place_of(plan.places, name) for name in wanted]
    async with Turn(shared=[nodes.queue(each) for each in both]):
        pids = [nodes.cell(each).pid for each in both]
        return await call.server.in_thread(pages.inspect, places, pids, base=plan.file_backed)


@handles("tag")
async def tag(call: Call, args: protocol.TagArgs) -> protocol.NodeResult:
    await call.server.planted()
    nodes = call.server.nodes
    node = nodes.find(call.reference)
    nodes.tag(node, args.name, remove=args.remove)
    return protocol.NodeResult(nodes.info(node))


@handles("pin")
async def pin(call: Call, args: protocol.PinArgs) -> protocol.NodeResult:
    await call.server.planted()
    nodes = call.server.nodes
    node = nodes.find(call.reference)
    nodes.pin(node, pinned=args.pinned)
    return protocol.NodeResult(nodes.info(node))


@handles("drop")
async def drop(call: Call, args: protocol.DropArgs) -> protocol.DropResult:
    await call.server.planted()
    nodes = call.server.nodes
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
            for other in call.server.calls.values():
                if other.expanding is each and other.task is not None:
                    other.task.cancel()
    async with Turn(*(nodes.queue(each) for each in doomed)):
        there = [each for each in reversed(doomed) if each.id in nodes.forest.nodes]
        for start in range(0, len(there), DROPPED_TOGETHER):
            # Several at a time: the kernel takes a millisecond for each, and on every core.
            await asyncio.gather(*map(nodes.drop, there[start : start + DROPPED_TOGETHER]))
        for each in there:
            autosnap.abandon(nodes, each)
    return protocol.DropResult([each.path for each in there])


@handles("branch")
async def branch(call: Call, args: protocol.BranchArgs) -> protocol.BranchResult:
    await call.server.planted()
    nodes = call.server.nodes
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
        return protocol.BranchResult([nodes.info(each) for each in made], taken)


@handles("expand")
async def expand(call: Call, args: protocol.ExpandArgs) -> protocol.ExpandResult:
    await call.server.planted()
    nodes = call.server.nodes
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


async def _expand(call: Call, source: Node, args: protocol.ExpandArgs) -> protocol.ExpandResult:
    call.server.nodes.cell(source)  # where it has died, that is the error, and not each child's
    on_outcome = call.outcome if args.stream and call.outcome is not None else _forget
    call.expanding = source
    result = await Expansion(call.server.nodes, source, args, on_outcome).run()
    if args.stream:
        result.outcomes = []
    return result


def _forget(outcome: protocol.Outcome) -> None:
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


# ------------------------------------------------------------------------------------------- about branches


@handles("step")
async def step(call: Call, args: protocol.StepArgs) -> protocol.StepResult:
    await call.server.planted()
    nodes = call.server.nodes
    node = nodes.branch(call.reference)
    atomic = call.server.options.atomic if args.atomic is None else args.atomic
    deadline_s = None if args.timeout_s is None else asyncio.get_running_loop().time() + args.timeout_s
    async with Turn(nodes.queue(node)):
        refuse_faulted(node, unless=call.key in nodes.processes.answers)
        cell = nodes.cell(node)
        cell.on_progress = call.progress if args.progress else None
        call.stepping = Stepping(cell, key=call.key)
        try:
            return await stepping.step(nodes, node, call.stepping, args, atomic=atomic, deadline_s=deadline_s)
        finally:
            call.stepping = None
            cell.on_progress = None
            nodes.look(node)


@handles("interrupt")
async def interrupt(call: Call, args: protocol.InterruptArgs) -> protocol.InterruptResult:
    nodes = call.server.nodes
    own = args.request is not None and not args.force
    node = nodes.find(call.reference) if own else nodes.branch(call.reference)
    if args.force:
        busy = nodes.queue(node).busy
        if busy:
            nodes.cell(node).kill()
        return protocol.InterruptResult(busy)
    if args.request is not None:
        mine = call.server.calls.get((call.client, args.request))
        if mine is None or mine.task is None:
            return protocol.InterruptResult(False)
        if mine.stepping is None:
            mine.task.cancel()
            return protocol.InterruptResult(True)
        running = mine.stepping
    else:
        cell = nodes.cell(node)
        if call.server.recovery.running(node) is cell:
            cell.interrupt(0)  # whatever runs there was asked for by an earlier server
            return protocol.InterruptResult(True)
        found = (other.stepping for other in call.server.calls.values() if other.stepping)
        at_node = next((each for each in found if each.cell is cell), None)
        if at_node is None:
            return protocol.InterruptResult(False)
        running = at_node
    running.interrupt()
    return protocol.InterruptResult(True)


@handles("write")
async def write(call: Call, args: protocol.WriteArgs) -> protocol.Empty:
    await call.server.planted()
    nodes = call.server.nodes
    node = nodes.branch(call.reference)
    place = reading.place_of(nodes.plan(node).places, args.field)
    resolve_region(args.region, place.shape, what=place.name)
    async with Turn(nodes.queue(node)):
        refuse_faulted(node, unless=call.key in nodes.processes.answers)
        await nodes.cell(node).ask("write", key=call.key, field=args.field, value=args.value, region=args.region)
    return protocol.Empty()


@handles("call")
async def call_method(call: Call, args: protocol.CallArgs) -> protocol.CallResult:
    await call.server.planted()
    nodes = call.server.nodes
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


@handles("snapshot")
async def snapshot(call: Call, args: protocol.SnapshotArgs) -> protocol.SnapshotResult:
    await call.server.planted()
    nodes = call.server.nodes
    node = nodes.branch(call.reference)
    async with Turn(nodes.queue(node)):
        taken, fork_us = await nodes.take_snapshot(node, name=args.name)
        return protocol.SnapshotResult(nodes.info(taken), fork_us)


@handles("mark")
async def mark(call: Call, args: protocol.MarkArgs) -> protocol.MarkResult:
    await call.server.planted()
    nodes = call.server.nodes
    node = nodes.branch(call.reference)
    async with Turn(nodes.queue(node)):
        refuse_faulted(node, unless=call.key in nodes.processes.answers)
        return protocol.MarkResult(**await nodes.cell(node).ask("mark", key=call.key, remove=args.remove))


@handles("rewind")
async def rewind(call: Call, args: protocol.Empty) -> protocol.RewindResult:
    await call.server.planted()
    nodes = call.server.nodes
    node = nodes.branch(call.reference)
    async with Turn(nodes.queue(node)):
        result = protocol.RewindResult(**await nodes.cell(node).ask("rewind", key=call.key))
        nodes.rewound(node)
        return result


@handles("reset")
async def reset(call: Call, args: protocol.ResetArgs) -> protocol.NodeResult:
    await call.server.planted()
    nodes = call.server.nodes
    node = nodes.branch(call.reference)
    return await _revive(call, node, nodes.find(node.tree.root), args.rng)


@handles("restore")
async def restore(call: Call, args: protocol.RestoreArgs) -> protocol.NodeResult:
    await call.server.planted()
    nodes = call.server.nodes
    node, source = nodes.branch(call.reference), nodes.find(args.snapshot)
    if source.kind != "snapshot":
        raise BadRequestError(
            f"{source.path} is a live branch", hint="restore from a snapshot; snapshot the branch first"
        )
    if source.tree is not node.tree:
        raise BadRequestError(f"{node.path} and {source.path} are of different trees")
    return await _revive(call, node, source, args.rng)


async def _revive(call: Call, node: Node, source: Node, rng: protocol.Rng) -> protocol.NodeResult:
    nodes = call.server.nodes
    async with Turn(nodes.queue(node), shared=[nodes.queue(source)]):
        if node.id not in nodes.forest.nodes:
            raise NotFoundError(f"{node.path} was dropped")
        await nodes.revive(node, source, rng=rng)
    return protocol.NodeResult(nodes.info(node))


@handles("clear")
async def clear(call: Call, args: protocol.Empty) -> protocol.NodeResult:
    await call.server.planted()
    nodes = call.server.nodes
    node = nodes.branch(call.reference)
    async with Turn(nodes.queue(node)):
        nodes.cell(node)  # a dead branch has nothing to go on with
        nodes.clear(node)
    return protocol.NodeResult(nodes.info(node))


@handles("autosnap")
async def autosnap_branch(call: Call, args: protocol.AutosnapArgs) -> protocol.NodeResult:
    await call.server.planted()
    nodes = call.server.nodes
    node = nodes.branch(call.reference)
    autosnap.govern(nodes, node, args)
    return protocol.NodeResult(nodes.info(node))


# ------------------------------------------------------------------------------------------------ helpers


def _measurable(server: Server, node: Node) -> accounting.Measurable:
    pid = 0 if node.death is not None else server.nodes.info(node).pid
    return pid, server.nodes.plan(node).segments


def _measure(page: list[accounting.Measurable], everyone: list[accounting.Measurable]) -> list[int | None]:
    shared = accounting.count_bases(everyone)
    return [accounting.private_bytes(pid, segments, shared) if pid else None for pid, segments in page]


async def _inline(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return work(*args, **kwargs)
