"""What a mechanism is: the interface that all of them share, and how each describes itself."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np

from snapserv.errors import BadRequestError, OverBudgetError, UnsupportedError
from snapserv.ext import memory

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class Capability:
    """What a mechanism can do, and whether it can be had here.

    Attributes:
        name: Its name.
        summary: What it does, in a sentence.
        copies_of_copies: Whether a copy of a snapshot can be snapshotted again, to any depth.
        shares_pages: Whether a snapshot and its origin share physical pages from the start.
        needs: What it needs of the machine: a privilege, a kernel version, a file system, a setting.
        why_not: Why it cannot be had here; empty where it can.
    """

    name: str
    summary: str
    copies_of_copies: bool
    shares_pages: bool
    needs: str
    why_not: str

    @property
    def available(self) -> bool:
        """Whether it can be had here."""
        return not self.why_not


@dataclass(frozen=True)
class Place:
    """Where bytes are mapped: the process (0 for this one) and the address of the first."""

    pid: int
    address: int


class Memory(ABC):
    """Some bytes that can be read, until they are closed. A multiple of the page size is mapped.

    Args:
        size: In bytes, as it was asked for.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.closed = False

    @property
    @abstractmethod
    def place(self) -> Place:
        """Where the bytes are mapped, for `snapserv.outside.pages` to look at."""

    @abstractmethod
    def read(self, offset: int, size: int) -> bytes:
        """Return a copy of some bytes."""

    @abstractmethod
    def _release(self) -> None:
        """Give back all that it holds; called once."""

    def close(self) -> None:
        """Give back all that it holds: memory, mappings, descriptors, processes. Twice is as good as once."""
        if not self.closed:
            self.closed = True
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, cause: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self, offset: int, size: int) -> None:
        if self.closed:
            raise BadRequestError("this memory is closed")
        if offset < 0 or size < 0 or offset + size > self.size:
            raise BadRequestError(f"{size:,} bytes from {offset:,} on are not within {self.size:,}")


class Snapshot(Memory):
    """The bytes of a region at one instant. They never change, and outlive the region."""

    def __init__(self, origin: Region) -> None:
        super().__init__(origin.size)
        self.origin = origin

    def copy(self) -> Region:
        """Return a writable copy of the snapshot: a region in its own right, that can be snapshotted again.

        Raises:
            UnsupportedError: The mechanism cannot; says why.
        """
        raise UnsupportedError(f"{type(self).__name__} has no copies of copies")


class Region(Memory):
    """Live bytes that can be written, snapshotted and put back."""

    @property
    @abstractmethod
    def array(self) -> Bytes | None:
        """The bytes as a writable array, shape (size,); None where they are another process's."""

    @abstractmethod
    def snapshot(self) -> Snapshot:
        """Return the bytes as they are at this instant.

        Raises:
            OverBudgetError: The machine has too little memory, areas or processes; nothing has changed.
        """

    @abstractmethod
    def restore(self, snapshot: Snapshot) -> None:
        """Put the bytes back to what they were at a snapshot of this region.

        Raises:
            BadRequestError: A snapshot of another region, or a closed one.
        """

    def _check_own(self, snapshot: Snapshot) -> None:
        """Check what `restore` was given."""
        self._check(0, 0)
        if snapshot.origin is not self or snapshot.closed:
            raise BadRequestError("restore takes an open snapshot of the same region")

    def read(self, offset: int, size: int) -> bytes:
        """Return a copy of some bytes."""
        self._check(offset, size)
        return self._own_array()[offset : offset + size].tobytes()

    def write(self, offset: int, data: bytes) -> None:
        """Change some bytes."""
        self._check(offset, len(data))
        self._own_array()[offset : offset + len(data)] = np.frombuffer(data, np.uint8)

    def touch(self, offsets: np.ndarray[Any, np.dtype[np.int64]]) -> float:
        """Add one to a byte at each of the offsets, in order; return the seconds that it took, in its process."""
        array = self._own_array()
        began = time.perf_counter()
        array[offsets] += 1
        return time.perf_counter() - began

    def _own_array(self) -> Bytes:
        array = self.array
        if array is None:
            raise NotImplementedError(f"{type(self).__name__} lives in another process")
        return array


class Mechanism(ABC):
    """One way to snapshot a region of memory. All of a mechanism is its class: it has no instances."""

    name: ClassVar[str]
    summary: ClassVar[str]
    copies_of_copies: ClassVar[bool]
    shares_pages: ClassVar[bool]
    writers: ClassVar[bool] = False
    """Whether another thread may write while a snapshot is taken, which is then of one instant all the same."""
    on_a_base: ClassVar[bool] = False
    """Whether a region and its snapshots are private mappings of a file: a page that is not there is the file's."""
    needs: ClassVar[str] = "nothing"

    @classmethod
    def why_not(cls) -> str:
        """Return why this mechanism cannot be had here; nothing where it can."""
        return ""

    @classmethod
    @abstractmethod
    def make(cls, size: int) -> Region:
        """Return a region of ``size`` bytes, all zero.

        Raises:
            BadRequestError: Not a positive size.
            OverBudgetError: More than the machine has memory for.
            UnsupportedError: The mechanism cannot be had here; says why.
        """

    @classmethod
    def capability(cls) -> Capability:
        """Return what it can do, and whether it can be had here."""
        return Capability(cls.name, cls.summary, cls.copies_of_copies, cls.shares_pages, cls.needs, cls.why_not())

    @classmethod
    def admit(cls, size: int) -> int:
        """Check a size, and return it rounded up to whole pages. Each `make` begins with it.

        Raises:
            BadRequestError: Not a positive size.
            OverBudgetError: More than the machine has memory for: then the kernel would kill somebody later.
            UnsupportedError: The mechanism cannot be had here.
        """
        if size <= 0:
            raise BadRequestError(f"a region of {size:,} bytes", hint="ask for at least one")
        why_not = cls.why_not()
        if why_not:
            raise UnsupportedError(f"{cls.name}: {why_not}", hint=f"it needs {cls.needs}")
        free = memory_available()
        if size > free:
            raise OverBudgetError(f"a region of {size:,} bytes, and {free:,} are free", hint="ask for less")
        return -(-size // memory.PAGE) * memory.PAGE


def memory_available() -> int:
    """Return how many bytes can be had without swapping (MemAvailable, proc_meminfo(5))."""
    with open("/proc/meminfo") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
