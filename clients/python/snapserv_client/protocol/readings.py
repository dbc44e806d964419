"""What is looked at after each tick: one output, or one number of a field; and conditions on such readings."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from ..plain import Array
from .limits import MAX_NAME_LENGTH, MAX_TICKS

__all__ = [
    "MOST_CONDITIONS",
    "MOST_READINGS",
    "All",
    "Compare",
    "Condition",
    "Every",
    "Holds",
    "No",
    "Reading",
    "Readings",
    "Records",
    "Series",
    "Some",
]

MOST_READINGS = 256
MOST_CONDITIONS = 64
"""So many may stand in one, itself among them."""

Label = Annotated[str, msgspec.Meta(min_length=1, max_length=2 * MAX_NAME_LENGTH)]


class Reading(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, frozen=True):
    """One value after each tick: an output, or a number of a field, either reduced over all of it or one element.

    Exactly one of ``output`` and ``field`` is given. Of a field of more than one element, ``reduce`` or ``at`` is
    given as well. ``name`` is what its column is called: by default the output, ``mean(field)`` or ``field[1, 2]``.
    """

    output: str | None = None
    field: str | None = None
    reduce: Literal["sum", "mean", "min", "max"] | None = None
    at: Annotated[tuple[int, ...], msgspec.Meta(max_length=64)] | None = None
    name: Label | None = None

    @property
    def label(self) -> str:
        """What its column is called."""
        if self.name is not None:
            return self.name
        if self.field is None:
            return str(self.output)
        if self.at is not None:
            return f"{self.field}[{', '.join(map(str, self.at))}]"
        return self.field if self.reduce is None else f"{self.reduce}({self.field})"


Readings: TypeAlias = Annotated[list[Reading], msgspec.Meta(max_length=MOST_READINGS)]
Every: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=MAX_TICKS)]


class Compare(msgspec.Struct, tag_field="kind", tag="compare", forbid_unknown_fields=True, frozen=True):
    """Whether a reading compares so with a number, a truth value or, for ``==`` and ``!=``, a text."""

    reading: Reading
    op: Literal["<", "<=", "==", "!=", ">=", ">"]
    value: bool | int | float | str


class Holds(msgspec.Struct, tag_field="kind", tag="holds", forbid_unknown_fields=True, frozen=True):
    """Whether an exported method that takes no arguments returns true. It should change nothing."""

    method: str


class All(msgspec.Struct, tag_field="kind", tag="all", forbid_unknown_fields=True, frozen=True):
    """Whether all of these hold."""

    of: Annotated[list[Compare | Holds | All | Some | No], msgspec.Meta(min_length=1, max_length=MOST_CONDITIONS)]


class Some(msgspec.Struct, tag_field="kind", tag="some", forbid_unknown_fields=True, frozen=True):
    """Whether any of these holds."""

    of: Annotated[list[Compare | Holds | All | Some | No], msgspec.Meta(min_length=1, max_length=MOST_CONDITIONS)]


class No(msgspec.Struct, tag_field="kind", tag="no", forbid_unknown_fields=True, frozen=True):
    """Whether that does not hold."""

    of: Compare | Holds | All | Some | No


Condition: TypeAlias = Compare | Holds | All | Some | No


class Series(msgspec.Struct):
    """Readings that were taken at the same ticks.

    ``steps`` are the ticks, as an array; ``columns`` has an array of as many rows for each reading, by its label.
    Missing numbers are NaN. Where there came to be too many, every second row went, so often that the rows that are
    left are ``every`` ticks apart or more.
    """

    every: int
    steps: Array
    columns: dict[str, Array]


class Records(msgspec.Struct):
    """What was recorded, in the order in which it began."""

    series: list[Series]
