"""Whether a node can be reached again: its own actions, done again from an ancestor, and the states compared.

Where they differ, the rest finds out where: the trail of outputs says which action first put out something else,
the snapshots on the way say which of them the replay still agreed with, and two replays side by side say whether
the simulation does the same thing twice, and if not, from which tick on.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from snapserv_client.protocol import Action, FieldVerdict, VerifyResult

from ..errors import BadRequestError, NodeDiedError, NotFoundError, RequestTimeoutError, SnapservError
from ..nodes.nodes import Nodes
from ..nodes.process import CellProcess
from ..nodes.tree import Node
from ..nodes.turns import Turn
from ..outside.hashing import hash_fields
from .replaying import OnProgress, replay, say_nothing, saying
from .script import Script

MOST_STOPS = 32
"""At how many snapshots on the way a replay stops to compare."""
PIECES = 64
"""Into how many pieces a stretch is cut to see in which of them two replays part."""

InThread = Callable[..., Awaitable[Any]]
State = tuple[Any, ...]
"""What can be compared of a moment: the hashes of its fields, or without fields that of what was put out."""


@dataclass
class Replay:
    """A temporary cell in which a script is done, up to some beat. ``error`` is what ended it early."""

    cell: CellProcess
    script: Script
    at: int = 0
    error: SnapservError | None = None

    async def advance(self, beat: int) -> None:
        """Go on until so many beats are done.

        Raises:
            NodeDiedError: The process ended.
            RequestTimeoutError: It completes no tick any more.
        """
        if self.error is not None or beat <= self.at:
            return
        try:
            await replay(self.cell, self.script.part(self.at, beat))
        except (NodeDiedError, RequestTimeoutError):
            raise
        except SnapservError as error:
            self.error = error
        else:
            self.at = beat


class Verifier:
    """One verification of ``node``, from its ancestor ``since``.

    Args:
        nodes: Where both are.
        in_thread: Runs what takes long without holding up others.
        node: The one to verify.
        since: A snapshot that it descends from.
        on_progress: Is told how many ticks were done again.
    """

    def __init__(
        self, nodes: Nodes, in_thread: InThread, node: Node, since: Node, on_progress: OnProgress = say_nothing
    ) -> None:
        self._nodes = nodes
        self._in_thread = in_thread
        self._node = node
        self._since = since
        self._on_progress = on_progress
        self._plan = nodes.plan(node)
        self._script = Script([])
        self._skipped = 0
        self._said = 0

    async def run(self) -> VerifyResult:
        """Verify it.

        Raises:
            BadRequestError: The node was rewound to before the ancestor, which is then no past of it.
            SnapservError: A process died, or none could be made.
        """
        began = time.monotonic_ns()
        queue = self._nodes.queue(self._node)
        alone = [queue] if self._node.kind == "branch" else []
        turn = Turn(*alone, shared=[queue, self._nodes.queue(self._since)])
        async with contextlib.AsyncExitStack() as stack:
            async with turn:
                first = Replay(await stack.enter_async_context(self._nodes.awake(self._since)), self._script)
                async with self._nodes.awake(self._node) as cell:
                    await self._take_down(first.cell, cell)
                    told, wanted = await cell.ask("trail"), await self._hashes(cell)
            first.script = self._script
            async with saying(first.cell, self._since.step, self._script.ticks, self._on_progress):
                await first.advance(self._script.beats)
            found, told_again = await self._hashes(first.cell), await first.cell.ask("trail")
            outputs = first.error is None and told["running"] == told_again["running"]
            untold = not wanted and self._script.count > 0 and outputs and told["said"] == self._said
            result = VerifyResult(
                ok=first.error is None and (wanted == found if wanted else outputs and not untold),
                since=self._since.path,
                fields=[
                    FieldVerdict(name, value == found[name], f"{value:032x}", f"{found[name]:032x}")
                    for name, value in wanted.items()
                ],
                outputs=outputs,
                actions=self._script.count,
                ticks=self._script.ticks,
                elapsed_us=0,
                error="" if first.error is None else first.error.message,
            )
            if untold:
                result.error = "nothing was compared: there are no fields, and nothing was put out"
            elif not result.ok:
                await self._narrow(result, first, told, told_again)
        result.elapsed_us = (time.monotonic_ns() - began) // 1000
        return result

    async def _take_down(self, since: CellProcess, node: CellProcess) -> None:
        """Note the actions by which the node descends from the ancestor."""
        begun = await since.ask("trail")
        self._skipped, self._said = begun["count"], begun["said"]
        own = await node.ask("trail", at=[self._skipped])
        if own["digests"] != begun["digests"]:
            raise BadRequestError(
                f"{self._node.path} was rewound to before {self._since.path}, which is no past of it",
                hint="verify it from an earlier ancestor, or from the root",
            )
        actions: list[Action] = []
        start: int | None = self._skipped
        while start is not None:
            page = await node.ask("history", start=start)
            actions += msgspec.convert(page["actions"], list[Action])
            start = page["next"]
        self._script = Script(actions)

    async def _hashes(self, cell: CellProcess) -> dict[str, int]:
        plan, root = self._plan, self._nodes.find(self._node.tree.root)
        image = (await self._nodes.present(root)).pid if plan.file_backed and root.death is None else None
        hashes: dict[str, int] = await self._in_thread(
            hash_fields, plan.places, cell.pid, plan.segments, root=image, base=plan.base_hashes
        )
        return hashes

    async def _state(self, at: Replay) -> State:
        if at.error is not None:
            return ("error", at.error.code)
        if self._plan.places:
            return tuple((await self._hashes(at.cell)).values())
        return ((await at.cell.ask("trail"))["running"],)

    # -------------------------------------------------------------------------------------------- where it differs

    async def _narrow(
        self, result: VerifyResult, first: Replay, told: Mapping[str, Any], told_again: Mapping[str, Any]
    ) -> None:
        """Say where the states part, and whether two replays do."""
        script = self._script
        low, high = 0, script.beats
        if first.error is not None:
            failed: Any = first.error.details.get("index", 0)
            high = script.beat(sum(action.repeat for action in script.actions[: failed + 1]))
        heard_low, heard_high = self._first_heard(told, told_again)
        high = min(high, heard_high)
        low = await self._last_agreement(first, high) if self._plan.places else heard_low
        result.deterministic, parted = await self._compare_replays(first, low, high)
        if parted is not None:
            result.parted = script.step_after(parted)
            if low < parted <= high:
                low, high = parted - 1, parted
        elif low < heard_low < high:
            low = heard_low
        if script.actions:
            result.after, result.step = script.step_after(low), script.step_after(high)
            result.action = script.action_at(max(low, high - 1))

    def _first_heard(self, told: Mapping[str, Any], again: Mapping[str, Any]) -> tuple[int, int]:
        """Return the beats between which what was put out differs first: all of them where it does not."""
        script = self._script
        stride, agreed = told["stride"], 0
        if stride != again["stride"] or told["running"] == again["running"]:
            return 0, script.beats
        marks = [
            [trail["marks"][at : at + 8] for at in range(0, len(trail["marks"]), 8)] for trail in (told, again)
        ]
        for one, other in zip(*marks, strict=False):
            if one != other:
                return script.beat(agreed - self._skipped), script.beat(agreed + stride - self._skipped)
            agreed += stride
        return script.beat(agreed - self._skipped), script.beats

    async def _last_agreement(self, first: Replay, high: int) -> int:
        """Return the last beat at which a snapshot on the way had the state that a replay has."""
        low = 0
        async with self._replaying() as second:
            for snapshot, beat in await self._stops(first, high):
                await second.advance(beat)
                try:
                    async with self._turn(snapshot):
                        taken = tuple((await self._hashes(await self._nodes.present(snapshot))).values())
                except (NotFoundError, NodeDiedError):
                    continue  # gone meanwhile
                if taken != await self._state(second):
                    break
                low = beat
        return low

    async def _stops(self, first: Replay, high: int) -> list[tuple[Node, int]]:
        """Return snapshots between the ancestor and the node, with the beats at which they were taken."""
        chain = self._nodes.forest.ancestors(self._node)
        between = [node for node in chain[chain.index(self._since) + 1 : -1] if node.death is None]
        chosen = between[:: -(-len(between) // MOST_STOPS) or 1]
        stops = []
        for node in chosen:
            try:
                async with self._turn(node), self._nodes.awake(node) as cell:
                    taken = await cell.ask("trail")
            except (NotFoundError, NodeDiedError):
                continue
            same = await first.cell.ask("trail", at=[taken["count"]])
            beat = self._script.beat(taken["count"] - self._skipped)
            if same["digests"] == taken["digests"] and 0 < beat < high:
                stops.append((node, beat))
        return stops

    async def _compare_replays(self, first: Replay, low: int, high: int) -> tuple[bool, int | None]:
        """Return whether a second replay ends as the first one did, and if not, the beat at which two part."""
        end = self._script.beats
        async with self._replaying() as second:
            await second.advance(end)
            if await self._state(first) == await self._state(second):
                return True, None
        found = await self._first_parting([*_cuts(low, high), end])
        while found is not None and found[1] - found[0] > 1:
            found = await self._first_parting(_cuts(*found))
        return False, None if found is None else found[1]

    async def _first_parting(self, beats: Sequence[int]) -> tuple[int, int] | None:
        """Return between which two of ``beats`` two replays part; None where they do not this time."""
        agreed = 0
        async with self._replaying() as one, self._replaying() as other:
            for beat in beats:
                await one.advance(beat)
                await other.advance(beat)
                if await self._state(one) != await self._state(other):
                    return agreed, beat
                agreed = beat
        return None

    @contextlib.asynccontextmanager
    async def _replaying(self) -> AsyncIterator[Replay]:
        async with self._turn(self._since):
            awake = self._nodes.awake(self._since)
            cell = await awake.__aenter__()
        try:
            yield Replay(cell, self._script)
        finally:
            await awake.__aexit__(None, None, None)

    def _turn(self, snapshot: Node) -> Turn:
        if snapshot.id not in self._nodes.forest.nodes:
            raise NotFoundError(f"{snapshot.path} was dropped meanwhile")
        return Turn(shared=[self._nodes.queue(snapshot)])


def _cuts(low: int, high: int) -> list[int]:
    """Return the ends of at most `PIECES` pieces between two beats, in order."""
    pieces = min(PIECES, high - low)
    return sorted({low, *(low + (high - low) * number // pieces for number in range(1, pieces + 1))} - {0})
