"""Simulation memory: fields in segments, the base image that ``seal`` makes of them, and private pages.

While ``setup`` runs, each segment is a shared mapping of a file of its own, preferably of huge pages. Sealing maps
the same file privately at the same address: from then on writes go to copies of single pages. fork copies no page
tables of a segment that nobody has written, and that is why a snapshot of 8 GiB costs what one of 64 MiB does.
A file for each segment keeps the kernel from merging neighbours into one area, which it would then copy whole.
"""

from __future__ import annotations

import errno
import operator
import os
import struct
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from snapserv_client.protocol import ArenaInfo

from ..errors import BadRequestError, OverBudgetError, UnsupportedError
from ..ext import memory
from ..machine.limits import MORE_MEMORY, admit
from .backings import choose

Array = np.ndarray[Any, Any]

PAGE = memory.PAGE
SEGMENT_BYTES = 64 << 20
CAPACITY_BYTES = 1 << 40
LEAST_CAPACITY_BYTES = 1 << 28
_ENTRY = struct.Struct("=Q")


@dataclass(frozen=True)
class Extent:
    """Where a field lies: ``nbytes`` from ``address`` on, page-aligned, laid out as the array is."""

    name: str
    address: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    nbytes: int


@dataclass
class Segment:
    """A stretch of the arena that stands on one base file; ``descriptor`` is -1 once that is sealed.

    ``detached`` says that it has left its base file, and is anonymous memory of this process's own.
    """

    address: int
    size_bytes: int
    descriptor: int
    detached: bool = False


@dataclass(frozen=True)
class Sample:
    """Which part of a segment's pages is private, and which of them no other process maps; between 0 and 1."""

    private: float
    exclusive: float


@dataclass(frozen=True)
class PrivatePages:
    """Pages that this process no longer shares with the base image.

    Attributes:
        ranges: Addresses, shape (n, 2), uint64: first byte and the one after the last, in order and apart.
        exact: False where there is no base image to compare with and every present page is counted.
    """

    ranges: Array
    exact: bool

    @property
    def bytes(self) -> int:
        """How many bytes they are."""
        return int((self.ranges[:, 1] - self.ranges[:, 0]).sum())

    @property
    def count(self) -> int:
        """How many pages they are."""
        return self.bytes // PAGE


class Mark:
    """The arena's contents at one moment, as what was private then: see `Arena.mark`."""

    def __init__(self, ranges: Array, content: Array) -> None:
        self.ranges = ranges
        self.content = content


