"""Read fields of other processes without waking them.

The memory of a frozen snapshot never changes, and a branch is idle while the server holds its turn, so the
bytes can be copied from outside, through /proc/PID/mem and, where they are the base image's, process_vm_readv(2):
no wake-up, no copy-on-write, any number of readers.
Everything here may take long and runs in a worker thread; it touches nothing that the event loop changes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import NodeDiedError, NotFoundError, TooLargeError, UnsupportedError
from ..ext import memory
from ..memory.regions import ResolvedRegion, axes_of, cover
from .strided import CopyRuns, Make, gather

Array = np.ndarray[Any, Any]

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
    """Return a copy of a region of a field of the process ``pid``, in C order.

    Raises:
        TooLargeError: More than ``most_bytes``.
        NodeDiedError: The process ended.
        UnsupportedError: This machine does not let one process read another.
    """
    return read_through(functools.partial(copy_bytes, pid), place, region, most_bytes=most_bytes)


def read_through(
    copy: CopyRuns, place: FieldPlace, region: ResolvedRegion, *, most_bytes: int, make: Make = np.empty
) -> Array:
    """Return a copy of a region of a field, in C order, of whatever memory ``copy`` copies runs of.

    ``make`` makes an array for it, of a shape and a dtype.

    Raises:
        TooLargeError: More than ``most_bytes``.
        SnapservError: What ``copy`` meets.
    """
    first, axes = axes_of(region.taken, place.shape, place.dtype.itemsize)
    size = math.prod(axis.length for axis in axes) * place.dtype.itemsize
    if size > most_bytes:
        raise TooLargeError(
            f"{place.name}: the region is {size:,} bytes, and {most_bytes:,} are allowed in one reply",
            hint="read a smaller region at a time",
        )
    block = gather(copy, place.address + first, axes, place.dtype, make)
    # Turned here and not where the reply is packed, which is the event loop's work. An array also where it is one
    # element: a scalar of numpy's says less.
    return np.asarray(block[(*region.arrange, ...)], order="C")


def size_of(place: FieldPlace, region: ResolvedRegion) -> int:
    """Return how many bytes a region of a field is."""
    return math.prod(map(len, region.taken)) * place.dtype.itemsize


def cost_of(place: FieldPlace, region: ResolvedRegion) -> int:
    """Return what reading a region costs, in bytes of one long run that would take as long."""
    _, axes = axes_of(region.taken, place.shape, place.dtype.itemsize)
    if not all(axis.length for axis in axes):
        return 0
    return cover(axes, place.dtype.itemsize).cost_bytes


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


def place_of(places: Sequence[FieldPlace], name: str) -> FieldPlace:
    """Return the field called ``name``.

    Raises:
        NotFoundError: No such field; the message lists those that exist.
    """
    for place in places:
        if place.name == name:
            return place
    raise NotFoundError(f"no field {name!r}", hint=f"fields: {', '.join(place.name for place in places) or 'none'}")
