"""How the fields of two processes differ: read from outside, a chunk at a time.

What is kept of a field on the way is a count, a box, the first few indices and how far apart its numbers are,
whatever its size is and however much of it differs. A chunk is at most `CHUNK_BYTES` and `CHUNK_ELEMENTS`: an
element may be a byte, and where it lies takes eight.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from snapserv_client.protocol import DiffResult, FieldDiff

from ..errors import NodeDiedError
from ..ext import memory
from .bases import Segments, bases_of
from .distances import Distances, measurable
from .fields import Array, FieldPlace, copy_bytes

CHUNK_BYTES = 4 << 20
CHUNK_ELEMENTS = 1 << 20
MEASURED_ELEMENTS = 1 << 17
FIRST_INDICES = 16

Ranges: TypeAlias = Callable[[int, int], Iterable[tuple[int, int]]]
"""Gives the addresses between two in which two processes may differ, as ranges in order."""


def compare(places: Sequence[FieldPlace], a: int, b: int, segments: Segments | None) -> DiffResult:
    """Return how the fields of two processes differ.

    Args:
        places: The fields to compare; both processes have them at the same addresses.
        a: One process's pid.
        b: The other's.
        segments: The segments of both, (address, bytes). Of one that stands on the same base image in both, only
            pages that one of the two no longer shares with it are read. None compares everything.

    Raises:
        NodeDiedError: One of them ended.
        UnsupportedError: This machine does not let one process read another.
    """
    differing: Ranges = _everything if segments is None else _Segments(segments, a, b).differing
    results, compared = [], 0
    for place in places:
        found = _Found(place)
        for low, high in _chunks(place, differing):
            compared += high - low
            _differing(found, a, b, low, high)
        results.append(found.told())
    return DiffResult(results, compared)


@dataclass
class _Found:
    """What is known of a field's differences so far."""

    place: FieldPlace
    count: int = 0
    box: list[tuple[int, int]] = field(default_factory=list)
    first: list[list[int]] = field(default_factory=list)
    distances: Distances | None = None
    """How far apart they are, of numbers."""

    def __post_init__(self) -> None:
        if measurable(self.place.dtype):
            self.distances = Distances()

    def add(self, flat: Array) -> None:
        """Add differences: flat indices in order, all of them beyond those before."""
        if not len(flat):
            return
        self.count += len(flat)
        shape, stride, box = self.place.shape, 1, []
        known = self.box or [(size, 0) for size in shape]
        for size, (low, high) in zip(reversed(shape), reversed(known), strict=True):
            if (low, high) != (0, size):
                # One axis at a time: unraveling them all at once would take eight bytes an element for each.
                along = flat // stride % size
                low, high = min(low, int(along.min())), max(high, int(along.max()) + 1)
            box.append((low, high))
            stride *= size
        self.box = box[::-1]
        for index in flat[: FIRST_INDICES - len(self.first)].tolist():
            self.first.append([int(each) for each in np.unravel_index(index, shape)] if shape else [])

    def told(self) -> FieldDiff:
        """Return it as it is told."""
        told = FieldDiff(self.place.name, self.count, math.prod(self.place.shape), self.box, self.first)
        if self.distances is not None:
            told.largest, told.mean = self.distances.largest, self.distances.mean(told.total)
            told.undefined = self.distances.undefined
        return told


