"""Elements that lie apart, gathered through something that copies runs of bytes: a column, every tenth row.

A call for each element would take seconds where the bytes around them take milliseconds. So runs are read that
cover them, gaps and all (`snapserv.memory.regions.cover`), and the elements are taken out of these: a piece at a
time, so that what is read along never takes much memory, however far apart elements are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from ..memory.regions import Axis, cover

Array = np.ndarray[Any, Any]
CopyRuns: TypeAlias = Callable[[Array, int, Array], None]
"""Called with addresses (uint64), the bytes of each run, and where they go, one after the other (uint8)."""
Make: TypeAlias = Callable[[list[int], np.dtype[Any]], Array]

PIECE_BYTES = 8 << 20
"""What is read at a time where it is more than what is wanted."""
MOST_RUNS = 1 << 16
"""Addresses that are made at a time."""


def gather(
    copy: CopyRuns, address: int, axes: Sequence[Axis], dtype: np.dtype[Any], make: Make = np.empty
) -> Array:
    """Return the elements that lie at ``address`` and further along ``axes``.

    Args:
        copy: Copies runs of bytes.
        address: Of the first element.
        axes: How many there are along each axis, and how far apart.
        dtype: Of an element.
        make: Makes the array that is returned, of a shape and a dtype.

    Returns:
        An array of its own in C order, an axis for each that was given.
    """
    counts = [axis.length for axis in axes]
    found = make(counts, dtype)
    if found.size and dtype.itemsize:
        _fill(copy, address, axes, found.reshape(*counts, 1))
    return found


def _fill(copy: CopyRuns, address: int, axes: Sequence[Axis], into: Array) -> None:
    """Fill ``into``, C-ordered, whose last axis is of one element: so what is left of it is always an array."""
    itemsize = into.dtype.itemsize
    split, _, run = cover(axes, itemsize)
    counts = [axis.length for axis in axes]
    dense = math.prod(counts[split:]) * itemsize == run
    if not dense and run > PIECE_BYTES:
        for start, stop, rest in _parts(axes, itemsize, split):
            part = into[start] if len(rest) < len(axes) else into[start:stop]
            _fill(copy, address + start * axes[0].distance, rest, part)
        return
    if dense and not split:
        copy(np.array([address], np.uint64), run, into.reshape(-1).view(np.uint8))
        return
    runs = into.reshape(-1, *counts[split:], 1)
    if dense:
        plain = runs.reshape(len(runs), -1).view(np.uint8)
        for first, starts in _starts(address, axes[:split], MOST_RUNS):
            copy(starts, run, plain[first : first + len(starts)].reshape(-1))
        return
    each = min(MOST_RUNS, max(1, PIECE_BYTES // run))
    room = np.empty(min(each, len(runs)) * run, np.uint8)
    whole = np.dtype((np.void, itemsize))  # what lies between the members of a record comes along
    runs = runs.view(whole)
    distances = (run, *(axis.distance for axis in axes[split:]), itemsize)
    for first, starts in _starts(address, axes[:split], each):
        copy(starts, run, room[: len(starts) * run])
        shape = (len(starts), *runs.shape[1:])
        runs[first : first + len(starts)] = np.ndarray(shape, whole, room, strides=distances)


def _parts(axes: Sequence[Axis], itemsize: int, split: int) -> Iterator[tuple[int, int, list[Axis]]]:
    """Yield parts of the first axis that are short enough, or one element of it at a time without the axis."""
    first, rest = axes[0], list(axes[1:])
    inner = itemsize + sum((axis.length - 1) * axis.distance for axis in rest)
    each = 1 if split or inner >= PIECE_BYTES else 1 + (PIECE_BYTES - inner) // first.distance
    for start in range(0, first.length, each):
        stop = min(start + each, first.length)
        yield start, stop, rest if each == 1 else [Axis(stop - start, first.distance), *rest]


def _starts(address: int, axes: Sequence[Axis], most: int) -> Iterator[tuple[int, Array]]:
    """Yield where runs begin, at most ``most`` at a time, with the number of the first of them."""
    counts = [axis.length for axis in axes]
    total = math.prod(counts)
    for first in range(0, total, most):
        starts = np.full(min(most, total - first), address, np.uint64)
        if counts:
            places = np.unravel_index(np.arange(first, first + len(starts)), counts)
            for place, axis in zip(places, axes, strict=True):
                starts += place.astype(np.uint64) * np.uint64(axis.distance)
        yield first, starts
