"""Going back to a step of a node's own past, exact to the tick: the actions that led there, done again.

That begins from the nearest snapshot that is on the way, which a clone of it becomes. A node stands at step N until
the next tick begins: whatever was done between the two is done again as well, but for what raised there. What the
actions put out is compared with what they put out then, as far as the trails of both say it, and what was recorded
then is handed over rather than recorded again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from snapserv_client.protocol import Action, GotoArgs, GotoResult, StepAction

from ..errors import (
    BadRequestError,
    NodeDiedError,
    NotFoundError,
    RecordingMismatchError,
    SimulationError,
    SnapservError,
    StepInterruptedError,
)
from ..nodes.nodes import Nodes
from ..nodes.process import CellProcess
from ..nodes.tree import Node
from ..nodes.turns import Turn
from . import autosnap
from .replaying import OnProgress, replay, say_nothing, saying
from .script import Script
from .stepping import Stepping

MARK_BYTES = 8


@dataclass(eq=False, slots=True)
class Retracing(Stepping):
    """What an interrupt reaches: the cell in which actions are done again, once there is one."""

    retracing: CellProcess | None = None

    def interrupt(self) -> None:
        """Have it stop after the tick that runs."""
        self.interrupted = True
        if self.retracing is not None:
            self.retracing.interrupt(self.retracing.number)


@dataclass
class _Way:
    """The way from a snapshot to a step.

    Where it begins: after how many actions of the node, and how many ticks of the next one; what is done; and the
    trails there and of the node, where the two can be compared.
    """

    start: Node
    count: int
    first: int
    begun: Mapping[str, Any]
    told: Mapping[str, Any] | None
    script: Script
    end: int
    """The beat at which it is done."""
    arrival: int
    """The beat at which its last tick is done; `first`, where it has none."""


@dataclass
class Travel:
    """One way back, in the turn of its node, which the caller holds, as one at the root of its tree.

    Args:
        nodes: Where the node is.
        node: Whose past it is.
        args: Where to.
        on_way: Is told what an interrupt is to reach from now on.
        on_progress: Is told how many ticks were done again, of how many, now and then.
    """

    nodes: Nodes
    node: Node
    args: GotoArgs
    on_way: Callable[[Retracing], None]
    on_progress: OnProgress = say_nothing

    async def run(self) -> GotoResult:
        """Go there.

        Raises:
            NotFoundError: The node's past has no such step.
            BadRequestError: The condition cannot be told there.
            RecordingMismatchError: What was done then cannot be done again.
            StepInterruptedError: Somebody has stopped it; nothing has changed.
            SnapservError: A process died, or none could be made.
        """
        began = time.monotonic_ns()
        nodes, node, args = self.nodes, self.node, self.args
        here = nodes.look(node)
        step = here - (args.back or 0) if args.step is None else args.step
        if not 0 <= step <= here:
            raise NotFoundError(
                f"step {step:,} is not in the past of {node.path}, which goes from 0 to {here:,}",
                hint="step it to go on; or restore a snapshot that is further on, and go back from there",
                details={"step": here},
            )
        if step == here and node.fault is None and not args.new and not self._tells:
            return GotoResult(nodes.info(node), moved=False, since=node.path, ticks=0, elapsed_us=0, agreed=here)
        async with nodes.awake(node) as own, self._begun(own, step) as (way, cell):
            result, again = await self._retrace(own, way, cell, step)
            until = step if result.parted is None else result.agreed
            handed = await own.ask("hand_over", after=way.start.step, until=until)
            left = await self._leave(own) if args.keep and not args.new else None
            await cell.ask("take_over", told=handed["told"])
            if args.new:
                made = nodes.settle_branch(way.start, cell, name=args.name, step=step)
            else:
                await nodes.stand_in(node, way.start, cell, f"step {step:,} of its past")
                made, result.left = node, None if left is None else nodes.info(left)
                node.ahead = None if left is None else (left.id, again["digests"][0])
        result.node, result.elapsed_us = nodes.info(made), (time.monotonic_ns() - began) // 1000
        return result

    # -------------------------------------------------------------------------------------------- where it begins

    @contextlib.asynccontextmanager
    async def _begun(self, own: CellProcess, step: int) -> AsyncIterator[tuple[_Way, CellProcess]]:
        """Give the way to a step, and a clone of the snapshot where it begins: the caller's, if all ends well."""
        met: SnapservError | None = None
        for start in self._starts(step):
            if start.id not in self.nodes.forest.nodes or not self.nodes.queue(start).shareable:
                continue  # somebody is dropping it
            async with Turn(shared=[self.nodes.queue(start)]):
                try:
                    frozen = await self.nodes.present(start)
                    cell = await self.nodes.processes.thaw(frozen, step=start.step, seed=None, resumes=True)
                except SnapservError as error:
                    met = error  # what is further back may do
                    continue
                try:
                    way = await self._way(own, start, cell, step)
                    if way is not None:
                        yield way, cell
                        return
                except BaseException:
                    await asyncio.shield(self.nodes.processes.end(cell))
                    raise
                await asyncio.shield(self.nodes.processes.end(cell))
        raise met or NotFoundError(f"there is nothing left that {self.node.path} began from")

    def _starts(self, step: int) -> list[Node]:
        """Return snapshots that may be on the way, the nearest first."""
        nodes, most = self.nodes, step - 1 if self._tells and step else step
        found = [each for each in reversed(nodes.forest.ancestors(self.node)) if each.kind == "snapshot"]
        if self.args.since is not None:
            found.append(nodes.snapshot(self.args.since, "since"))
        found.append(nodes.find(self.node.tree.root))
        there = [each for each in found if each.death is None and each.tree is self.node.tree and each.step <= most]
        return sorted(there, key=lambda each: -each.step)  # of one step, those that were nearer before

    @property
    def _tells(self) -> bool:
        return self.args.tell or self.args.until is not None

    async def _way(self, own: CellProcess, start: Node, cell: CellProcess, step: int) -> _Way | None:
        """Return what is to be done from a snapshot on; None where that is not on the way."""
        there = await cell.ask("retrace")
        path, begun = there["path"], there["trail"]
        onward = await own.ask("onward", path=path)
        if onward["found"] is None or path["raised"] == step:
            return None
        (count, ticks), page, told = onward["found"], onward["page"], onward["trail"]
        actions = msgspec.convert(page["actions"], list[Action])
        while page["next"] is not None and (not actions or _end_of(actions[-1]) <= step):
            page = await own.ask("history", start=page["next"])
            actions += msgspec.convert(page["actions"], list[Action])
        script = Script(actions)
        end, arrival = script.departure(step), script.arrival(step)
        if max(arrival, ticks) > end or (self._tells and step and not arrival > ticks):
            return None
        if begun["count"] != count or begun["digests"] != told["digests"]:
            told = None  # it came there by actions that were cut elsewhere, and so put out something else
        return _Way(start, count, ticks, begun, told, script, end, max(arrival, ticks))

    # ------------------------------------------------------------------------------------------------- on the way

    async def _retrace(
        self, own: CellProcess, way: _Way, cell: CellProcess, step: int
    ) -> tuple[GotoResult, Mapping[str, Any]]:
        """Do in a cell what is to be done; return what came of it, and the trail of it."""
        result = GotoResult(
            self.nodes.info(self.node), since=way.start.path, ticks=step - way.start.step, elapsed_us=0, agreed=step
        )
        retracing = Retracing(own, retracing=cell)
        self.on_way(retracing)

        def follow(_: object) -> None:
            cell.kill()

        own.ended.add_done_callback(follow)  # whoever has ended the node has ended this
        try:
            async with saying(cell, way.start.step, result.ticks, self.on_progress):
                await self._do(retracing, way, cell, result)
        except StepInterruptedError as cause:
            here = self.nodes.look(self.node)
            raise StepInterruptedError(
                f"interrupted on the way to step {step:,}; {self.node.path} stands at step {here:,} as before",
                details={"step": here},
            ) from cause
        except NodeDiedError as cause:
            if own.ended.done():
                await own.ask("trail")  # which says how
            raise self._lost(way, step, cause) from cause
        except (SimulationError, BadRequestError, NotFoundError) as cause:
            if "index" not in cause.details:
                raise  # the condition is none
            raise self._lost(way, step, cause) from cause
        finally:
            own.ended.remove_done_callback(follow)
        again = await cell.ask("trail")
        _compare(result, way, again)
        return result, again

    async def _do(self, retracing: Retracing, way: _Way, cell: CellProcess, result: GotoResult) -> None:
        def before() -> None:
            if retracing.interrupted:
                raise StepInterruptedError("interrupted")

        script = way.script
        pieces = [*script.part(way.first, way.arrival)]
        await replay(cell, pieces[:-1], before=before)
        for last in pieces[-1:]:  # whole, where it is: so it is the same action as it was
            said = await replay(cell, [last], before=before, telling=True)
            result.outputs = said["outputs"]
            result.action = way.count + script.number_at(way.arrival - 1)
        if self.args.until is not None:
            told = await cell.ask("tell", until=msgspec.to_builtins(self.args.until))
            result.holds = told["holds"]
        await replay(cell, script.part(way.arrival, way.end), before=before)

    def _lost(self, way: _Way, step: int, cause: SnapservError) -> RecordingMismatchError:
        return RecordingMismatchError(
            f"what led {self.node.path} to step {step:,} cannot be done again from {way.start.path}: "
            f"{cause.message}",
            hint=f"verify {self.node.path}, which says where and why it is another now; nothing has changed",
            details={**cause.details, "differs": ["actions"], "code": cause.code},
        )

    # ---------------------------------------------------------------------------------------------- what is left

    async def _leave(self, own: CellProcess) -> Node:
        """Return a snapshot of what the branch is now: one that there is, or an automatic one that is taken now."""
        nodes, branch = self.nodes, self.node
        here, there = await own.ask("trail"), nodes.forest.nodes
        number, digest = branch.ahead or (0, 0)
        ahead = there.get(number)
        if ahead is not None and ahead.death is None and digest == here["digests"][0]:
            return ahead  # nothing was done since it went back from there
        parent = there.get(branch.parent or 0)
        if parent is not None and parent.step == nodes.look(branch) and nodes.queue(parent).shareable:
            with contextlib.suppress(SnapservError):
                async with Turn(shared=[nodes.queue(parent)]), nodes.awake(parent, passing=True) as taken:
                    same = await taken.ask("trail")
                if same["digests"] == here["digests"] and parent.fault == branch.fault:
                    branch.rungs.pop(parent.id, None)  # it is no longer the ladder's, to be thinned out
                    return parent
        name = autosnap.free_name(branch, nodes.look(branch))
        taken_now, _ = await nodes.take_snapshot(branch, name=name, automatic=True)
        return taken_now


