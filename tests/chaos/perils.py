"""Operations that harm nodes: processes are killed or stopped, steps crash, clients go away in the middle."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from snapserv_client import requests
from snapserv_client.errors import FaultedError, NodeDiedError, SimulationError
from snapserv_client.protocol import StepResult
from snapserv_client.requests import Request
from snapserv_client.transport import send_frames

from . import signals
from .client import Client, operation
from .model import ModelNode, State
from .work import check_outputs, step

Draws = tuple[int, ...]

LONG_TICKS = 40
PAUSE_MS = 2
STOPPED_FOR_MS = 400


# ---------------------------------------------------------------------------------------------- cells are killed


@operation("kill_branch")
async def kill_branch(client: Client, draws: Draws) -> None:
    """Kill a branch that has nothing to do; whoever steps it next is told."""
    await _kill(client, await client.live_branch(draws[0]))


@operation("kill_snapshot")
async def kill_snapshot(client: Client, draws: Draws) -> None:
    snapshots = client.snapshots()
    if not snapshots:
        branch = await client.live_branch(draws[0])
        result = await client.ask(requests.snapshot(branch.id, None))
        snapshots = [client.keep(client.model.snapshot(branch, result.node))]
    await _kill(client, snapshots[draws[1] % len(snapshots)])


async def _kill(client: Client, node: ModelNode) -> None:
    info = await client.info(node)
    node.dead = signals.send(info.pid, signal.SIGKILL)
    client.check(node.dead, f"{node.name} has no process {info.pid}")
    client.report.done["cells killed"] += 1
    await client.until(lambda info: info.state == "dead", node)  # a process that is ending can be read for a moment


@operation("kill_in_step")
async def kill_in_step(client: Client, draws: Draws) -> None:
    """Kill a branch while it steps: its step is whole, or the server says that it died, and when."""
    branch = await client.live_branch(draws[0])
    before, result = await _killed_while_it_steps(client, branch, draws, atomic=False)
    if isinstance(result, NodeDiedError):
        died_at = result.details["step"]
        client.check(before <= died_at <= before + LONG_TICKS, f"{branch.name} died at {died_at}")
        branch.step = died_at
    branch.dead = True
    info = await client.until(lambda info: info.state == "dead", branch)
    branch.step = info.step
    client.check(before <= info.step <= before + LONG_TICKS, f"{branch.name} is dead at {info.step}")


@operation("kill_in_atomic_step")
async def kill_in_atomic_step(client: Client, draws: Draws) -> None:
    """Kill a branch while it steps atomically: all ticks are done, or none and it lives on."""
    branch = await client.live_branch(draws[0])
    state = branch.state
    killed = (await client.info(branch)).pid
    before, result = await _killed_while_it_steps(client, branch, draws, atomic=True)
    info = await client.until(lambda info: info.pid != killed, branch)
    branch.dead = info.state == "dead"
    client.check(info.step in (before, before + LONG_TICKS), f"{branch.name} stands at {info.step}, from {before}")
    done = isinstance(result, StepResult)
    if not branch.dead:
        client.check(
            info.step == before + LONG_TICKS * done, f"{branch.name} was told {result!r}, is at {info.step}"
        )
        census = await client.ask(requests.call(branch.id, "census", (), {}))
        client.check_state(branch, branch.state if done else state, census)
    branch.step = info.step


async def _killed_while_it_steps(
    client: Client, branch: ModelNode, draws: Draws, *, atomic: bool
) -> tuple[int, StepResult | NodeDiedError]:
    """Step a branch, kill it meanwhile, and return where it stood and what its client was told."""
    before, pid = branch.step, (await client.info(branch)).pid
    inputs = {"pattern": draws[1], "pause_ms": PAUSE_MS}
    request = requests.step(branch.id, LONG_TICKS, inputs, progress=False, atomic=atomic)
    stepping = asyncio.create_task(_outcome(client, request))
    await asyncio.sleep(draws[2] % (LONG_TICKS * PAUSE_MS) / 1000)
    if signals.send(pid, signal.SIGKILL):
        client.report.done["cells killed"] += 1
    result = await stepping
    if isinstance(result, StepResult):
        client.check_stepped(branch, before, LONG_TICKS, result.step)
        client.model.stepped(branch, LONG_TICKS, draws[1])
        check_outputs(client, branch, branch.state, result.outputs)
    return before, result


async def _outcome(client: Client, request: Request[StepResult]) -> StepResult | NodeDiedError:
    try:
        return await client.ask(request)
    except NodeDiedError as error:
        return error


@operation("stop")
async def stop(client: Client, draws: Draws) -> None:
    """Stop a branch's process for a while: its client waits, and nobody else."""
    branch = await client.live_branch(draws[0])
    pid = (await client.info(branch)).pid
    client.check(signals.send(pid, signal.SIGSTOP), f"{branch.name} has no process {pid}")
    client.report.done["cells stopped"] += 1
    stepping = asyncio.create_task(step_this(client, branch, draws))
    await asyncio.sleep((50 + draws[2] % STOPPED_FOR_MS) / 1000)
    client.check(signals.send(pid, signal.SIGCONT), f"{branch.name} has no process {pid} any more")
    await stepping


