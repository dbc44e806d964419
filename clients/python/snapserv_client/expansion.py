"""What `expand` is told to keep, and what came of each child."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias, TypedDict

import msgspec

from . import protocol
from .errors import InternalError, SnapservError, error_from_wire


class Best(msgspec.Struct, frozen=True):
    """Keep the ``count`` best children, by an output or a sum: the largest, or the smallest."""

    count: int
    by: str
    largest: bool = True


Keep: TypeAlias = Literal["none", "all"] | Best


class Options(TypedDict, total=False):
    """What `expand` can be told besides its inputs; see `snapserv_client.sync.Node.expand`."""

    steps: int
    policy: str | None
    policy_steps: int
    read: Sequence[str]
    sum: Sequence[str]
    parallel: int | None
    rng: protocol.Rng
    keep: Keep
    keep_as: Literal["branch", "snapshot"]
    timeout_s: float | None


class Outcome:
    """What came of one child.

    Attributes:
        index: Of its input among those that were given.
        error: Why it failed; None where it did not.
        step: Where it stood at the end.
        ticks: How many it has played: fewer than asked where the simulation was finished.
        outputs: The last tick's.
        totals: What was to be summed.
        fields: What was to be read of fields.
        finished: Whether the simulation was.
        elapsed_s: Its playing, in its own process.
        node: The branch or snapshot that it is now, where it was kept.

    ``outcome["name"]`` is an output, a sum or a field.
    """

    def __init__(self, wire: protocol.Outcome) -> None:
        self.index = wire.index
        self.error: SnapservError | None = None if wire.error is None else error_from_wire(wire.error)
        self.step = wire.step
        self.ticks = wire.ticks
        self.outputs = wire.outputs
        self.totals = wire.totals
        self.fields = wire.fields
        self.finished = wire.finished
        self.elapsed_s = wire.elapsed_us / 1e6
        self.node: Any = None

    @property
    def ok(self) -> bool:
        """Whether it has played to the end."""
        return self.error is None

    def __getitem__(self, name: str) -> Any:
        """Return a sum, an output or a field by name.

        Raises:
            SnapservError: The child failed.
            KeyError: There is none of that name.
        """
        if self.error is not None:
            raise self.error
        for found in (self.totals, self.outputs, self.fields):
            if isinstance(found, dict) and name in found:
                return found[name]
        raise KeyError(name)

    def __repr__(self) -> str:
        if self.error is not None:
            return f"<outcome {self.index}: {self.error.code}, {self.error.message}>"
        said = {**(self.outputs if isinstance(self.outputs, dict) else {}), **self.totals}
        values = ", ".join(f"{name}={value}" for name, value in said.items() if isinstance(value, int | float))
        kept = f", kept as {self.node.name}" if self.node is not None else ""
        return f"<outcome {self.index}: step {self.step:,}{', finished' if self.finished else ''}{kept}: {values}>"


def collected(wire: Iterable[protocol.Outcome], count: int) -> list[Outcome]:
    """Return outcomes in order of their inputs.

    Raises:
        InternalError: Some are missing.
    """
    outcomes: Sequence[Outcome] = sorted(map(Outcome, wire), key=lambda outcome: outcome.index)
    if [outcome.index for outcome in outcomes] != list(range(count)):
        raise InternalError(
            f"{count - len(outcomes)} of {count} outcomes were lost on the way",
            hint="the expansion was done, and what it kept is in the tree; expand again for its outcomes",
        )
    return list(outcomes)
