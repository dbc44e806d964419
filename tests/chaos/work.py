"""Operations that harm nobody: each asks for something, and checks the reply against the model."""

from __future__ import annotations

from typing import Any

import numpy as np
from snapserv_client import requests
from snapserv_client.errors import NodeDiedError, NotFoundError

from .client import Client, operation
from .model import ModelNode, State
from .report import FaultFoundError
from .subject import THREADS

MOST_NODES = 20
MOST_TICKS = 8
MOST_WRITTEN = 64

Draws = tuple[int, ...]


@operation("step")
async def step(client: Client, draws: Draws) -> None:
    await _step(client, await client.live_branch(draws[0]), 1 + draws[1] % MOST_TICKS, draws[2], atomic=False)


@operation("step_atomic")
async def step_atomic(client: Client, draws: Draws) -> None:
    await _step(client, await client.live_branch(draws[0]), 1 + draws[1] % MOST_TICKS, draws[2], atomic=True)


async def _step(client: Client, branch: ModelNode, ticks: int, pattern: int, *, atomic: bool) -> None:
    before = branch.step
    result = await client.ask(requests.step(branch.id, ticks, {"pattern": pattern}, progress=False, atomic=atomic))
    client.check_stepped(branch, before, ticks, result.step)
    client.model.stepped(branch, ticks, pattern)
    check_outputs(client, branch, branch.state, result.outputs)


def check_outputs(client: Client, node: ModelNode, state: State, outputs: Any) -> None:
    """Check what the last tick has put out."""
    if outputs != {"count": state.count, "knot": state.knot}:
        raise FaultFoundError("wrong bytes", f"{node.name} put out {outputs}, not {state.count}, {state.knot}")


@operation("read")
async def read(client: Client, draws: Draws) -> None:
    nodes = list(client.own.values())
    node = nodes[draws[0] % len(nodes)]
    if node.dead:
        await client.refused(requests.read(node.id, "cloth", None), NodeDiedError)
        if node.kind == "snapshot":
            await _bury(client, node)
        return
    start = draws[1] % THREADS if draws[2] % 2 else 0
    await _check_read(client, node, slice(start, None))


async def _bury(client: Client, node: ModelNode) -> None:
    if node.pinned:
        await client.ask(requests.pin(node.id, pinned=False))
        node.pinned = False
    await client.drop(node)


async def _check_read(client: Client, node: ModelNode, region: slice) -> None:
    state = node.state
    found = await client.ask(requests.read(node.id, "cloth", region))
    if found.tobytes() != state.cloth[region].tobytes():
        raise FaultFoundError("wrong bytes", f"{node.name}, cloth, at step {node.step}")


@operation("read_other")
async def read_other(client: Client, draws: Draws) -> None:
    """Read a snapshot of somebody else, who may drop or lose it meanwhile."""
    theirs = [node for other in client.others for node in other.snapshots()] + client.commons
    node = theirs[draws[0] % len(theirs)]
    try:
        await _check_read(client, node, slice(None))
    except (NotFoundError, NodeDiedError):
        client.check(node.dead or node.leaving, f"{node.name} is not there")


@operation("write")
async def write(client: Client, draws: Draws) -> None:
    branch = await client.live_branch(draws[0])
    start = draws[1] % (THREADS - MOST_WRITTEN)
    values = np.arange(1 + draws[2] % MOST_WRITTEN, dtype=np.uint64) * np.uint64(draws[3])
    await client.ask(requests.write(branch.id, "cloth", values, slice(start, start + len(values))))
    branch.state = branch.state.written(start, values)


@operation("snapshot")
async def snapshot(client: Client, draws: Draws) -> None:
    branch = await client.live_branch(draws[0])
    if len(client.own) >= MOST_NODES:
        await drop(client, draws)
        branch = await client.live_branch(draws[0])
    name = client.fresh_name() if draws[1] % 2 else None
    result = await client.ask(requests.snapshot(branch.id, name))
    made = client.keep(client.model.snapshot(branch, result.node))
    client.check(name in (None, made.name), f"{made.name} was to be called {name}")


@operation("branch")
async def branch(client: Client, draws: Draws) -> None:
    if len(client.own) >= MOST_NODES:
        await drop(client, draws)
    usable = client.usable()
    await client.make_branch(usable[draws[0] % len(usable)])


@operation("branch_live")
async def branch_live(client: Client, draws: Draws) -> None:
    """Branch a live branch twice, which takes a snapshot first."""
    origin = await client.live_branch(draws[0])
    result = await client.ask(requests.branch(origin.id, 2, None, "same"))
    if result.snapshot is None:
        raise FaultFoundError("surprise", f"{origin.name} was branched without a snapshot")
    taken = client.keep(client.model.snapshot(origin, result.snapshot))
    for told in result.nodes:
        client.keep(client.model.branch(taken, told))


