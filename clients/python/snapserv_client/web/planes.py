"""Two dimensions of a field, small enough for a screen: read with a stride where it is large."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .. import aio
from ..plain import Array
from ..protocol import FieldInfo

MOST_PIXELS = 900
"""A side of a picture has no more pixels than twice this, and no fewer than this where the field has as many."""
WHOLE_BYTES = 8 << 20
"""What is no larger is read whole, and reduced here: means say more than every fourth element does."""
MOST_POINTS = 2000


@dataclass(frozen=True)
class View:
    """Which plane of a field: the axes that are drawn, downwards and to the right, and where it cuts the others."""

    down: int
    right: int
    at: tuple[int, ...]
    """An index for each axis; those of the two that are drawn do not count."""


@dataclass(frozen=True)
class Plane:
    """What was read: every ``stride``-th element downwards and to the right, or the means of so many."""

    values: Array
    stride: int
    shape: tuple[int, int]
    exact: bool
    """Whether each value is an element's, and no mean of several."""

    def value(self, down: float, right: float) -> tuple[int, int, str]:
        """Return which element is at a place, in shares of the height and the width, and its value."""
        from ..figures import said

        row = min(int(down * self.shape[0]), self.shape[0] - 1)
        column = min(int(right * self.shape[1]), self.shape[1] - 1)
        at = (min(row // self.stride, len(self.values) - 1), min(column // self.stride, self.values.shape[1] - 1))
        return row, column, ("" if self.exact else "≈ ") + said(self.values[at].item())


def can_be_drawn(info: FieldInfo) -> bool:
    """Return whether a field is of numbers and has two dimensions or more."""
    return is_of_numbers(info) and len(info.shape) >= 2 and 0 not in info.shape


def can_be_plotted(info: FieldInfo) -> bool:
    """Return whether a field is of numbers along one axis."""
    return is_of_numbers(info) and len(info.shape) == 1 and 0 not in info.shape


def is_of_numbers(info: FieldInfo) -> bool:
    """Return whether the elements of a field are real numbers or truth values."""
    return isinstance(info.dtype, str) and np.dtype(info.dtype).kind in "biuf"


def first_view(info: FieldInfo) -> View:
    """Return the plane of a field that is shown first: of its last two axes, through the middle of the others."""
    axes = len(info.shape)
    return View(
        axes - 2, axes - 1, tuple(size // 2 if axis < axes - 2 else 0 for axis, size in enumerate(info.shape))
    )


def most_telling(fields: list[FieldInfo]) -> FieldInfo | None:
    """Return the field to show first: one whose values have names, or else one that can be drawn."""
    from .pictures import labels_of

    drawn = [info for info in fields if can_be_drawn(info)]
    named = [info for info in drawn if labels_of(info.doc) and np.dtype(str(info.dtype)).kind in "biu"]
    named.sort(key=lambda info: -len(labels_of(info.doc)))
    return next(iter([*named, *drawn]), None)


async def plane(node: aio.Branch | aio.Snapshot, info: FieldInfo, view: View) -> Plane:
    """Read a plane of a node's field.

    Raises:
        SnapservError: What the server met.
    """
    rows, columns = info.shape[view.down], info.shape[view.right]
    factor = max(1, math.ceil(max(rows, columns) / (2 * MOST_PIXELS)))
    dtype = np.dtype(str(info.dtype))
    whole = rows * columns * dtype.itemsize <= WHOLE_BYTES
    step = 1 if whole else factor
    region: tuple[int | slice, ...] = tuple(
        slice(None, None, step) if axis in (view.down, view.right) else min(view.at[axis], size - 1)
        for axis, size in enumerate(info.shape)
    )
    values = np.asarray(await node.read(info.name, region))
    if view.down > view.right:
        values = values.T
    exact = True
    if whole and factor > 1:
        if dtype.kind == "f":
            values, exact = _means(values, factor), False
        else:
            values = values[::factor, ::factor]
    return Plane(values, factor, (rows, columns), exact)


async def line(node: aio.Branch | aio.Snapshot, info: FieldInfo) -> tuple[Array, Array]:
    """Read a field of one axis: indices and values, at most so many as a curve can show."""
    step = max(1, info.shape[0] // MOST_POINTS)
    values = np.asarray(await node.read(info.name, slice(None, None, step)))
    return np.arange(len(values)) * step, values


def _means(values: Array, factor: int) -> Array:
    rows, columns = (-(-size // factor) * factor for size in values.shape)
    grown = np.pad(values, ((0, rows - values.shape[0]), (0, columns - values.shape[1])), mode="edge")
    blocks = grown.reshape(rows // factor, factor, columns // factor, factor)
    means: Array = blocks.mean(axis=(1, 3), dtype=np.float64)
    return means
