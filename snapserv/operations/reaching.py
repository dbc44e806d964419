"""Nodes of a store that no image brings here, reached again: what was done to them is done again, and checked.

A replay begins where it can: at the nearest ancestor that is here and whose actions are the first of the node's, or
at the root, which is set up anew where its image is of no use either. What comes of it is a frozen cell that is no
node yet: whoever asked has all that was to be reached, or nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog
from snapserv_client import stream
from snapserv_client.protocol import Action

from ..archiver.asking import Archiver
from ..errors import (
    BadRequestError,
    NotFoundError,
    NotPortableError,
    RecordingMismatchError,
    SimulationError,
    StoreDamagedError,
)
from ..nodes.nodes import Nodes
from ..nodes.plans import Plan, plan_of
from ..nodes.process import CellProcess
from ..nodes.setups import set_up, setup_again
from ..nodes.tree import Node
from ..nodes.turns import Turn
from .recorded import InThread, hashes_in, refuse_unsaid
from .recording import describe, differing
from .replaying import OnProgress, replay, saying

log = structlog.get_logger(__name__)

LOG_EVERY_S = 5.0

Runs = list[tuple[int, bytes]]
_HINT = "look into what was done: the store's reader gives it (Store.actions), and Server.replay does it with force"


@dataclass
class Ground:
    """What replays of a tree begin on.

    Attributes:
        plan: The tree's.
        root: The process of its root, frozen.
        reached: What they have led to, by ``uid``.
    """

    plan: Plan
    root: CellProcess
    reached: dict[str, CellProcess] = field(default_factory=dict)


class Reaching:
    """What a server does again.

    Args:
        nodes: The server's nodes.
        reader: Who reads the store.
        in_thread: Runs what takes long without holding up others.
    """

    def __init__(self, nodes: Nodes, reader: Archiver, in_thread: InThread) -> None:
        self._nodes = nodes
        self._reader = reader
        self._in_thread = in_thread

    @contextlib.asynccontextmanager
    async def anew(self, tree: Mapping[str, Any], root: Mapping[str, Any]) -> AsyncIterator[Ground]:
        """Set a tree up anew, and give what replays begin on: the caller's, if all ends well.

        Raises:
            RecordingMismatchError: The simulation is another one now, or its setup leads elsewhere.
            NotPortableError: The store does not say how.
            SnapservError: What setup met.
        """
        if not tree["described"].get("setup"):
            raise NotPortableError(f"the store does not say how {tree['name']} was set up")
        setup = setup_again(tree["described"], self._nodes.setup["path"])
        log.info("set_up_anew", tree=tree["name"], simulation=tree["simulation"])
        master, described = await set_up(self._nodes.processes, setup)
        ground = Ground(plan_of(tree["name"], described), master)
        async with self._all_or_nothing(ground):
            ground.reached[root["uid"]] = master
            here, recorded = describe(ground.plan.spec), describe(plan_of("", tree["described"]).spec)
            self._refuse("the tree was set up with something else", root, differing(recorded, here))
            await self._check(ground, root, master)
            yield ground

    @contextlib.asynccontextmanager
    async def of(self, root: Node) -> AsyncIterator[Ground]:
        """Give what replays begin on in a tree that is here; what they lead to is the caller's, if all ends well.

        Raises:
            SnapservError: The root cannot be brought back.
        """
        async with Turn(shared=[self._nodes.queue(root)]):
            ground = Ground(self._nodes.plan(root), await self._nodes.present(root))
            async with self._all_or_nothing(ground):
                yield ground

    async def reach(
        self,
        ground: Ground,
        head: Mapping[str, Any],
        above: Iterable[Mapping[str, Any]],
        there: Mapping[str, Node],
        on_progress: OnProgress,
    ) -> None:
        """Do again what was done to a node, and keep the process that it leads to.

        Args:
            ground: Of its tree.
            head: What the store says of it.
            above: The same of its ancestors, the nearest first.
            there: Nodes of the tree that are here, by ``uid``.
            on_progress: Is told how far it has come.

        Raises:
            RecordingMismatchError: It does not lead there any more.
            NotPortableError: What was done was not kept, or nothing tells whether it leads there.
            RequestTimeoutError: No tick was completed for as long as it may.
        """
        refuse_unsaid(head["name"], ground.plan, head.get("recorded") or {})
        wanted = await self._runs(head)
        async with self._nearest(ground, wanted, above, there) as (start, step, left):
            begins = bool(left) and stream.action_of(left[0][1])[0]["kind"] == "begin"
            live = await self._nodes.processes.thaw(start, step=step, seed=None, silent=begins, resumes=not begins)
        log.info("replaying", node=head["name"], step=step, to=head["step"])
        try:
            async with saying(live, 0, head["step"], _logging(head["name"], on_progress)):
                await self._do(head, live, left)
            came = self._nodes.processes.scoreboard[live.slot or 0], await live.ask("stream", most=0)
            ground.reached[head["uid"]], _ = await self._nodes.processes.freeze(live)
        finally:
            await asyncio.shield(self._nodes.processes.end(live))
        await self._check(ground, head, ground.reached[head["uid"]], *came)
        log.info("replayed", node=head["name"], step=head["step"])

    # -------------------------------------------------------------------------------------------------- parts

    @contextlib.asynccontextmanager
    async def _all_or_nothing(self, ground: Ground) -> AsyncIterator[None]:
        try:
            yield
        except BaseException:
            for cell in reversed(ground.reached.values()):
                await asyncio.shield(self._nodes.processes.end(cell))
            raise

    async def _runs(self, head: Mapping[str, Any]) -> Runs:
        answer, _ = await self._reader.ask("stream", tree=head["tree"], uid=head["uid"])
        try:
            found: Runs = await self._in_thread(list, stream.runs(answer["actions"]))
        except ValueError as cause:
            raise StoreDamagedError(f"what was done to {head['name']} is no stream of actions: {cause}") from cause
        return found

    @contextlib.asynccontextmanager
    async def _nearest(
        self, ground: Ground, wanted: Runs, above: Iterable[Mapping[str, Any]], there: Mapping[str, Node]
    ) -> AsyncIterator[tuple[CellProcess, int, Runs]]:
        """Give a process that was on the way, at which step it stands, and what is left to be done."""
        for each in above:
            node, reached = there.get(each["uid"]), ground.reached.get(each["uid"])
            if reached is None and (node is None or node.death is not None):
                continue
            try:
                left = rest(await self._runs(each), wanted)
            except NotPortableError:
                continue
            if left is None:
                continue
            if reached is not None or node is None:
                yield reached or ground.root, each["step"], left
                return
            async with Turn(shared=[self._nodes.queue(node)]):
                yield await self._nodes.present(node), each["step"], left
                return
        yield ground.root, 0, wanted

    async def _do(self, head: Mapping[str, Any], live: CellProcess, left: Runs) -> None:
        try:
            await replay(live, _actions(left))
        except (SimulationError, BadRequestError, NotFoundError) as cause:
            raise RecordingMismatchError(
                f"the replay of {head['name']} did not come to its end: {cause.message}",
                hint=_HINT,
                details={**cause.details, "differs": ["actions"], "code": cause.code, "node": head["uid"]},
            ) from cause

    async def _check(
        self,
        ground: Ground,
        head: Mapping[str, Any],
        cell: CellProcess,
        step: int = 0,
        put_out: Mapping[str, Any] | None = None,
    ) -> None:
        """Check that a process that stands still is what the store says that it must be."""
        told, recorded = (
            await self._reader.ask("hash", tree=head["tree"], uid=head["uid"]),
            head.get("recorded") or {},
        )
        hashes = await hashes_in(self._in_thread, ground.plan, cell, ground.root)
        names = sorted({*told[0]["hashes"], *hashes})
        differs = ["step"] if step != head["step"] else []
        differs += [f"end.{name}" for name in names if told[0]["hashes"].get(name) != hashes.get(name)]
        if not ground.plan.places and put_out is not None and put_out["told"] != recorded.get("told", 0):
            differs.append("outputs")
        self._refuse("the replay did not lead to the state that was saved", head, differs)

    def _refuse(self, what: str, head: Mapping[str, Any], differs: list[str]) -> None:
        if differs:
            raise RecordingMismatchError(
                f"{head['name']} cannot be reached again: {what}: {', '.join(differs)}",
                hint=_HINT,
                details={"differs": differs, "node": head["uid"]},
            )


def _logging(name: str, on_progress: OnProgress) -> OnProgress:
    """Return what tells somebody, and the log now and then."""
    logged = time.monotonic()

    def say(step: int, to: int) -> None:
        nonlocal logged
        on_progress(step, to)
        if time.monotonic() - logged > LOG_EVERY_S:
            logged = time.monotonic()
            log.info("replaying", node=name, step=step, to=to)

    return say


def rest(done: Runs, wanted: Runs) -> Runs | None:
    """Return what is left to be done where the first of it was done; None where that was something else."""
    if not done:
        return wanted
    count, action = done[-1]
    if len(done) > len(wanted) or done[:-1] != wanted[: len(done) - 1]:
        return None
    most, same = wanted[len(done) - 1]
    if same != action or most < count:
        return None
    return [*([(most - count, action)] if most > count else []), *wanted[len(done) :]]


def _actions(runs: Runs) -> Iterator[Action]:
    for repeat, packed in runs:
        action, _ = stream.action_of(packed)
        yield msgspec.convert({**action, "repeat": repeat}, Action)
