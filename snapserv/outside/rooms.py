"""Rooms: files in memory that a copy of a field is made in, and that are then handed to whoever wants to map it.

A fresh page costs as much as copying to it, so a room is made of huge pages where there are any: a file of a tmpfs
of its own, as the arena is, or a memfd. Two threads fill it a piece at a time; while one has the kernel make the
next piece, the other copies.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Executor
from typing import Any

import numpy as np

from ..ext import memory
from ..machine.limits import admit
from ..memory.regions import ResolvedRegion, axes_of, cover
from .fields import Array, FieldPlace, copy_bytes, read_through, size_of

HUGE_FROM_BYTES = 8 << 20
"""From this size on a file system of huge pages is worth being made."""
PIECE_BYTES = 16 << 20
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Room:
    """A file in memory, to be filled once.

    Args:
        size: How many bytes there must be; more than 0.

    Raises:
        OSError: There can be none.
        OverBudgetError: The machine, or a control group, has not so much memory.
    """

    def __init__(self, size: int) -> None:
        self._descriptor = -1
        admit("a large read", size)
        whole = -(-size // memory.PAGE) * memory.PAGE
        self.size = size
        self._descriptor, self._sealable = _open(whole)
        self._mapping = memory.Reservation(whole)
        self._mapping.map_file(0, whole, self._descriptor, shared=True)

    def array(self, shape: list[int], dtype: np.dtype[Any]) -> Array:
        """Return an array over it, which nobody may touch once it was finished."""
        return np.frombuffer(memoryview(self._mapping)[: self.size], dtype).reshape(shape)

    def allocate(self, into: Array) -> None:
        """Have the kernel make the memory of a part of its array, so that writing to it cannot fail."""
        start = into.ctypes.data - self._mapping.address
        os.posix_fallocate(self._descriptor, start, into.nbytes)

    def finish(self) -> None:
        """Have nobody write to it any more."""
        self._mapping.release()
        if self._sealable:
            fcntl.fcntl(self._descriptor, fcntl.F_ADD_SEALS, _SEALS)
        writable = self._descriptor
        self._descriptor = os.open(f"/proc/self/fd/{writable}", os.O_RDONLY | os.O_CLOEXEC)
        os.close(writable)

    def leave(self) -> int:
        """Return its descriptor, which is the caller's from now on."""
        descriptor, self._descriptor = self._descriptor, -1
        return descriptor

    def close(self) -> None:
        """Let go of it."""
        descriptor = self.leave()
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()  # who waited for it may have been told to give up


def hand_region(
    pid: int, place: FieldPlace, region: ResolvedRegion, helper: Executor, *, most_bytes: int
) -> tuple[Room, list[int]]:
    """Copy a region of a field of the process ``pid`` into a room.

    Args:
        pid: The process.
        place: The field.
        region: A region that is not empty, and not turned backwards.
        helper: Does half of the work, where it has nothing else to do.
        most_bytes: What is allowed.

    Returns:
        The room, finished, which begins with the region in C order; and the region's shape.

    Raises:
        TooLargeError: More than ``most_bytes``.
        OSError, OverBudgetError: There is no memory for a room.
        NodeDiedError: The process ended.
        UnsupportedError: This machine does not let one process read another.
    """
    rooms: list[Room] = []
    whole = _is_one_run(place, region)

    def make(shape: list[int], dtype: np.dtype[Any]) -> Array:
        room = Room(size_of(place, region))
        rooms.append(room)
        array = room.array(shape, dtype)
        if not whole:
            room.allocate(array)
        return array

    def copy(addresses: Array, run: int, into: Array) -> None:
        if whole:
            _copy_in_two(rooms[0], pid, int(addresses[0]), into, helper)
        else:
            copy_bytes(pid, addresses, run, into)

    shape = list(read_through(copy, place, region, most_bytes=most_bytes, make=make).shape)
    rooms[0].finish()
    return rooms[0], shape


def _is_one_run(place: FieldPlace, region: ResolvedRegion) -> bool:
    """Return whether a region is one run of bytes without a gap."""
    _, axes = axes_of(region.taken, place.shape, place.dtype.itemsize)
    covering = cover(axes, place.dtype.itemsize)
    return covering.runs == 1 and covering.run_bytes == size_of(place, region)


def _copy_in_two(room: Room, pid: int, address: int, into: Array, helper: Executor) -> None:
    """Copy one run of bytes into a room, a piece at a time, here and in another thread."""
    pieces, one_at_a_time = iter(range(0, len(into), PIECE_BYTES)), threading.Lock()
    work = functools.partial(_copy_pieces, room, pid, address, into, pieces, one_at_a_time)
    other = helper.submit(work)
    try:
        work()
    finally:
        if not other.cancel():
            other.result()


def _copy_pieces(
    room: Room, pid: int, address: int, into: Array, pieces: Iterator[int], one_at_a_time: threading.Lock
) -> None:
    while True:
        with one_at_a_time:
            low = next(pieces, None)
            if low is None:
                return
            piece = into[low : low + PIECE_BYTES]
            room.allocate(piece)
        copy_bytes(pid, np.array([address + low], np.uint64), len(piece), piece)


def _open(size: int) -> tuple[int, bool]:
    """Return a file of so many bytes, and whether it can be sealed."""
    if size >= HUGE_FROM_BYTES:
        with contextlib.suppress(OSError):
            return memory.open_huge_tmpfs(size), False
    descriptor = os.memfd_create("snapserv-read", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, True
