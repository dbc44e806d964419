"""Read fields of other processes, and compare them, without waking them.

The memory of a frozen snapshot never changes, and a branch is idle while the server holds its turn, so the
bytes can be copied from outside, through /proc/PID/mem and, where they are the base image's, process_vm_readv(2):
no wake-up, no copy-on-write, any number of readers.
Everything here may take long and runs in a worker thread; it touches nothing that the event loop changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from snapserv_client.protocol import DiffResult, FieldDiff

from ..errors import NodeDiedError, NotFoundError, TooLargeError, UnsupportedError
from ..ext import memory
from ..memory.regions import ResolvedRegion, runs_of
from .bases import bases_of
from .distances import Distances, measurable

Array = np.ndarray[Any, Any]

CHUNK_BYTES = 8 << 20
FIRST_INDICES = 16
LARGE_BYTES = 1 << 20
"""From this size on it pays to look which pages are private first."""
MOST_PIECES = 1000


@dataclass(frozen=True)
class FieldPlace:
    """Where a field lies in every cell of its tree."""

    name: str
    address: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Size of the field in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


def read_region(pid: int, place: FieldPlace, region: ResolvedRegion, *, most_bytes: int) -> Array:
    """Return a copy of a region of a field of the process ``pid``.

    Raises:
        TooLargeError: More than ``most_bytes``.
        NodeDiedError: The process ended.
        UnsupportedError: This machine does not let one process read another.
    """
    offsets, run = runs_of(region.box, place.shape, place.dtype.itemsize)
    size = len(offsets) * run
    if size > most_bytes:
        raise TooLargeError(
            f"{place.name}: the region is {size:,} bytes, and {most_bytes:,} are allowed in one reply",
            hint="read a smaller region at a time",
        )
    box = np.empty([count for _, count in region.box], place.dtype)
    if size:
        copy_bytes(pid, offsets + np.uint64(place.address), run, box.reshape(-1).view(np.uint8))
    return box[(*region.inside, ...)]  # an array also where it is one element: a scalar of numpy's says less


def compare(places: Sequence[FieldPlace], a: int, b: int, segments: Iterable[tuple[int, int]] | None) -> DiffResult:
    """Return how the fields of two processes differ.

    Args:
        places: The fields to compare; both processes have them at the same addresses.
        a: One process's pid.
        b: The other's.
        segments: The segments of both, (address, bytes). Of one that stands on the same base image in both, only
            pages that one of the two no longer shares with it are read. None compares everything.
    """
    dirty = None if segments is None else _perhaps_different(segments, a, b)
    results, compared = [], 0
    for place in places:
        found: list[Array] = []
        distances = Distances() if measurable(place.dtype) else None
        for low, high in _ranges_within(place, dirty):
            compared += high - low
            found.append(_differing(place, a, b, low, high, distances))
        flat = np.concatenate(found) if found else np.empty(0, np.int64)
        results.append(_measured(_describe(place, flat), distances))
    return DiffResult(results, compared)


def copy_bytes(pid: int, addresses: Array, run: int, into: Array) -> None:
    """Copy ``run`` bytes from each address of the process ``pid`` into ``into``, one after the other.

    Raises:
        NodeDiedError: The process ended.
        UnsupportedError: This machine does not let one process read another.
    """
    try:
        if len(addresses) == 1 and run >= LARGE_BYTES:
            _copy_large(pid, int(addresses[0]), into)
        else:
            memory.read_process(pid, addresses, run, into)
    except ProcessLookupError as cause:
        raise NodeDiedError("the node ended while it was read") from cause
    except PermissionError as cause:
        raise UnsupportedError(
            "this user may not read the memory of its own child processes",
            hint="allow process_vm_readv in the container's seccomp profile, or set kernel.yama.ptrace_scope to 1",
        ) from cause


def _copy_large(pid: int, address: int, into: Array) -> None:
    """Copy a run of bytes: the base image's in the quick way, private ones in the way that leaves them shared."""
    end = address + len(into)
    first, last = address // memory.PAGE * memory.PAGE, -(-end // memory.PAGE) * memory.PAGE
    private = memory.scan_private(pid, first, last).astype(np.int64)
    if len(private) > MOST_PIECES:
        memory.read_process(pid, np.array([address], np.uint64), len(into), into)
        return
    at = address
    for start, stop in [*private.tolist(), (end, end)]:
        for low, high, files in ((at, min(start, end), True), (max(start, at), min(stop, end), False)):
            if high > low:
                piece = into[low - address : high - address]
                memory.read_process(pid, np.array([low], np.uint64), high - low, piece, files=files)
        at = max(at, min(stop, end))


