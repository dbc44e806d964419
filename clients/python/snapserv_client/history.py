"""What was done to a node, and whether doing it again leads to the same state: as told, and how it looks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import overload

from .display import aligned
from .markup import Cell, brief, page, paragraph, table
from .protocol import Action, BeginAction, FieldVerdict, Recording, StepAction, VerifyResult, WriteAction

MOST_ROWS = 100
HEADS = ("", "at step", "times", "action")


@dataclass(frozen=True)
class Actions(Sequence[Action]):
    """The actions of a node since its tree's root, in order; ``replay`` takes them, or a part of them."""

    node: str
    items: list[Action]
    recording: Recording | None = None
    """What they are of, and where they lead; ``replay`` checks it."""

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Action]:
        return iter(self.items)

    @overload
    def __getitem__(self, index: int) -> Action: ...
    @overload
    def __getitem__(self, index: slice) -> Actions: ...
    def __getitem__(self, index: int | slice) -> Action | Actions:
        if not isinstance(index, slice):
            return self.items[index]
        part, whole = self.items[index], range(len(self.items))
        return Actions(self.node, part, _of_part(self.recording, part, list(whole[index]), whole))

    @property
    def ticks(self) -> int:
        """How many completed ticks there are."""
        return sum(action.ticks * action.repeat for action in self.items if isinstance(action, StepAction))

    @property
    def title(self) -> str:
        """Whose they are, and how many."""
        return f"{self.node} · {len(self):,} actions · {self.ticks:,} ticks"

    def rows(self) -> list[tuple[str, ...]]:
        """Return a line of each, or of the first and the last where they are many."""
        shown = self.items if len(self) <= MOST_ROWS else self.items[: MOST_ROWS // 2]
        rest = [] if shown is self.items else self.items[-MOST_ROWS // 2 :]
        rows = [_row(index, action) for index, action in enumerate(shown)]
        if rest:
            rows.append(("…", "", "", f"{len(self) - MOST_ROWS:,} more"))
            rows += [_row(index, action) for index, action in enumerate(rest, len(self) - len(rest))]
        return rows

    def __str__(self) -> str:
        return "\n".join([self.title, *aligned([HEADS, *self.rows()])])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        looks = ("number", "number", "number", "code")
        rows = ([*map(Cell, row, looks)] for row in self.rows())
        return page(table(HEADS, rows, self.title))


@dataclass(frozen=True)
class Verification:
    """What `verify` found of a node."""

    node: str
    result: VerifyResult

    @property
    def ok(self) -> bool:
        """Whether the replay led to the same state; without fields, whether it put out the same."""
        return self.result.ok

    def __bool__(self) -> bool:
        return self.ok

    @property
    def fields(self) -> list[FieldVerdict]:
        """The hashes of each field in the node and in its replay."""
        return self.result.fields

    @property
    def differing(self) -> list[str]:
        """The fields that differ."""
        return [field.name for field in self.fields if not field.same]

    @property
    def step(self) -> int | None:
        """The first step that is known to differ; None where nothing does."""
        return self.result.step

    @property
    def deterministic(self) -> bool | None:
        """Whether two replays agree; None where one was enough."""
        return self.result.deterministic

    def __str__(self) -> str:
        result = self.result
        lines = [f"{self.node} · {'verified' if self.ok else 'NOT the same'} · {self.done}"]
        if result.fields:
            rows = [(each.name, "same" if each.same else "differs", each.hash) for each in result.fields]
            lines += aligned([("field", "", "hash"), *rows])
        if not result.outputs:
            lines.append("what it put out differs")
        lines += self.reasons()
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = [
            (each.name, Cell("same", "good") if each.same else Cell("differs", "bad"), Cell(each.hash, "code"))
            for each in self.fields
        ]
        verdict = paragraph("verified", "good") if self.ok else paragraph("NOT the same", "bad")
        silent = [] if self.result.outputs else ["what it put out differs"]
        said = (paragraph(sentence) for sentence in (*silent, *self.reasons()))
        return page(
            paragraph(f"{self.node} · {self.done}"),
            verdict,
            table(("field", "", "hash"), rows) if rows else "",
            *said,
        )

    @property
    def done(self) -> str:
        """What was done again."""
        return f"{self.result.actions:,} actions, {self.result.ticks:,} ticks since {self.result.since}"

    def reasons(self) -> Iterator[str]:
        """Yield what is known of where and why it differs, a sentence each."""
        result = self.result
        if result.error:
            yield result.error if result.step is None else f"the replay ended early: {result.error}"
        if result.step is not None:
            yield f"no difference up to step {result.after:,}, one at step {result.step:,} (action {result.action})"
        if result.deterministic is False:
            where = f": two replays part at step {result.parted:,}" if result.parted is not None else ""
            yield f"the simulation is not deterministic{where}"
        elif result.deterministic:
            yield "two replays agree with each other: something that is no action has changed the node"


def _of_part(recording: Recording | None, part: list[Action], chosen: list[int], whole: range) -> Recording | None:
    """Return what a part of a recording is of: it begins and ends elsewhere."""
    if recording is None or not part or chosen != list(range(chosen[0], chosen[-1] + 1)):
        return None
    of = copy(recording)
    if chosen[0] > 0:
        of.step, of.start = part[0].step, {}
    if chosen[-1] + 1 < len(whole):
        of.last_step, of.end = None, {}
    return of


def describe_action(action: Action) -> str:
    """Return an action in one line."""
    if isinstance(action, StepAction):
        inputs = "".join(f", {name}={brief(value)}" for name, value in action.inputs.items())
        return f"step({action.ticks:,}{inputs})" + (" and one more tick, which raised" if action.raised else "")
    if isinstance(action, WriteAction):
        region = "" if action.region is None else f", {action.region}"
        return f"write({action.field}, {brief(action.value)}{region})"
    if isinstance(action, BeginAction):
        return "begin" if action.seed is None else f"begin(seed={action.seed})"
    given = [*map(brief, action.args), *(f"{name}={brief(value)}" for name, value in action.kwargs.items())]
    return f"call({', '.join([action.method, *given])})" + (", which raised" if action.raised else "")


def _row(index: int, action: Action) -> tuple[str, ...]:
    times = f"{action.repeat:,} ×" if action.repeat > 1 else ""
    return f"{index:,}", f"{action.step:,}", times, describe_action(action)