class Arena:
    """Memory for the fields of one simulation.

    The memory lasts as long as the arena or one of its arrays is referred to, or until `close`.

    Args:
        backing: One of `snapserv.memory.backings.NAMES`; the best that there is by default.
        segment_bytes: Size of a segment, a multiple of 2 MiB.
        capacity_bytes: Address space to reserve until it is sealed, a multiple of 2 MiB.
        where: Where another one has lain that this one is to be like, address and size; it lies there if it can.

    Raises:
        BadRequestError: No such backing, or a size that is no multiple.
        UnsupportedError: The backing cannot be had, or there is no address space.
    """

    def __init__(
        self,
        *,
        backing: str | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        capacity_bytes: int = CAPACITY_BYTES,
        where: Sequence[int] | None = None,
    ) -> None:
        self.segments: list[Segment] = []
        for name, size in (("segment_bytes", segment_bytes), ("capacity_bytes", capacity_bytes)):
            if size <= 0 or size % memory.HUGE_PAGE:
                raise BadRequestError(f"{name} is {size:,}", hint="a positive multiple of 2 MiB is allowed")
        self._backing = choose(backing)
        self.segment_bytes = segment_bytes
        self.extents: dict[str, Extent] = {}
        self.sealed = False
        self._marks: weakref.WeakSet[Mark] = weakref.WeakSet()
        self._reserved = (where and _reserve_there(*where)) or _reserve(capacity_bytes)
        self._used = 0

    @property
    def backing(self) -> str:
        """The name of the backing in use."""
        return self._backing.name

    @property
    def reason(self) -> str:
        """What that backing gives."""
        return self._backing.reason

    @property
    def size_bytes(self) -> int:
        """The sum of all segments."""
        return sum(segment.size_bytes for segment in self.segments)

    @property
    def addresses(self) -> range:
        """The address space that is reserved for fields."""
        return range(self._reserved.address, self._reserved.address + self._reserved.size)

    def describe(self) -> ArenaInfo:
        """Return what clients are told of it."""
        return ArenaInfo(self.backing, self.reason, self.size_bytes, self.segment_bytes, len(self.segments))

    # -------------------------------------------------------------------------------------------- before sealing

    def allocate(self, name: str, dtype: Any, shape: Sequence[int]) -> Array:
        """Return a new zero-filled array in the arena, page-aligned; it stays valid over `seal`, until `close`.

        Its pages are taken from the kernel here and now, so that a machine that has too few says so here, and no
        kernel of the simulation is ever ended by SIGBUS.

        Raises:
            BadRequestError: The arena is sealed, the name is taken, the dtype holds Python objects or has no
                size, or there is no such shape; the author's fault.
            OverBudgetError: More than the machine has left; ``details`` has the numbers.
        """
        if self.sealed:
            raise BadRequestError(f"field {name}: the arena is sealed", hint="allocate fields in setup")
        if name in self.extents:
            raise BadRequestError(f"field {name}: there is one of that name already")
        kind, sizes = _layout(name, dtype, shape)
        nbytes = kind.itemsize
        for size in sizes:  # not numpy's product, which wraps around
            nbytes *= size
        if nbytes:
            admit(f"field {name}", nbytes)
        try:
            np.broadcast_to(np.empty((), kind), sizes)  # numpy's own limits, before any memory is taken
        except ValueError as cause:
            raise BadRequestError(f"field {name}: shape {list(sizes)}: {cause}") from cause
        offset = self._used
        if nbytes:
            self._grow(name, nbytes)
        self.extents[name] = Extent(name, self._reserved.address + offset, kind, sizes, nbytes)
        room = memoryview(self._reserved)[offset : offset + nbytes] if nbytes else bytearray(1)
        return np.ndarray(sizes, kind, buffer=room)

    def _grow(self, name: str, nbytes: int) -> None:
        low, high = self._used, self._used + -(-nbytes // PAGE) * PAGE
        if high > self._reserved.size:
            raise OverBudgetError(
                f"field {name}: {nbytes:,} bytes do not fit in the {self._reserved.size - low:,} bytes of address "
                "space that are left",
                hint="raise ulimit -v, or make the field smaller",
                details={"wanted": nbytes, "available": self._reserved.size - low},
            )
        kept = len(self.segments)
        try:
            while self.size_bytes < high:
                self._add_segment()
            # The one that was there before is the last to take pages: fallocate takes all that it is asked for or
            # none, so that what has to be undone is new segments.
            for segment in reversed(self.segments):
                start = segment.address - self._reserved.address
                first, last = max(low, start), min(high, start + segment.size_bytes)
                if first >= last:
                    break
                if segment.descriptor >= 0:
                    os.posix_fallocate(segment.descriptor, first - start, last - first)
                else:
                    self._reserved.populate(first, last - first)
        except OSError as cause:
            self._undo_segments(kept)
            raise OverBudgetError(
                f"field {name}: the kernel has no {nbytes:,} bytes for it: {os.strerror(cause.errno or 0)}",
                hint=_MORE_FILES if cause.errno == errno.EMFILE else MORE_MEMORY,
                details={"wanted": nbytes, "errno": cause.errno},
            ) from cause
        self._used = high

    def _add_segment(self) -> None:
        offset = self.size_bytes
        size = min(self.segment_bytes, self._reserved.size - offset)
        descriptor = self.open_image(size) if self._backing.has_base else -1
        self.segments.append(Segment(self._reserved.address + offset, size, descriptor))
        if descriptor >= 0:
            self._reserved.map_file(offset, size, descriptor, shared=True)
        else:
            self._reserved.map_anonymous(offset, size, huge=self.backing == "anonymous_thp")

    def _undo_segments(self, kept: int) -> None:
        for segment in self.segments[kept:]:
            self._reserved.blank(segment.address - self._reserved.address, segment.size_bytes)
            _close_file(segment)
        del self.segments[kept:]

    def open_image(self, size: int) -> int:
        """Return a descriptor of a new file of ``size`` bytes for a segment to stand on.

        Raises:
            OSError: The kernel refused it.
        """
        if self.backing == "huge_tmpfs":
            return memory.open_huge_tmpfs(size)
        descriptor = os.memfd_create("snapserv-arena", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, size)
        return descriptor

    # -------------------------------------------------------------------------------------------------- sealing

    def seal(self) -> None:
        """Make the contents the base image, mapped privately at the same addresses.

        Arrays stay valid. Afterwards nobody has a descriptor or a shared mapping of the base image, and so nobody
        can change it. Address space that was reserved and not used is given back.

        Raises:
            BadRequestError: It is sealed already.
            OverBudgetError: The machine promises no more memory than it has (vm.overcommit_memory = 2), and private
                copies of all of it would be too much. The arena is of no more use then.
        """
        if self.sealed:
            raise BadRequestError("the arena is sealed already")
        used = -(-self._used // memory.HUGE_PAGE) * memory.HUGE_PAGE
        for segment in self.segments:
            offset = segment.address - self._reserved.address
            segment.size_bytes = min(segment.size_bytes, used - offset)
            if segment.descriptor < 0:
                continue
            try:
                self._reserved.map_file(offset, segment.size_bytes, segment.descriptor, shared=False)
            except OSError as cause:
                raise OverBudgetError(
                    f"the arena of {used:,} bytes cannot be mapped privately: {cause.strerror}",
                    hint="set vm.overcommit_memory to 0 or 1, or make the fields smaller",
                    details={"wanted": used, "errno": cause.errno},
                ) from cause
            _close_file(segment)
        self._reserved.shrink(used)
        self.sealed = True

    def private_pages(self, name: str | None = None) -> PrivatePages:
        """Return the pages of a field, or of all, that this process no longer shares with the base image.

        Raises:
            BadRequestError: The arena is not sealed, or has no such field.
        """
        if not self.sealed:
            raise BadRequestError("the arena is not sealed: there is no base image yet")
        if name is None:
            last = self.segments[-1] if self.segments else None
            spans = [(self.segments[0].address, last.address + last.size_bytes)] if last else []
        elif name in self.extents:
            extent = self.extents[name]
            spans = [(extent.address, extent.address + -(-extent.nbytes // PAGE) * PAGE)]
        else:
            raise BadRequestError(f"no field {name!r}", hint=f"fields: {', '.join(self.extents) or 'none'}")
        ranges = [memory.scan_private(0, start, end) for start, end in spans if end > start]
        joined = np.concatenate(ranges) if ranges else np.empty((0, 2), np.uint64)
        return PrivatePages(joined, exact=self._backing.has_base)

    # ------------------------------------------------------------------------------------------------- rollback

    @property
    def marked(self) -> bool:
        """Whether somebody still has a mark: segments then keep their base images."""
        return bool(self._marks)

    def mark(self) -> Mark:
        """Return a mark of this moment, for `rewind`. It takes a copy of the pages that are private now.

        Several marks may be held, and gone back to in any order. While one is held, segments get no new base image.

        Raises:
            BadRequestError: The arena is not sealed.
            OverBudgetError: There is no memory for the copy.
        """
        from ..ext import marks  # mapped only where it is needed: what is mapped is forked

        private = self.private_pages()
        admit(f"a mark of {private.count:,} private pages", private.bytes)
        mark = Mark(private.ranges, marks.gather(private.ranges))
        self._marks.add(mark)
        return mark

    def rewind(self, mark: Mark) -> int:
        """Put every field back to what it was at a mark; return how many pages were put back.

        What has become private since goes back to the base image, which takes time by the page; what was private
        already is compared with the mark's copy. No process is made and nothing is copied that has not changed.

        Raises:
            BadRequestError: A mark of another arena.
        """
        from ..ext import marks

        if mark not in self._marks:
            raise BadRequestError("the mark is not of this arena")
        if not self.segments:
            return 0
        start, last = self.segments[0].address, self.segments[-1]
        end = last.address + last.size_bytes
        now = memory.scan_private(0, start, end)
        return sum(marks.put_back(now, mark.ranges, mark.content, start, end))

    # ----------------------------------------------------------------------------------------------- re-basing

    @property
    def rebasable(self) -> bool:
        """Whether segments stand on files, and may get new ones."""
        return self.sealed and self._backing.has_base

    def sample(self, segment: Segment, count: int = 64) -> Sample:
        """Look at some of a segment's pages, evenly spread; see proc_pid_pagemap(5).

        Bit 63 says present, 62 swapped, 61 page of a file, 56 mapped by no other process.
        """
        pages = segment.size_bytes // PAGE
        count = min(count, pages)
        private = exclusive = 0
        descriptor = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        try:
            for index in range(count):
                page = segment.address // PAGE + (2 * index + 1) * pages // (2 * count)
                (entry,) = _ENTRY.unpack(os.pread(descriptor, _ENTRY.size, page * _ENTRY.size))
                if entry >> 62 and not entry >> 61 & 1:
                    private += 1
                    exclusive += entry >> 56 & 1
        finally:
            os.close(descriptor)
        return Sample(private / count, exclusive / count)

    def close(self) -> None:
        """Unmap everything. No array of the arena may be touched afterwards."""
        self._reserved.release()
        for segment in self.segments:
            _close_file(segment)
        self.segments.clear()
        self.extents.clear()
        self._used = 0

    def __del__(self) -> None:
        # The reservation gives itself back, once no array needs it either; descriptors are plain numbers.
        for segment in self.segments:
            _close_file(segment)


_MORE_FILES = "raise ulimit -n, or use larger segments: until it is sealed, each holds a descriptor"


def _close_file(segment: Segment) -> None:
    if segment.descriptor >= 0:
        os.close(segment.descriptor)
        segment.descriptor = -1


def _layout(name: str, dtype: Any, shape: Sequence[int]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Return dtype and shape as the array will have them; refuse what cannot be a field."""
    try:
        kind = np.dtype(dtype)
        sizes = tuple(operator.index(size) for size in shape)
    except (TypeError, ValueError) as cause:
        raise BadRequestError(
            f"field {name}: {cause}", hint="a field takes a dtype of numpy and a sequence of integers as its shape"
        ) from cause
    if kind.subdtype is not None:  # (4,) of three floats each is an array of floats, (4, 3)
        kind, inner = kind.subdtype
        sizes += inner
    if kind.hasobject:
        raise BadRequestError(
            f"field {name}: dtype {kind} holds Python objects, which cannot live in the arena",
            hint="use a numeric or structured dtype, or keep the value in an ordinary attribute",
        )
    if not kind.itemsize and kind.names is None:
        raise BadRequestError(f"field {name}: dtype {kind} has no size", hint=f"say how long: {kind.kind}16")
    if any(size < 0 for size in sizes):
        raise BadRequestError(f"field {name}: the shape {list(sizes)} has a negative size")
    return kind, sizes


def _reserve_there(address: int, size: int) -> memory.Reservation | None:
    """Reserve so much address space at an address; None where something else is there."""
    try:
        found = memory.Reservation(size, address)
    except OSError:
        return None
    if found.address == address:
        return found
    found.release()
    return None


def _reserve(capacity: int) -> memory.Reservation:
    """Reserve address space, less of it where a limit (RLIMIT_AS) refuses so much."""
    while True:
        try:
            return memory.Reservation(capacity)
        except OSError as cause:
            if capacity <= LEAST_CAPACITY_BYTES:
                raise UnsupportedError(
                    f"no {capacity:,} bytes of address space: {cause.strerror}", hint="raise ulimit -v"
                ) from cause
            capacity //= 4
