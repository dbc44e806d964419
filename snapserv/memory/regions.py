"""Regions of fields: which elements a client means, and where in memory they lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..errors import BadRequestError

GAP_BYTES = 4096
"""Two runs that are no further apart are read as one: a call takes about as long as copying a page."""


class ResolvedRegion(NamedTuple):
    """A region against the shape of its field.

    ``select`` is what numpy is indexed with. ``taken`` says for each axis which elements those are, in memory's
    order: ``range(3, 4)`` for the index 3. ``arrange`` indexes the block of them, an axis for each of the field's,
    to give the region: it drops the axes of indices and turns those that are taken backwards.
    """

    select: tuple[int | slice, ...]
    taken: tuple[range, ...]
    arrange: tuple[int | slice, ...]

    @property
    def backwards(self) -> bool:
        """Whether an axis is turned."""
        return any(isinstance(part, slice) and part.step < 0 for part in self.arrange)


def resolve_region(region: Sequence[Any] | None, shape: tuple[int, ...], *, what: str) -> ResolvedRegion:
    """Return ``region`` (see `snapserv_client.protocol.Region`) against ``shape``.

    Slices are clipped as Python clips them; an index must exist.

    Raises:
        BadRequestError: Too many axes, an index out of range or a step of zero; names the field ``what``.
    """
    given = list(region or ())
    if len(given) > len(shape):
        raise BadRequestError(
            f"{what}: the region has {len(given)} axes, and the field {len(shape)}", hint=f"shape {list(shape)}"
        )
    given += [(None, None, None)] * (len(shape) - len(given))
    index: list[int | slice] = []
    taken: list[range] = []
    arrange: list[int | slice] = []
    for axis, (part, size) in enumerate(zip(given, shape, strict=True)):
        if isinstance(part, int):
            if not -size <= part < size:
                raise BadRequestError(
                    f"{what}: index {part} is out of range on axis {axis}", hint=f"allowed: {-size} to {size - 1}"
                )
            index.append(part)
            taken.append(range(part % size, part % size + 1))
            arrange.append(0)
            continue
        if part[2] == 0:
            raise BadRequestError(f"{what}: a slice on axis {axis} has step 0")
        wanted = range(*slice(*part).indices(size))
        backwards = wanted.step < 0
        index.append(slice(*part))
        taken.append(wanted[::-1] if backwards else wanted)
        arrange.append(slice(None, None, -1 if backwards else 1))
    return ResolvedRegion(tuple(index), tuple(taken), tuple(arrange))


class Axis(NamedTuple):
    """Elements at equal distances in memory: how many, and the bytes from one to the next."""

    length: int
    distance: int


def axes_of(taken: Sequence[range], shape: Sequence[int], itemsize: int) -> tuple[int, list[Axis]]:
    """Return where the elements that are taken of a C-ordered field lie.

    Returns:
        Bytes from the field's start to the first of them, and an `Axis` for each of the field's.
    """
    first, stride, axes = 0, itemsize, []
    for chosen, size in zip(reversed(taken), reversed(shape), strict=True):
        first += chosen.start * stride if chosen else 0
        axes.append(Axis(len(chosen), chosen.step * stride))
        stride *= size
    return first, axes[::-1]


class Covering(NamedTuple):
    """Runs of bytes that cover elements, for who can read runs only: gaps within a run are read along.

    The axes before ``split`` say where the runs begin, ``runs`` of them, each of ``run_bytes``; those from it on
    say where elements lie in a run.
    """

    split: int
    runs: int
    run_bytes: int

    @property
    def cost_bytes(self) -> int:
        """What reading them costs, in bytes of one long run that would take as long."""
        return self.runs * (self.run_bytes + GAP_BYTES)


def cover(axes: Sequence[Axis], itemsize: int) -> Covering:
    """Return the runs in which elements are read soonest; there is at least one element."""
    split, run = len(axes), itemsize
    while split and (axes[split - 1].length == 1 or axes[split - 1].distance - run <= GAP_BYTES):
        split -= 1
        run += (axes[split].length - 1) * axes[split].distance
    return Covering(split, math.prod(axis.length for axis in axes[:split]), run)