def _perhaps_different(segments: Iterable[tuple[int, int]], a: int, b: int) -> Array:
    """Return the address ranges in which two processes may differ: sorted, apart, uint64 (n, 2)."""
    ranges = []
    try:
        ours, theirs = bases_of(a), bases_of(b)
        for start, size in segments:
            if ours.at(start) is not None and ours.at(start) == theirs.at(start):
                ranges += [memory.scan_private(pid, start, start + size) for pid in (a, b)]
            else:
                ranges.append(np.array([[start, start + size]], np.uint64))
    except (ProcessLookupError, FileNotFoundError) as cause:
        raise NodeDiedError("the node ended while it was compared") from cause
    joined = np.concatenate(ranges) if ranges else np.empty((0, 2), np.uint64)
    if not len(joined):
        return joined
    joined = joined[np.argsort(joined[:, 0], kind="stable")]
    reach = np.maximum.accumulate(joined[:, 1])
    starts = np.concatenate(([True], joined[1:, 0] > reach[:-1]))
    ends = np.concatenate((starts[1:], [True]))
    return np.stack((joined[starts, 0], reach[ends]), axis=1)


def _ranges_within(place: FieldPlace, dirty: Array | None) -> Iterable[tuple[int, int]]:
    """Yield ranges of offsets in a field that must be compared, whole elements, at most a chunk long."""
    itemsize = place.dtype.itemsize
    if not place.nbytes or not itemsize:
        return
    if dirty is None:
        spans = [(0, place.nbytes)]
    else:
        first = np.searchsorted(dirty[:, 1], place.address, side="right")
        last = np.searchsorted(dirty[:, 0], place.address + place.nbytes, side="left")
        spans = [
            (max(0, int(low) - place.address), min(place.nbytes, int(high) - place.address))
            for low, high in dirty[first:last]
        ]
    reached = 0
    chunk = max(1, CHUNK_BYTES // itemsize) * itemsize
    for low, high in spans:
        # An element that lies across two pages is compared once.
        low = max(reached, low // itemsize * itemsize)
        high = min(place.nbytes, -(-high // itemsize) * itemsize)
        for start in range(low, high, chunk):
            yield start, min(start + chunk, high)
        reached = max(reached, high)


def _differing(place: FieldPlace, a: int, b: int, low: int, high: int, distances: Distances | None = None) -> Array:
    """Return the flat indices of the elements whose bytes differ, in a range of offsets; measure how much."""
    address = np.array([place.address + low], np.uint64)
    ours, theirs = np.empty(high - low, np.uint8), np.empty(high - low, np.uint8)
    copy_bytes(a, address, high - low, ours)
    copy_bytes(b, address, high - low, theirs)
    itemsize = place.dtype.itemsize
    if itemsize in (1, 2, 4, 8):
        kind = f"u{itemsize}"
        changed = ours.view(kind) != theirs.view(kind)
    else:
        changed = (ours != theirs).reshape(-1, itemsize).any(axis=1)
    if distances is not None:
        distances.add(ours.view(place.dtype)[changed], theirs.view(place.dtype)[changed])
    return np.flatnonzero(changed) + low // itemsize


def _describe(place: FieldPlace, flat: Array) -> FieldDiff:
    total = int(np.prod(place.shape, dtype=np.int64))
    if not len(flat):
        return FieldDiff(place.name, 0, total, [], [])
    indices = np.unravel_index(flat, place.shape) if place.shape else ()
    box = [(int(axis.min()), int(axis.max()) + 1) for axis in indices]
    first = [[int(axis[i]) for axis in indices] for i in range(min(len(flat), FIRST_INDICES))]
    return FieldDiff(place.name, len(flat), total, box, first)


def _measured(found: FieldDiff, distances: Distances | None) -> FieldDiff:
    if distances is not None:
        found.largest, found.mean = distances.largest, distances.mean(found.total)
        found.undefined = distances.undefined
    return found


def place_of(places: Sequence[FieldPlace], name: str) -> FieldPlace:
    """Return the field called ``name``.

    Raises:
        NotFoundError: No such field; the message lists those that exist.
    """
    for place in places:
        if place.name == name:
            return place
    raise NotFoundError(f"no field {name!r}", hint=f"fields: {', '.join(place.name for place in places) or 'none'}")
