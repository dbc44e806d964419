"""Expanding a snapshot: a child for each input, all from the same moment, as many at a time as there are cores.

A child is a live cell that is cloned, plays and is ended; it becomes a node only where it is kept. Where none is, a
few cells play them all: each has a twin, and is reset to it in place before it begins the next (see
`ext/cells/reset_in_place.h`).
"""

from __future__ import annotations

import asyncio
import heapq
import math
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import structlog
from snapserv_client.protocol import ExpandArgs, ExpandResult, Kept, Outcome

from ..cell.ticks import looked_at
from ..errors import NodeDiedError, RequestTimeoutError, SnapservError, error_from_wire
from ..nodes.nodes import Nodes
from ..nodes.process import CellProcess
from ..nodes.seeds import Reseeding, seed_of
from ..nodes.tree import Node
from .stalling import STALLED_HINT, StalledError, unless_stalled

log = structlog.get_logger(__name__)

OnOutcome = Callable[[Outcome], Awaitable[None]]
Sequences = Sequence[Sequence[dict[str, Any]]]
GOING_BACK = (1 << 64) - 1
"""On the scoreboard, until a child that is taken back is at its mark: if it dies before, it was not its play."""


class Expansion:
    """One request to expand.

    Args:
        nodes: Where children are made, and become nodes.
        source: The snapshot; whoever expands it has a turn at it.
        args: What is asked.
        on_outcome: Awaited with each outcome as it is there; the next child of the same worker waits for it.
    """

    def __init__(self, nodes: Nodes, source: Node, args: ExpandArgs, on_outcome: OnOutcome) -> None:
        self._nodes = nodes
        self._source = source
        self._args = args
        self._on_outcome = on_outcome
        self._outcomes: dict[int, Outcome] = {}
        self._alive: dict[int, CellProcess] = {}
        self._best: list[tuple[float, int]] = []
        # So many play at a time.
        self._parallel = min(len(args.inputs), args.parallel or len(os.sched_getaffinity(0)))
        self._room = asyncio.Semaphore(self._parallel)
        self._endings: set[asyncio.Task[None]] = set()
        self._resets_in_place = (
            args.keep == "none" and len(args.inputs) > 4 * self._parallel and nodes.plan(source).resets_in_place
        )
        self._start_worker: Callable[[], object] = list
        self._twins: dict[CellProcess, CellProcess] = {}
        self._spare: list[CellProcess] = []
        self.reseeding = Reseeding(args.rng if args.seeds is None else "split")
        # Ids come first, and in order: a child's own random stream is derived from its id.
        self._ids = [nodes.forest.reserve() for _ in args.inputs]

    async def run(self) -> ExpandResult:
        """Make every child, and return what came of each, in order, and the nodes that were kept.

        Raises:
            SnapservError: What was kept could not be; then nothing is.
        """
        args = self._args
        work = iter(enumerate([each] if isinstance(each, dict) else each for each in args.inputs))
        try:
            async with asyncio.TaskGroup() as workers:
                self._start_worker = lambda: workers.create_task(self._work(work))
                # Where children are clones, as many again are cloned or ended meanwhile.
                for _ in range(self._parallel if self._resets_in_place else 2 * self._parallel):
                    self._start_worker()
            kept = await self._keep_all()
        finally:
            for cell in (*self._alive.values(), *self._spare):
                self._end(cell)
            self._alive.clear()
            while self._endings:
                await asyncio.wait(self._endings)
        outcomes = [self._outcomes[index] for index in sorted(self._outcomes)]
        return ExpandResult(outcomes, kept, reseeded=self.reseeding.names)

    async def _work(self, work: Iterator[tuple[int, Sequence[dict[str, Any]]]]) -> None:
        for index, sequence in work:
            try:
                outcome = await self._child(index, sequence)
            except SnapservError as error:
                outcome = Outcome(index, False, error=error.to_wire())
            self._outcomes[index] = outcome
            await self._on_outcome(outcome)

    async def _child(self, index: int, sequence: Sequence[dict[str, Any]]) -> Outcome:
        args = self._args
        seed = seed_of(args.rng, self._ids[index]) if args.seeds is None else args.seeds[index]
        play: dict[str, Any] = {
            "sequence": sequence,
            "ticks": args.ticks,
            "policy": args.policy,
            "policy_ticks": args.policy_ticks,
            "read": args.read,
            "sum": args.sum,
            "by": args.by if args.keep == "best" else None,
            **looked_at(args),
        }
        played: dict[str, Any] | None = None
        while played is None:
            again = bool(self._spare)
            cell = self._spare.pop() if again else await self._clone(seed)
            try:
                async with self._room, asyncio.timeout(args.timeout_s):
                    played = await (self._play_again(cell, seed, play) if again else self._play(cell, play))
            except StalledError as cause:
                self._end(cell)
                raise RequestTimeoutError(f"the child: {cause}", hint=STALLED_HINT) from cause
            except TimeoutError as cause:
                self._end(cell)
                raise RequestTimeoutError(
                    f"the child was not done within {args.timeout_s:g} s", hint="give it longer, or fewer ticks"
                ) from cause
            except NodeDiedError:
                self._end(cell)
                raise
            except SnapservError:
                self._let_go(cell)
                raise
            except BaseException:
                self._end(cell)
                raise
        self._alive[index] = cell
        score = played.pop("score")
        self._nodes.counters.steps += played["ticks"]
        outcome = Outcome(index, True, **played)
        self._sift(index, score)
        return outcome

    async def _play(self, cell: CellProcess, play: Mapping[str, Any]) -> dict[str, Any]:
        """Have a branch play that has begun; return what came of it."""
        return await self._answer(cell, cell.ask("play", **play))

    async def _play_again(
        self, cell: CellProcess, seed: int | None, play: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Have a child that has played be taken back and play another; return None where it was not taken back.

        In one message, unless it is too long to be remembered over the way back.
        """
        assert cell.slot is not None
        scoreboard = cell.table.scoreboard
        scoreboard[cell.slot] = GOING_BACK
        try:
            begun = await self._answer(cell, cell.ask("begin", slot=cell.slot, seed=seed, again=True, play=play))
        except SnapservError as error:  # if it was the author's hook that raised, it will again in a clone
            if isinstance(error, NodeDiedError) and scoreboard[cell.slot] != GOING_BACK:
                raise  # of what it played
            self._refused(error)
            self._end(cell)
            return None
        self.reseeding.add(begun)
        if "failed" in begun:
            raise error_from_wire(begun["failed"])
        return begun["played"] if "played" in begun else await self._play(cell, play)

    async def _answer(self, cell: CellProcess, asked: asyncio.Future[Any]) -> dict[str, Any]:
        # Whoever says how long a child may take says that it may.
        answer: dict[str, Any] = await (unless_stalled(cell, asked) if self._args.timeout_s is None else asked)
        return answer

    async def _clone(self, seed: int | None) -> CellProcess:
        """Return a branch of the snapshot that has not played; where it is to play others, it has its mark."""
        nodes, step = self._nodes, self._source.step
        frozen = await nodes.present(self._source)
        resets_in_place = self._resets_in_place and frozen.stacks is None  # files stay as they are
        # Where it is silent, the seed has it find the random streams, for all children that it plays.
        cell = await nodes.processes.thaw(frozen, step=step, seed=seed, silent=resets_in_place)
        nodes.counters.count_fork(cell.clone_us)
        self.reseeding.add(cell.begun)
        if resets_in_place:
            try:
                await self._remember(cell)
                self.reseeding.add(await cell.ask("begin", slot=cell.slot, seed=seed))
            except BaseException:
                self._end(cell)
                raise
        return cell

    async def _remember(self, cell: CellProcess) -> None:
        """Have a branch remember where it stands."""
        try:
            self._twins[cell], fork_us = await self._nodes.processes.freeze(cell, how="remember")
        except SnapservError as error:
            self._refused(error)
        else:
            self._nodes.counters.count_fork(fork_us)

    def _refused(self, error: SnapservError) -> None:
        """Clone each child from now on."""
        if self._resets_in_place:
            self._resets_in_place = False
            for _ in range(self._parallel):
                self._start_worker()
            log.warning("children_cloned", node=self._source.path, error=str(error))

    def _sift(self, index: int, score: float | None) -> None:
        """End the child that is not to be kept: this one, or one that it is better than."""
        args = self._args
        if args.keep == "all":
            return
        if args.keep == "none" or score is None:
            self._let_go(self._alive.pop(index))
            return
        rank = score if args.largest else -score
        heapq.heappush(self._best, (rank if rank == rank else -math.inf, -index))  # not a number is never the best
        if len(self._best) > args.best:
            _, worst = heapq.heappop(self._best)
            self._end(self._alive.pop(-worst))

    def _let_go(self, cell: CellProcess) -> None:
        """Have a child that is not kept play another, where it can go back; else end it."""
        if cell in self._twins and self._resets_in_place:
            self._spare.append(cell)
        else:
            self._end(cell)

    async def _keep_all(self) -> list[Kept]:
        """Make nodes of the children that are left: of all of them or of none."""
        nodes, kept = self._nodes, dict[int, Node]()
        try:
            for index in sorted(self._alive):
                step = self._outcomes[index].step
                kept[index] = await nodes.keep_child(
                    self._source, self._alive[index], self._ids[index], kind=self._args.keep_as, step=step
                )
                del self._alive[index]
        except BaseException:
            for node in kept.values():
                await nodes.drop(node)
            raise
        return [Kept(index, nodes.info(node)) for index, node in kept.items()]

    def _end(self, cell: CellProcess) -> None:
        """End a child; `run` waits until it is reaped."""
        for each in (cell, self._twins.pop(cell, None)):
            if each is None:
                continue
            if not each.has_on_drop:
                each.kill()
            ending = asyncio.get_running_loop().create_task(self._nodes.processes.end(each))
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)
