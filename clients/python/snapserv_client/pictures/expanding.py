"""The children of an expansion, a few ticks at a time: what they look like on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ..errors import BadRequestError, NotFoundError
from ..expansion import Outcome, Outcomes, Play
from ..figures import said
from ..plain import InputValues
from .tiles import MOST_TILES

if TYPE_CHECKING:
    from ..sync import Snapshot
    from .facts import Node

LONGEST_TITLE = 34


class Children:
    """Children that play on and on from where they stand; what was kept of them on the way goes with the block.

    Each part of a child's play is an expansion whose child is kept as a snapshot, so that whatever holds of
    expansions does of these: random streams that were split, policies, failures.

    Attributes:
        ticks: How many the one plays that plays the longest.
        played: How many were played so far.
        nodes: Where each stands; None of one that has not begun, or has failed.
    """

    def __init__(self, node: Node, inputs: Sequence[InputValues | Sequence[InputValues]], playing: Play) -> None:
        if not 0 < len(inputs) <= MOST_TILES:
            raise BadRequestError(f"{len(inputs):,} children: a film has room for 1 to {MOST_TILES}")
        self._node, self._inputs, self._playing = node, inputs, playing
        self._steps, self._policy_steps = playing.get("steps", 1), playing.get("policy_steps", 0)
        self._plans = [[given] if isinstance(given, Mapping) else list(given) for given in inputs]
        self._ends = [len(plan) * self._steps + self._policy_steps for plan in self._plans]
        self._at = [0] * len(inputs)
        self._found: list[Outcome[Any] | None] = [None] * len(inputs)
        self._taken: list[Snapshot] = []
        self.nodes: list[Snapshot | None] = [None] * len(inputs)
        self.ticks, self.played = max(self._ends), 0

    def __enter__(self) -> Self:
        from ..sync import Branch

        self._start = self._node
        if isinstance(self._node, Branch):
            self._start = self._node.snapshot()
            self._taken.append(self._start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, cause: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in reversed(self._taken):
            with suppress(NotFoundError):
                each.drop()

    def play(self, ticks: int) -> bool:
        """Have all play on that are not at their end; return False where none is left."""
        going = [index for index in range(len(self._inputs)) if self._goes_on(index)]
        for index in going:
            self._play(index, ticks)
        self.played = max(self._at)
        return bool(going)

    def titles(self) -> list[str]:
        """Return what each was given, and how it ended if it did."""
        return [self._title(index) for index in range(len(self._inputs))]

    def outcomes(self) -> Outcomes[None]:
        """Return what came of all of them, as of one expansion."""
        outcomes: Outcomes[None] = Outcomes(each for each in self._found if each is not None)
        outcomes.inputs = self._inputs
        for each in outcomes:
            each.node = None
        return outcomes

    def _goes_on(self, index: int) -> bool:
        found = self._found[index]
        return found is None or (found.ok and not found.finished and self._at[index] < self._ends[index])

    def _play(self, index: int, ticks: int) -> None:
        before, start = self._found[index], self.nodes[index] or self._start
        plan, at = self._plans[index], self._at[index]
        given = [plan[tick // self._steps] for tick in range(at, min(at + ticks, len(plan) * self._steps))]
        same = len(given) > 0 and all(each is given[0] for each in given)
        play = self._playing.copy()
        play["steps"] = len(given) if same else 1
        play["policy_steps"] = min(ticks, self._ends[index] - at) - len(given)
        if not play["policy_steps"]:
            play["policy"] = None
        if before is not None:  # it has its random stream
            play["rng"] = "same"
        (found,) = start.expand([given[:1] if same else given], keep="all", keep_as="snapshot", **play)
        self._at[index] = min(at + ticks, self._ends[index])
        self.nodes[index] = found.node
        if found.node is not None:
            self._taken.append(found.node)
        self._found[index] = _after(before, found, index)

    def _title(self, index: int) -> str:
        found, plan = self._found[index], self._plans[index]
        text = "; ".join(", ".join(f"{name} {said(value, 1)}" for name, value in each.items()) for each in plan)
        text = f"{index} · {text}" if text else str(index)
        text = text if len(text) <= LONGEST_TITLE else f"{text[: LONGEST_TITLE - 1]}…"
        if found is None or (found.ok and not found.finished):
            return text
        return f"{text} · {'finished' if found.ok else 'failed'}"


def _after(before: Outcome[Any] | None, found: Outcome[Any], index: int) -> Outcome[Any]:
    """Return what came of a child in all: its last outcome, and the sums of its parts."""
    found.index = index
    if before is not None:
        found.ticks += before.ticks
        found.elapsed_s += before.elapsed_s
        for name, value in before.totals.items():
            found.totals[name] = value + found.totals[name] if name in found.totals else value  # type: ignore[operator]
    return found
