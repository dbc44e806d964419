"""Simulation memory: fields in segments, the base image that ``seal`` makes of them, and private pages.

While ``setup`` runs, each segment is a shared mapping of a file of its own, preferably of huge pages. Sealing maps
the same file privately at the same address: from then on writes go to copies of single pages. fork copies no page
tables of a segment that nobody has written, and that is why a snapshot of 8 GiB costs what one of 64 MiB does.
A file for each segment keeps the kernel from merging neighbours into one area, which it would then copy whole.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from snapserv_client.protocol import ArenaInfo

from .backings import choose
from .errors import BadRequestError, OverBudgetError, UnsupportedError
from .ext import memory

Array = np.ndarray[Any, Any]

PAGE = memory.PAGE
SEGMENT_BYTES = 64 << 20
CAPACITY_BYTES = 1 << 40
LEAST_CAPACITY_BYTES = 1 << 32
SPARED_BYTES = 64 << 20
"""Left to the rest of the machine when an arena asks for memory."""


@dataclass(frozen=True)
class Extent:
    """Where a field lies: ``nbytes`` from ``address`` on, page-aligned."""

    name: str
    address: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    nbytes: int


@dataclass
class Segment:
    """A stretch of the arena that stands on one base file; ``descriptor`` is -1 once that is sealed."""

    address: int
    size_bytes: int
    descriptor: int


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


class Arena:
    """Memory for the fields of one simulation.

    Args:
        backing: One of `snapserv.backings.NAMES`; the best that there is by default.
        segment_bytes: Size of a segment, a multiple of 2 MiB.
        capacity_bytes: Address space to reserve until it is sealed.

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
    ) -> None:
        if segment_bytes <= 0 or segment_bytes % memory.HUGE_PAGE:
            raise BadRequestError(
                f"segment_bytes is {segment_bytes:,}", hint="a positive multiple of 2 MiB is allowed"
            )
        self._backing = choose(backing)
        self.segment_bytes = segment_bytes
        self.segments: list[Segment] = []
        self.extents: dict[str, Extent] = {}
        self.sealed = False
        self._start, self._capacity = _reserve(capacity_bytes)
        self._used = 0
        self._mapped = 0

    @property
    def backing(self) -> str:
        """The name of the backing in use."""
        return self._backing.name

    @property
    def size_bytes(self) -> int:
        """The sum of all segments."""
        return sum(segment.size_bytes for segment in self.segments)

    def describe(self) -> ArenaInfo:
        """Return what clients are told of it."""
        return ArenaInfo(
            self.backing, self._backing.reason, self.size_bytes, self.segment_bytes, len(self.segments)
        )

    # -------------------------------------------------------------------------------------------- before sealing

    def allocate(self, name: str, dtype: Any, shape: Sequence[int]) -> Array:
        """Return a new zero-filled array in the arena, page-aligned; it stays valid until `close`.

        Its pages are taken from the kernel here and now, so that a machine that has too few says so here, and no
        kernel of the simulation is ever ended by SIGBUS.

        Raises:
            BadRequestError: The arena is sealed, the name is taken, the dtype holds Python objects, or the shape
                is negative; the author's fault.
            OverBudgetError: More than the machine has left; ``details`` has the numbers.
        """
        kind = np.dtype(dtype)
        sizes = tuple(int(size) for size in shape)
        if self.sealed:
            raise BadRequestError(f"field {name}: the arena is sealed", hint="allocate fields in setup")
        if name in self.extents:
            raise BadRequestError(f"field {name}: there is one of that name already")
        if kind.hasobject:
            raise BadRequestError(
                f"field {name}: dtype {kind} holds Python objects, which cannot live in the arena",
                hint="use a numeric or structured dtype, or keep the value in an ordinary attribute",
            )
        if any(size < 0 for size in sizes):
            raise BadRequestError(f"field {name}: the shape {list(sizes)} has a negative size")
        nbytes = kind.itemsize
        for size in sizes:  # not numpy's product, which wraps around
            nbytes *= size
        address = self._start + self._used
        if nbytes:
            self._grow(name, nbytes)
        self.extents[name] = Extent(name, address, kind, sizes, nbytes)
        return np.ndarray(sizes, kind, buffer=memory.view(address, nbytes) if nbytes else bytearray(1))

    def _grow(self, name: str, nbytes: int) -> None:
        pages = -(-nbytes // PAGE) * PAGE
        _admit(name, pages)
        if self._used + pages > self._capacity:
            raise OverBudgetError(
                f"field {name}: {nbytes:,} bytes do not fit in the {self._capacity:,} bytes of address space",
                details={"wanted": nbytes, "capacity": self._capacity},
            )
        low, high = self._used, self._used + pages
        try:
            while self._mapped < high:
                self._add_segment()
            for segment in self.segments:
                first = max(low, segment.address - self._start)
                last = min(high, segment.address - self._start + segment.size_bytes)
                if first < last and segment.descriptor >= 0:
                    offset = first - (segment.address - self._start)
                    os.posix_fallocate(segment.descriptor, offset, last - first)
        except OSError as cause:
            raise OverBudgetError(
                f"field {name}: the kernel has no {nbytes:,} bytes for it: {cause.strerror}",
                hint="free memory, raise the memory limit of the container, or make the field smaller",
                details={"wanted": nbytes, "errno": cause.errno},
            ) from cause
        self._used = high

    def _add_segment(self) -> None:
        address, size = self._start + self._mapped, self.segment_bytes
        if self._backing.has_base:
            descriptor = self._open(size)
            memory.map_file(address, size, descriptor, shared=True, huge=True)
        else:
            descriptor = -1
            memory.map_anonymous(address, size, huge=self.backing == "anonymous_thp")
        self.segments.append(Segment(address, size, descriptor))
        self._mapped += size

    def _open(self, size: int) -> int:
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
        """
        if self.sealed:
            raise BadRequestError("the arena is sealed already")
        used = -(-self._used // memory.HUGE_PAGE) * memory.HUGE_PAGE
        for segment in self.segments:
            segment.size_bytes = min(segment.size_bytes, self._start + used - segment.address)
            if segment.descriptor >= 0:
                memory.map_file(segment.address, segment.size_bytes, segment.descriptor, shared=False, huge=True)
                os.close(segment.descriptor)
                segment.descriptor = -1
        memory.unmap(self._start + used, self._capacity - used)
        self._mapped = self._capacity = used
        self.sealed = True

    def private_pages(self, name: str | None = None) -> PrivatePages:
        """Return the pages of a field, or of all, that this process no longer shares with the base image.

        Raises:
            BadRequestError: The arena is not sealed, or has no such field.
        """
        if not self.sealed:
            raise BadRequestError("the arena is not sealed: there is no base image yet")
        if name is None:
            spans = [(segment.address, segment.address + segment.size_bytes) for segment in self.segments]
        elif name in self.extents:
            extent = self.extents[name]
            spans = [(extent.address, extent.address + -(-extent.nbytes // PAGE) * PAGE)]
        else:
            raise BadRequestError(f"no field {name!r}", hint=f"fields: {', '.join(self.extents) or 'none'}")
        ranges = [memory.scan_private(0, start, end) for start, end in spans if end > start]
        joined = np.concatenate(ranges) if ranges else np.empty((0, 2), np.uint64)
        return PrivatePages(joined, exact=self._backing.has_base)

    def close(self) -> None:
        """Unmap everything. No array of the arena may be touched afterwards."""
        for segment in self.segments:
            if segment.descriptor >= 0:
                os.close(segment.descriptor)
                segment.descriptor = -1
        memory.unmap(self._start, self._capacity)
        self._capacity = self._mapped = self._used = 0
        self.segments.clear()
        self.extents.clear()


def _reserve(capacity: int) -> tuple[int, int]:
    """Reserve address space, less of it where a limit (RLIMIT_AS) refuses so much."""
    while True:
        try:
            return memory.reserve(capacity), capacity
        except OSError as cause:
            if capacity <= LEAST_CAPACITY_BYTES:
                raise UnsupportedError(
                    f"no {capacity:,} bytes of address space: {cause.strerror}", hint="raise ulimit -v"
                ) from cause
            capacity //= 4


def _admit(name: str, wanted: int) -> None:
    """Refuse what the machine or the control group surely has no room for."""
    room = available_bytes()
    if wanted > room - SPARED_BYTES:
        raise OverBudgetError(
            f"field {name} needs {wanted:,} bytes, and {max(0, room):,} are available",
            hint="free memory, raise the memory limit of the container, or make the field smaller",
            details={"wanted": wanted, "available": room},
        )


def available_bytes() -> int:
    """Return the memory that can be had without swapping: of the machine, or of the control group if that is less.

    Sources: MemAvailable of proc_meminfo(5); memory.max of cgroup v2, memory.limit_in_bytes of v1.
    """
    room = 1 << 62
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            room = int(line.split()[1]) * 1024
    for limit, usage in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            allowed, used = Path(limit).read_text().strip(), int(Path(usage).read_text())
        except OSError:
            continue
        if allowed != "max":
            room = min(room, int(allowed) - used)
    return room