async def step_this(client: Client, branch: ModelNode, draws: Draws) -> None:
    """Step a branch that is known to live."""
    branches = client.branches(alive=False)
    await step(client, (branches.index(branch), *draws[1:]))


# ------------------------------------------------------------------------------------------------- steps that fail


@operation("raise")
async def raise_(client: Client, draws: Draws) -> None:
    await _raise(client, draws, "raise")


@operation("memory")
async def memory(client: Client, draws: Draws) -> None:
    await _raise(client, draws, "memory")


async def _raise(client: Client, draws: Draws, how: str) -> None:
    """Have a step raise in the middle: the branch is faulted, until it is cleared or restored."""
    branch = await client.live_branch(draws[0])
    done, pattern = draws[1] % 4, draws[2]
    error = await client.refused(_failing(branch, done, pattern, how), SimulationError)
    client.report.done[f"steps that failed: {how}"] += 1
    client.model.stepped(branch, done, pattern)
    client.check(error.details["step"] == branch.step, f"{branch.name} raised at {error.details['step']}")
    await client.refused(requests.step(branch.id, 1, {}, progress=False), FaultedError)
    if draws[3] % 2:
        usable = client.usable()
        await client.restore(branch, usable[draws[3] % len(usable)])
    else:
        await client.ask(requests.clear(branch.id))


@operation("segfault")
async def segfault(client: Client, draws: Draws) -> None:
    branch = await client.live_branch(draws[0])
    done, pattern = draws[1] % 4, draws[2]
    error = await client.refused(_failing(branch, done, pattern, "segfault"), NodeDiedError)
    client.report.done["steps that failed: segfault"] += 1
    branch.dead = True
    branch.step += done
    client.check(error.details["step"] == branch.step, f"{branch.name} died at {error.details['step']}")


@operation("segfault_atomic")
async def segfault_atomic(client: Client, draws: Draws) -> None:
    branch = await client.live_branch(draws[0])
    request = _failing(branch, draws[1] % 4, draws[2], "segfault", atomic=True)
    error = await client.refused(request, NodeDiedError)
    client.report.done["steps that failed: segfault"] += 1
    back = error.details["rolled_back_to"]
    client.check(back == branch.step, f"{branch.name} was rolled back to {back}, not {branch.step}")


def _failing(branch: ModelNode, done: int, pattern: int, how: str, *, atomic: bool = False) -> Request[StepResult]:
    inputs = {"pattern": pattern, "how": how, "at": branch.step + done + 1}
    return requests.step(branch.id, done + 3, inputs, progress=False, atomic=atomic)


# ------------------------------------------------------------------------------------------- clients that vanish


@operation("vanish")
async def vanish(client: Client, draws: Draws) -> None:
    """Have another client ask for a step, and go before it is answered: the step is done once or never."""
    usable = client.usable()
    victim = await client.make_branch(usable[draws[0] % len(usable)])
    ticks, pattern = 1 + draws[1] % 8, draws[2]
    stranger = await _another(client)
    request = requests.step(victim.id, ticks, {"pattern": pattern}, progress=False)
    send_frames(stranger._connection._socket, request.frames(1 << 30))
    await asyncio.sleep(draws[3] % 4 / 1000)
    await stranger.close()
    client.report.done["clients vanished"] += 1
    await check_ticks(client, victim, pattern, (0, ticks))
    await client.drop(victim, force=True)


async def check_ticks(client: Client, branch: ModelNode, pattern: int, allowed: Any) -> None:
    """Check a branch of which only its first state is known, and how many ticks there may have been."""
    census = await client.ask(requests.call(branch.id, "census", (), {}))
    ticks = census["count"] - branch.state.count
    client.check(ticks in allowed, f"{branch.name} has made {ticks} ticks, and {allowed} were possible")
    reached: State = branch.state.after(ticks, pattern)
    client.check_state(branch, reached, census)


async def _another(client: Client) -> Any:
    from snapserv_client.aio import connect

    return await connect(client.server.endpoint, keys=client.keys, timeout_s=60.0)