class _Segments:
    """Where two processes may differ, found a segment at a time: pages written here and there may be millions."""

    def __init__(self, segments: Segments, a: int, b: int) -> None:
        self._pids = a, b
        self._segments = sorted(segments)
        self._at = -1
        self._ranges: Array = np.empty((0, 2), np.uint64)
        try:
            self._ours, self._theirs = bases_of(a), bases_of(b)
        except (ProcessLookupError, FileNotFoundError) as cause:
            raise NodeDiedError("the node ended while it was compared") from cause

    def differing(self, low: int, high: int) -> Iterator[tuple[int, int]]:
        """Yield the address ranges between two addresses in which the processes may differ."""
        for start, size in self._segments:
            if start < high and start + size > low:
                for first, last in self._of(start, size).tolist():
                    if first < high and last > low:
                        yield max(first, low), min(last, high)

    def _of(self, start: int, size: int) -> Array:
        """Return the ranges of a segment: sorted, apart, uint64 (n, 2). Those of the last one are kept."""
        if start != self._at:
            self._ranges, self._at = self._look(start, size), start
        return self._ranges

    def _look(self, start: int, size: int) -> Array:
        base = self._ours.at(start)
        if base is None or base != self._theirs.at(start):
            return np.array([[start, start + size]], np.uint64)
        try:
            joined = np.concatenate([memory.scan_private(pid, start, start + size) for pid in self._pids])
        except (ProcessLookupError, FileNotFoundError) as cause:
            raise NodeDiedError("the node ended while it was compared") from cause
        if not len(joined):
            return joined
        joined = joined[np.argsort(joined[:, 0], kind="stable")]
        reach = np.maximum.accumulate(joined[:, 1])
        starts = np.concatenate(([True], joined[1:, 0] > reach[:-1]))
        ends = np.concatenate((starts[1:], [True]))
        return np.stack((joined[starts, 0], reach[ends]), axis=1)


def _everything(low: int, high: int) -> Iterable[tuple[int, int]]:
    return [(low, high)]


def _chunks(place: FieldPlace, differing: Ranges) -> Iterator[tuple[int, int]]:
    """Yield ranges of offsets in a field that must be compared: whole elements, at most a chunk or one element."""
    itemsize = place.dtype.itemsize
    if not place.nbytes:
        return
    reached = 0
    chunk = max(1, min(CHUNK_BYTES // itemsize, CHUNK_ELEMENTS)) * itemsize
    for first, last in differing(place.address, place.address + place.nbytes):
        # An element that lies across two pages is compared once.
        low = max(reached, (first - place.address) // itemsize * itemsize)
        high = min(place.nbytes, -(-(last - place.address) // itemsize) * itemsize)
        for start in range(low, high, chunk):
            yield start, min(start + chunk, high)
        reached = max(reached, high)


def _differing(found: _Found, a: int, b: int, low: int, high: int) -> None:
    """Find the elements whose bytes differ, in a range of offsets, and measure how much."""
    place = found.place
    itemsize = place.dtype.itemsize
    if high - low > CHUNK_BYTES:  # one element, larger than a chunk
        pieces = ((at, min(at + CHUNK_BYTES, high)) for at in range(low, high, CHUNK_BYTES))
        differs = any(np.any(np.not_equal(*_read(place, a, b, *piece))) for piece in pieces)
        found.add(np.array([low // itemsize] if differs else [], np.int64))
        return
    ours, theirs = _read(place, a, b, low, high)
    if itemsize in (1, 2, 4, 8):
        kind = f"u{itemsize}"
        changed = ours.view(kind) != theirs.view(kind)
    else:
        changed = (ours != theirs).reshape(-1, itemsize).any(axis=1)
    flat: Array = np.flatnonzero(changed)
    if found.distances is not None:
        for first in range(0, len(flat), MEASURED_ELEMENTS):  # in pieces: widened, they take much more
            part = flat[first : first + MEASURED_ELEMENTS]
            found.distances.add(ours.view(place.dtype)[part], theirs.view(place.dtype)[part])
    flat += low // itemsize
    found.add(flat)


def _read(place: FieldPlace, a: int, b: int, low: int, high: int) -> tuple[Array, Any]:
    address = np.array([place.address + low], np.uint64)
    ours, theirs = np.empty(high - low, np.uint8), np.empty(high - low, np.uint8)
    copy_bytes(a, address, high - low, ours)
    copy_bytes(b, address, high - low, theirs)
    return ours, theirs
