"""Regions of fields: which elements a client means, and where in memory they lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import BadRequestError

Array = np.ndarray[Any, Any]


class ResolvedRegion(NamedTuple):
    """A region against the shape of its field.

    ``select`` is what numpy is indexed with. ``box`` is the smallest block of whole rows of memory around it: for
    each axis the first element and how many; ``inside`` indexes the box to give the region.
    """

    select: tuple[int | slice, ...]
    box: tuple[tuple[int, int], ...]
    inside: tuple[int | slice, ...]


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
    box: list[tuple[int, int]] = []
    inside: list[int | slice] = []
    for axis, (part, size) in enumerate(zip(given, shape, strict=True)):
        if isinstance(part, int):
            if not -size <= part < size:
                raise BadRequestError(
                    f"{what}: index {part} is out of range on axis {axis}", hint=f"allowed: {-size} to {size - 1}"
                )
            index.append(part)
            box.append((part % size, 1))
            inside.append(0)
            continue
        if part[2] == 0:
            raise BadRequestError(f"{what}: a slice on axis {axis} has step 0")
        wanted = range(*slice(*part).indices(size))
        index.append(slice(*part))
        if not wanted:
            box.append((0, 0))
            inside.append(slice(0, 0))
            continue
        low, high = min(wanted[0], wanted[-1]), max(wanted[0], wanted[-1])
        box.append((low, high - low + 1))
        inside.append(slice(None, None, wanted.step))
    return ResolvedRegion(tuple(index), tuple(box), tuple(inside))


def runs_of(box: Sequence[tuple[int, int]], shape: tuple[int, ...], itemsize: int) -> tuple[Array, int]:
    """Return where the elements of ``box`` lie in a C-ordered field, as contiguous runs.

    Returns:
        Offsets in bytes from the field's start (uint64, one a run), and the bytes in each run.
    """
    counts = [count for _, count in box]
    if 0 in counts:
        return np.empty(0, np.uint64), 0
    # The trailing axes that are taken whole, and one more, make a run.
    split = len(shape)
    run = itemsize
    while split > 0:
        split -= 1
        run *= counts[split]
        if counts[split] != shape[split]:
            break
    strides = np.ones(len(shape), np.uint64)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * np.uint64(shape[axis + 1])
    offsets = np.zeros(1, np.uint64)
    for axis, (first, count) in enumerate(box):
        along = np.arange(first, first + (count if axis < split else 1), dtype=np.uint64) * strides[axis]
        offsets = (offsets[:, None] + along).reshape(-1)
    return offsets * np.uint64(itemsize), run