def _compare(result: GotoResult, way: _Way, again: Mapping[str, Any]) -> None:
    """Say up to which step what was put out is known to be what it was then, and from where on it is not."""
    told, begun, script = way.told, way.count, way.script
    if way.end == way.first:
        return
    if told is None:
        result.agreed = way.start.step
        return
    whole = begun + script.number_at(way.end)
    stride = max(told["stride"], again["stride"])
    agreed, parted = begun, None
    for count in range(begun // stride * stride + stride, whole + 1, stride):
        if _mark(told, count) != _mark(again, count):
            parted = count
            break
        agreed = count
    if parted is None and whole == told["count"] == again["count"]:
        same = told["running"] == again["running"]
        agreed, parted = (whole, None) if same else (agreed, whole)
    if again["said"] == way.begun["said"]:
        agreed = begun  # nothing was put out, so nothing was compared
    result.agreed = min(result.agreed, script.step_after(script.beat(agreed - begun)))
    result.parted = None if parted is None else script.step_after(script.beat(parted - begun))


def _mark(trail: Mapping[str, Any], count: int) -> bytes:
    """Return what a trail says after so many actions, a multiple of its stride."""
    at = (count // trail["stride"] - 1) * MARK_BYTES
    marks: bytes = trail["marks"][at : at + MARK_BYTES]
    return marks


def _end_of(action: Action) -> int:
    """Return the step at which a node stands after all repetitions of an action."""
    return action.step + action.ticks * action.repeat if isinstance(action, StepAction) else action.step
