"""What `expand` is told to keep, and what came of each child."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, Literal, TypeAlias, TypedDict, TypeVar, cast

import msgspec

from . import protocol
from .display import NodeDisplay
from .errors import InternalError, SnapservError, error_from_wire
from .markup import Cell, numeral, page, table, value_cell
from .plain import InputValues, Value
from .watching import Until, Watched

if TYPE_CHECKING:
    import pandas as pd

    from .records import Records

Node = TypeVar("Node", covariant=True)
"""What a child may be now: None where none was to be kept, and else what it was kept as, or None."""


class Best(msgspec.Struct, frozen=True):
    """Keep the ``count`` best children, by an output or a sum: the largest, or the smallest."""

    count: int
    by: str
    largest: bool = True


Keep: TypeAlias = Literal["none", "all"] | Best


class Play(TypedDict, total=False):
    """What each child is to play, and what is to be told of that; see `snapserv_client.sync.Node.expand`."""

    steps: int
    policy: str | None
    policy_steps: int
    read: Sequence[str]
    sum: Sequence[str]
    parallel: int | None
    rng: protocol.Rng
    seeds: Sequence[int] | None
    timeout_s: float | None


class Playing(Play, total=False):
    """What `expand` can be told of how to play: also what is looked at after each tick."""

    record: Watched | Iterable[Watched]
    every: int
    until: Until | None


class Options(Playing, total=False):
    """What `expand` can be told besides its inputs."""

    keep: Keep
    keep_as: Literal["branch", "snapshot"]


class Outcome(Mapping[str, Value], Generic[Node]):
    """What came of one child: a mapping of its outputs, what was summed of them, and fields, by their names.

    Attributes:
        index: Of its input among those that were given.
        error: Why it failed; None where it did not.
        step: Where it stood at the end.
        ticks: How many it has played: fewer than asked where the simulation was finished.
        outputs: The last tick's.
        totals: What was to be summed.
        fields: What was to be read of fields.
        finished: Whether the simulation was.
        stopped: Whether the condition held at which it was to stop; None without one.
        elapsed_s: Its playing, in its own process.
        node: The branch or snapshot that it is now, where it was kept.

    ``outcome["name"]`` is a sum where there is one of that name, else an output, or a field. Of a child that failed
    there is nothing: whoever asks for it gets the child's error. An outcome is true where the child has played to
    the end, and equal to itself alone.
    """

    def __init__(self, wire: protocol.Outcome) -> None:
        self.index = wire.index
        self.error: SnapservError | None = None if wire.error is None else error_from_wire(wire.error)
        self.step = wire.step
        self.ticks = wire.ticks
        self.outputs: dict[str, Value] = wire.outputs if isinstance(wire.outputs, dict) else {}
        self.totals: dict[str, Value] = wire.totals
        self.fields: dict[str, Value] = wire.fields
        self.finished = wire.finished
        self.elapsed_s = wire.elapsed_us / 1e6
        self.stopped = wire.stopped
        self._series = wire.series
        self.node: Node = cast("Node", None)

    @property
    def records(self) -> Records:
        """What was recorded while it played; empty where nothing was to be."""
        from .records import Records

        return Records.of([] if self._series is None else [self._series])

    @property
    def ok(self) -> bool:
        """Whether it has played to the end."""
        return self.error is None

    def __getitem__(self, name: str) -> Value:
        """Return a sum, an output or a field by name.

        Raises:
            SnapservError: The child failed.
            KeyError: There is none of that name.
        """
        if self.error is not None:
            raise self.error
        for found in (self.totals, self.outputs, self.fields):
            if name in found:
                return found[name]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __bool__(self) -> bool:
        return self.ok

    def __eq__(self, other: object) -> bool:
        return self is other  # what it holds may be arrays, of which nobody knows when they are equal

    def __hash__(self) -> int:
        return id(self)

    def _all(self) -> dict[str, Value]:
        """Return outputs, sums and fields together.

        Raises:
            SnapservError: The child failed.
        """
        if self.error is not None:
            raise self.error
        return {**self.outputs, **self.fields, **self.outputs, **self.totals}

    def __repr__(self) -> str:
        if self.error is not None:
            return f"<outcome {self.index}: {self.error.code}, {self.error.message}>"
        values = ", ".join(f"{name}={value}" for name, value in self.items() if isinstance(value, int | float))
        kept = f", kept as {self.node.name}" if isinstance(self.node, NodeDisplay) else ""
        return f"<outcome {self.index}: step {self.step:,}{', finished' if self.finished else ''}{kept}: {values}>"

    def _repr_html_(self) -> str:
        return page(_table([self]))


class Outcomes(list[Outcome[Node]]):
    """The outcomes of an expansion, in the order of its inputs.

    Attributes:
        inputs: What each child was given: its inputs, or a sequence of them.
    """

    inputs: Sequence[InputValues | Sequence[InputValues]] = ()

    def to_frame(self) -> pd.DataFrame:
        """Return a frame with a row for each child: ``input.NAME`` for its inputs, and what came of it.

        Outputs, sums and fields are called as in an `Outcome`; one that is called like a column of its own, such
        as ``step``, is ``output.NAME``. Where a child was given a sequence of inputs, so are the values. Of one
        that failed there is an ``error``, which is missing elsewhere.

        Raises:
            UnsupportedError: pandas is not installed.
        """
        from .frames import frame_of_outcomes

        return frame_of_outcomes(self, self.inputs)

    def __repr__(self) -> str:
        return "\n".join(map(repr, self)) or "[]"

    def _repr_html_(self) -> str:
        return page(_table(self))


def _table(outcomes: Sequence[Outcome[object]]) -> str:
    """Return outcomes side by side: a column for each name that one of them has."""
    names = list(dict.fromkeys(name for outcome in outcomes if outcome.ok for name in outcome))
    kept = any(isinstance(outcome.node, NodeDisplay) for outcome in outcomes)
    rows = []
    for outcome in outcomes:
        error = outcome.error
        ended = Cell("finished" if outcome.finished else "")
        state = ended if error is None else Cell(f"{error.code}: {error.message}", "bad")
        node = [outcome.node.name if isinstance(outcome.node, NodeDisplay) else ""] if kept else []
        values = [value_cell(outcome[name]) if outcome.ok and name in outcome else Cell("") for name in names]
        rows.append([numeral(outcome.index), numeral(outcome.step), *values, *node, state])
    return table(("", "step", *names, *(["kept as"] if kept else []), ""), rows, f"{len(outcomes):,} outcomes")


def collected(wire: Iterable[protocol.Outcome], count: int) -> Outcomes[None]:
    """Return outcomes in order of their inputs.

    Raises:
        InternalError: Some are missing.
    """
    outcomes: Outcomes[None] = Outcomes(sorted(map(Outcome, wire), key=lambda outcome: outcome.index))
    if [outcome.index for outcome in outcomes] != list(range(count)):
        raise InternalError(
            f"{count - len(outcomes)} of {count} outcomes were lost on the way",
            hint="the expansion was done, and what it kept is in the tree; expand again for its outcomes",
        )
    return outcomes
