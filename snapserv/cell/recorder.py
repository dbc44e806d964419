"""What was recorded at a node since its tree's root: curves, kept in the node's own memory, and so forked with it.

Rows are kept in chunks. A chunk that is full is never written again, so that what branches of one past recorded
before they parted is shared by all of them, page by page. It is bounded: where there is too much, every second row
goes, of the oldest past as well as of the newest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from msgspec import convert, to_builtins
from snapserv_client.protocol import Reading

from ..errors import BadRequestError
from ..simulation.readings import Look, looking_at, refuse_missing

if TYPE_CHECKING:
    from ..simulation.base import Simulation

MOST_BYTES = 64 << 20
CHUNK_BYTES = 1 << 14
MOST_CHUNK_ROWS = 512
FEWEST_CHUNK_ROWS = 4
MOST_VALUE_BYTES = 1 << 12
"""A curve's value may be a small array, as an environment's observation; fields are read as what they are."""
_KINDS = "biufc"
Array = np.ndarray[Any, Any]


class Column:
    """The values of one reading, one after the other. Where their type changes, another chunk begins."""

    __slots__ = ("_at", "_chunk", "_full", "_kind", "nbytes")

    def __init__(self) -> None:
        self._full: list[Array] = []
        self._chunk: Array = np.empty(0)
        self._at = 0
        self._kind: type | None = None
        self.nbytes = 0

    def append(self, value: Any) -> None:
        """Keep a value.

        Raises:
            TypeError: It is no number, and no small array of numbers.
        """
        if type(value) is not self._kind or self._at == len(self._chunk) or self._kind is np.ndarray:
            self._make_room(value)
        try:
            self._chunk[self._at] = value
        except OverflowError:  # an int that is too large for those before it
            self._make_room(value)
            self._chunk[self._at] = value
        self._at += 1

    def extend(self, values: Array) -> None:
        """Keep values that were kept elsewhere."""
        if self._at:
            self._full.append(self._chunk[: self._at])
        self._chunk, self._at, self._kind = values[:0].copy(), 0, None
        if len(values):
            self._full.append(values.copy())
        self.nbytes = sum(part.nbytes for part in self._full)

    def last(self, rows: int) -> Array:
        """Return the last values; the first axis is time. Numbers of several types come as one that holds all."""
        parts: list[Array] = []
        for part in self.backwards():
            if not rows:
                break
            parts.append(part[-rows:])
            rows -= len(parts[-1])
        return np.concatenate(parts[::-1]) if parts else np.empty(0)

    def backwards(self) -> Iterator[Array]:
        """Yield all values, chunk by chunk, the last ones first."""
        for part in (self._chunk[: self._at], *reversed(self._full)):
            if len(part):
                yield part

    def __len__(self) -> int:
        return sum(map(len, self._full)) + self._at

    def keep(self, which: Array | slice) -> None:
        """Forget all values but those that a mask, or a slice, says."""
        values = self.last(len(self))[which].copy()
        self._full, self._chunk, self._at, self._kind = [values], values[:0], 0, None
        self.nbytes = values.nbytes

    def _make_room(self, value: Any) -> None:
        made = np.asarray(value)
        if made.dtype.kind not in _KINDS or made.nbytes > MOST_VALUE_BYTES:
            what = "text" if made.dtype.kind in "US" else type(value).__name__
            raise TypeError(f"{what} of {made.nbytes:,} bytes" if made.dtype.kind in _KINDS else what)
        same = made.shape == self._chunk.shape[1:]
        if same and self._at < len(self._chunk) and np.can_cast(made.dtype, self._chunk.dtype):
            self._kind = type(value)
            return
        shapes = {part.shape[1:] for part in (*self._full, self._chunk[: self._at]) if len(part)}
        if shapes and shapes != {made.shape}:
            raise TypeError(f"an array of shape {list(made.shape)} after those of {[*map(list, shapes)]}")
        if self._at:
            self._full.append(self._chunk[: self._at])
            self.nbytes -= self._chunk.nbytes - self._full[-1].nbytes
        rows = min(MOST_CHUNK_ROWS, max(FEWEST_CHUNK_ROWS, CHUNK_BYTES // max(1, made.nbytes)))
        kind = np.result_type(made.dtype, self._chunk.dtype) if self._at or self._full else made.dtype
        self._chunk, self._at, self._kind = np.empty((rows, *made.shape), kind), 0, type(value)
        self.nbytes += self._chunk.nbytes


class Kept:
    """Readings that are taken at the same ticks, and their columns."""

    def __init__(self, readings: tuple[Reading, ...], every: int) -> None:
        self.readings = readings
        self.asked = every
        self.every = every
        self.steps = Column()
        self.columns = [Column() for _ in readings]

    @property
    def nbytes(self) -> int:
        """What it takes."""
        return self.steps.nbytes + sum(column.nbytes for column in self.columns)

    def thin(self) -> None:
        """Forget every second row."""
        self.every *= 2
        self._keep(self.steps.last(len(self.steps)) % self.every == 0)

    def cut(self, step: int) -> None:
        """Forget what is later than a step."""
        self._keep(slice(int(np.searchsorted(self.steps.last(len(self.steps)), step, side="right"))))

    def finish(self) -> None:
        """Have all columns end with the last row that is whole."""
        self._keep(slice(len(self.steps)))

    def _keep(self, which: Array | slice) -> None:
        for column in (self.steps, *self.columns):
            column.keep(which)

    def told(self, rows: int) -> dict[str, Any]:
        """Return the last rows as a message carries them."""
        columns = {
            reading.label: column.last(rows) for reading, column in zip(self.readings, self.columns, strict=True)
        }
        return {"every": self.every, "steps": self.steps.last(rows), "columns": columns}

    def extend(self, told: Mapping[str, Any]) -> None:
        """Keep rows that were kept elsewhere, as often as they were kept there."""
        while self.every < told["every"]:
            self.thin()
        self.steps.extend(told["steps"])
        for column, values in zip(self.columns, told["columns"].values(), strict=True):
            column.extend(values)

    def since(self, step: int) -> dict[str, Any]:
        """Return the rows that are later than a step, as a message carries them."""
        rows = 0
        for part in self.steps.backwards():
            later = len(part) - int(np.searchsorted(part, step, side="right"))
            rows += later
            if later < len(part):
                break
        return self.told(rows)


class Taking(NamedTuple):
    """Readings that are taken after some ticks of a request.

    Attributes:
        kept: Where they are kept.
        looks: What takes each of them.
    """

    kept: Kept
    looks: list[Look]


class Recorder:
    """What is recorded at a node.

    Args:
        most_bytes: How much of it there may be.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._series: list[Kept] = []
        self._standing: tuple[tuple[Reading, ...], int] | None = None
        self._most_bytes = most_bytes

    def order(self, simulation: Simulation, readings: Sequence[Reading], every: int) -> None:
        """Record something from now on, whoever steps; nothing more with no readings.

        Raises:
            BadRequestError: A reading is none.
            NotFoundError: It is of no field.
        """
        refuse_twice(readings)
        for reading in readings:
            looking_at(simulation, reading)
        self._standing = (tuple(readings), every) if readings else None

    def begin(self, simulation: Simulation, readings: Sequence[Reading], every: int) -> list[Taking]:
        """Return what is to be taken in a request: what it asks for first, then what stands; empty for nothing.

        Raises:
            BadRequestError: A reading is none.
            NotFoundError: It is of no field.
        """
        refuse_twice(readings)
        asked = [(tuple(readings), every)] if readings else []
        if self._standing is not None and self._standing not in asked:
            asked.append(self._standing)
        return [
            Taking(self._kept(readings, every), [looking_at(simulation, reading) for reading in readings])
            for readings, every in asked
        ]

    def take(self, takings: Sequence[Taking], outputs: Any, step: int) -> None:
        """Take the readings of a tick, where it is one of those that are recorded.

        Raises:
            BadRequestError: The tick does not put out what was to be read, or no number.
        """
        said = outputs or {}
        for kept, looks in takings:
            if step % kept.every:
                continue
            for reading, column, look in zip(kept.readings, kept.columns, looks, strict=True):
                try:
                    column.append(look(said))
                except KeyError:
                    raise self._given_up(kept, refuse_missing(reading, said)) from None
                except TypeError as cause:
                    error = BadRequestError(f"{reading.label} is no number: it is {cause}")
                    raise self._given_up(kept, error) from None
            kept.steps.append(step)

    def bound(self) -> None:
        """Keep to the bound: what has most rows for its bytes is thinned until the rest is few enough."""
        while sum(kept.nbytes for kept in self._series) > self._most_bytes:
            largest = max(self._series, key=lambda kept: kept.nbytes)
            largest.thin()

    def told(self, after: int = 0) -> list[dict[str, Any]]:
        """Return everything that is later than a step, as a message carries it."""
        found = (kept.since(after) for kept in self._series)
        return [told for told in found if len(told["steps"])]

    def hand_over(self, after: int, until: int) -> dict[str, Any]:
        """Return the rows between two steps, and what else `take_over` needs to have all that there is by then."""
        standing = self._standing and {"record": to_builtins(self._standing[0]), "every": self._standing[1]}
        series = []
        for kept in self._series:
            told = kept.since(after)
            rows = int(np.searchsorted(told["steps"], until, side="right"))
            told["steps"] = told["steps"][:rows]
            told["columns"] = {name: values[:rows] for name, values in told["columns"].items()}
            series.append({"record": to_builtins(kept.readings), "asked": kept.asked, **told})
        return {"standing": standing, "series": series}

    def take_over(self, told: Mapping[str, Any]) -> None:
        """Have what another one handed over, in the place of what this has of the same steps; see `hand_over`."""
        there, self._series = self._series, []
        for each in told["series"]:
            readings = tuple(convert(each["record"], list[Reading]))
            same = (kept for kept in there if (kept.readings, kept.asked) == (readings, each["asked"]))
            kept = next(same, None) or Kept(readings, each["asked"])
            kept.extend(each)
            if len(kept.steps):
                self._series.append(kept)
        standing = told["standing"]
        if standing is None:
            self._standing = None
        else:
            self._standing = tuple(convert(standing["record"], list[Reading])), standing["every"]

    def cut(self, step: int) -> None:
        """Forget what is later than a step."""
        for kept in self._series:
            kept.cut(step)
        self._series = [kept for kept in self._series if len(kept.steps)]

    def _kept(self, readings: tuple[Reading, ...], every: int) -> Kept:
        for kept in self._series:
            if (kept.readings, kept.asked) == (readings, every):
                return kept
        self._series.append(Kept(readings, every))
        return self._series[-1]

    def _given_up(self, kept: Kept, error: BadRequestError) -> BadRequestError:
        """Have all columns end with the last row that is whole."""
        kept.finish()
        if not len(kept.steps):
            self._series.remove(kept)
        return error


def refuse_twice(readings: Sequence[Reading]) -> None:
    """Check that no two columns have the same name.

    Raises:
        BadRequestError: Two have.
    """
    labels = [reading.label for reading in readings]
    for label in labels:
        if labels.count(label) > 1:
            raise BadRequestError(f"two columns are called {label!r}", hint="give one of them another name")