@operation("restore")
async def restore(client: Client, draws: Draws) -> None:
    chosen = await client.live_branch(draws[0])
    usable = client.usable()
    await client.restore(chosen, usable[draws[1] % len(usable)])


@operation("drop")
async def drop(client: Client, draws: Draws) -> None:
    """Drop one of its nodes; one branch always stays."""
    branches = client.branches(alive=False)
    droppable = [
        node for node in client.own.values() if not node.pinned and (node.kind == "snapshot" or len(branches) > 1)
    ]
    if droppable:
        await client.drop(droppable[draws[1] % len(droppable)])


@operation("expand")
async def expand(client: Client, draws: Draws) -> None:
    usable = client.usable()
    source = usable[draws[0] % len(usable)]
    state, step_ = source.state, source.step
    patterns, ticks = [draws[1], draws[2], draws[3]], 1 + draws[1] % 4
    keeps = draws[2] % 3 == 0 and len(client.own) < MOST_NODES
    options: Any = {"steps": ticks, "keep": "all" if keeps else "none", "keep_as": "snapshot"}
    if not keeps and draws[1] % 2:  # so many that a process plays several
        patterns, options["parallel"] = patterns * 2, 1
    request = requests.expand(source.id, [{"pattern": each} for each in patterns], options, stream=False)
    result = await client.ask(request)
    for pattern, outcome in zip(patterns, result.outcomes, strict=True):
        client.check_stepped(source, step_, ticks, outcome.step)
        check_outputs(client, source, state.after(ticks, pattern), outcome.outputs)
    client.check(len(result.kept) == (3 if keeps else 0), f"{source.name} kept {len(result.kept)} children")
    for kept in result.kept:
        after = state.after(ticks, patterns[kept.index])
        client.keep(client.model.add(kept.node, "snapshot", source.id, after, step_ + ticks))


@operation("tag")
async def tag(client: Client, draws: Draws) -> None:
    nodes = list(client.own.values())
    node = nodes[draws[0] % len(nodes)]
    if node.tags and draws[1] % 2:
        await client.ask(requests.tag(node.id, node.tags[-1], remove=True))
        node.tags.pop()
        return
    name = client.fresh_name()
    await client.ask(requests.tag(node.id, name, remove=False))
    node.tags.append(name)


@operation("pin")
async def pin(client: Client, draws: Draws) -> None:
    """Pin a node or unpin it; few stay pinned."""
    pinned = [node for node in client.own.values() if node.pinned]
    nodes = pinned if len(pinned) > 2 else list(client.own.values())
    node = nodes[draws[0] % len(nodes)]
    await client.ask(requests.pin(node.id, pinned=not node.pinned))
    node.pinned = not node.pinned


@operation("diff")
async def diff(client: Client, draws: Draws) -> None:
    alive = [node for node in client.own.values() if node.alive] + client.commons
    a, b = alive[draws[0] % len(alive)], alive[draws[1] % len(alive)]
    result = await client.ask(requests.diff(a.id, b.id, ["cloth"]))
    wanted = int(np.count_nonzero(a.state.cloth != b.state.cloth))
    if result.fields[0].changed != wanted:
        raise FaultFoundError(
            "wrong bytes", f"{a.name} and {b.name}: {result.fields[0].changed} differ, not {wanted}"
        )


@operation("look")
async def look(client: Client, draws: Draws) -> None:
    alive = [node for node in client.own.values() if node.alive]
    node = alive[draws[0] % len(alive)] if alive else client.commons[0]
    _, wrong = client.model.differences([await client.info(node)])
    client.check(not wrong, "; ".join(wrong))


@operation("repeat")
async def repeat(client: Client, draws: Draws) -> None:
    """Ask the same thing twice under one id, as a client does that has heard no reply: it is done once."""
    chosen = await client.live_branch(draws[0])
    before, ticks, pattern = chosen.step, 1 + draws[1] % MOST_TICKS, draws[2]
    request = requests.step(chosen.id, ticks, {"pattern": pattern}, progress=False)
    connection = client.server._connection
    used = connection._last_id + 1
    first = await client.ask(request)
    client.model.stepped(chosen, ticks, pattern)
    newest, connection._last_id = connection._last_id, used - 1  # its retries had pings, which have ids too
    second = await client.ask(request)
    connection._last_id = max(newest, connection._last_id)
    client.check_stepped(chosen, before, ticks, first.step)
    client.check_stepped(chosen, before, ticks, second.step)
    client.check(first.outputs == second.outputs, f"{chosen.name}: two replies to one request")
    client.check_state(chosen, chosen.state, await client.ask(requests.call(chosen.id, "census", (), {})))
