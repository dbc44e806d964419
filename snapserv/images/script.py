"""Scripts: system calls that make a process what an image says, as ``ext/images/script.h`` has them."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np

HOME = 0x100000000000
SCRIPT_AT = 0x100100000000
STACK_AT = 0x100200000000
HOME_END = 0x110000000000
FIRST_PARKING, PARKINGS, PARKING = HOME_END, 8, 1 << 40
"""Where the kernel's own pages are put out of the way: the first of some places of this size that is free."""
PAGE = 4096
MAGIC = 0x31747069726373
POKE = 0xFFFF
_HEAD = struct.Struct("<QQQQ")
_OPERATION = struct.Struct("<HBB6s6x6Qq")
_ARGUMENTS = np.dtype(
    {"names": ["added", "values"], "formats": ["6u1", "6<u8"], "offsets": [4, 16], "itemsize": _OPERATION.size}
)
"""The arguments of an operation, as they lie in it."""
_NO_SLOT = 255
_MUST_SUCCEED, _MAY_FAIL, _MUST_EQUAL = range(3)


class Call(IntEnum):
    """System calls of x86-64, by their names."""

    write = 1
    open = 2
    close = 3
    lseek = 8
    mmap = 9
    mprotect = 10
    munmap = 11
    brk = 12
    rt_sigaction = 13
    rt_sigprocmask = 14
    pread64 = 17
    mremap = 25
    madvise = 28
    sendto = 44
    recvfrom = 45
    fcntl = 72
    flock = 73
    chdir = 80
    umask = 95
    sigaltstack = 131
    personality = 135
    setpriority = 141
    prctl = 157
    arch_prctl = 158
    mount = 165
    umount2 = 166
    set_tid_address = 218
    unshare = 272
    set_robust_list = 273
    dup3 = 292
    prlimit64 = 302
    rseq = 334
    open_tree = 428
    move_mount = 429
    fsopen = 430
    fsconfig = 431
    fsmount = 432
    close_range = 436


_ALL = (1 << 64) - 1
_IN_SCRIPT, _FIRST_SLOT = 1, 2
_IN_DATA, _IN_DATA_OF_FILE, _IN_PAGES = 253, 254, 255
"""What an argument is added to: as the header has it, and what is known when the script is written."""


@dataclass(frozen=True)
class Slot:
    """A number that is known when the script runs, and what to add to it."""

    number: int
    plus: int = 0

    def __add__(self, plus: int) -> Slot:
        return Slot(self.number, self.plus + plus)

    def term(self) -> tuple[int, int]:
        """Return what is added, and to what."""
        return self.plus & _ALL, _FIRST_SLOT + self.number


@dataclass(frozen=True)
class Data:
    """Where bytes lie that go along with the operations, from the beginning of what does."""

    offset: int

    def __add__(self, plus: int) -> Data:
        return Data(self.offset + plus)

    def term(self) -> tuple[int, int]:
        """Return what is added, and to what."""
        return self.offset, _IN_DATA


@dataclass(frozen=True)
class InFile:
    """Where in the script's file bytes lie that go along."""

    data: Data

    def term(self) -> tuple[int, int]:
        """Return what is added, and to what."""
        return self.data.offset, _IN_DATA_OF_FILE


@dataclass(frozen=True)
class InPages:
    """Where in the script's file a page lies, from the first one on."""

    offset: int

    def term(self) -> tuple[int, int]:
        """Return what is added, and to what."""
        return self.offset, _IN_PAGES


SCRIPT, CONTROL, VDSO = Slot(0), Slot(1), Slot(2)
FIRST_FREE, LAST = 3, 15
Argument: TypeAlias = int | Slot | Data | InFile | InPages


class Script:
    """A script in the making.

    Attributes:
        told: What each operation is for, by its number: for whoever reads which one failed.
    """

    def __init__(self) -> None:
        self.told: list[str] = []
        self._operations = bytearray()
        self._data = bytearray()
        self._pointers: list[tuple[int, int]] = []
        self._pages: list[tuple[int, int]] = []
        self._page_count = 0
        self._slot = FIRST_FREE

    def slot(self) -> Slot:
        """Return a slot of one's own; there are a few, which are used again in turn."""
        found = Slot(self._slot)
        self._slot = FIRST_FREE if self._slot == LAST else self._slot + 1
        return found

    def data(self, content: bytes) -> Data:
        """Have bytes go along; return where."""
        self._data += bytes(-len(self._data) % 16)
        found = Data(len(self._data))
        self._data += content
        return found

    def point(self, at: Data, to: Data) -> None:
        """Have bytes that go along be the address of others that do."""
        self._pointers.append((at.offset, to.offset))

    def call(
        self,
        call: Call,
        *arguments: Argument,
        why: str,
        may_fail: bool = False,
        equals: int | None = None,
        into: Slot | None = None,
    ) -> None:
        """Add a system call.

        Args:
            call: Which.
            arguments: Its arguments; those that are missing are 0.
            why: What it is for.
            may_fail: Whether it is no matter where it fails.
            equals: What it must return, where success is not enough.
            into: The slot that takes what it returns.
        """
        check = _MAY_FAIL if may_fail else _MUST_SUCCEED if equals is None else _MUST_EQUAL
        self._add(int(call), check, into, arguments, equals or 0, why)

    def poke(self, address: int, value: Slot, *, why: str) -> None:
        """Write 32 bits to an address."""
        self._add(POKE, _MAY_FAIL, None, (address, value), 0, why)

    def copy(self, address: int, source: Data, size: int, *, why: str) -> None:
        """Copy bytes that go along to an address."""
        self.call(Call.pread64, SCRIPT, address, size, InFile(source), why=why, equals=size)

    def fill(self, address: int, pages: int) -> None:
        """Have pages be what `content` will hold, in order of these calls.

        Where one goes on behind the other in memory they are one.
        """
        if self._pages and sum(self._pages[-1]) == address:
            self._pages[-1] = (self._pages[-1][0], self._pages[-1][1] + pages * PAGE)
        else:
            self._pages.append((address, pages * PAGE))

    def filled(self) -> None:
        """Add the reading of the pages that `fill` has named since the last time."""
        for address, size in self._pages:
            if size > 8 * PAGE:
                self.call(Call.madvise, address, size, 23, why="MADV_POPULATE_WRITE", may_fail=True)
            at = InPages(self._page_count * PAGE)
            self.call(Call.pread64, SCRIPT, address, size, at, why=f"pages at {address:#x}", equals=size)
            self._page_count += size // PAGE
        self._pages.clear()

    @property
    def page_count(self) -> int:
        """How many pages follow the operations."""
        return self._page_count

    def write(self, registers: int) -> tuple[int, int]:
        """Write it to a memfd, once; return that, and where its pages begin, which the caller fills.

        Args:
            registers: Where the process goes on; 0 for one that ends.

        Raises:
            OSError: There is no memory.
        """
        begin = _HEAD.size + len(self._operations)
        begin += -begin % 16
        mapped = -(-(begin + len(self._data)) // PAGE) * PAGE
        for at, to in self._pointers:
            struct.pack_into("<Q", self._data, at, SCRIPT_AT + begin + to)
        arguments = np.frombuffer(self._operations, _ARGUMENTS)
        values, added = arguments["values"], arguments["added"]
        marks = ((_IN_DATA, begin, _IN_SCRIPT), (_IN_DATA_OF_FILE, begin, 0), (_IN_PAGES, mapped, 0))
        for mark, plus, is_then in marks:
            here = added == mark
            values[here] += np.uint64(plus)
            added[here] = is_then
        head = _HEAD.pack(MAGIC, mapped, registers, len(self.told)) + self._operations
        descriptor = os.memfd_create("snapserv-script", os.MFD_CLOEXEC)
        try:
            os.posix_fallocate(descriptor, 0, mapped + self._page_count * PAGE)  # an error now is no SIGBUS later
            os.pwrite(descriptor, head + bytes(begin - len(head)) + self._data, 0)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor, mapped

    def _add(
        self, call: int, check: int, into: Slot | None, arguments: tuple[Argument, ...], expected: int, why: str
    ) -> None:
        values, added = [0] * 6, bytearray(6)
        for place, argument in enumerate(arguments):
            if isinstance(argument, int):
                values[place] = argument & _ALL
            else:
                values[place], added[place] = argument.term()
        slot = _NO_SLOT if into is None else into.number
        self._operations += _OPERATION.pack(call, check, slot, added, *values, expected)
        self.told.append(why)


def write_at(descriptor: int, content: memoryview, offset: int) -> None:
    """Write all of some bytes to a file, at an offset."""
    while content:
        written = os.pwrite(descriptor, content, offset)
        content, offset = content[written:], offset + written


def text(path: str) -> bytes:
    """Return a path as the kernel takes it."""
    return os.fsencode(path) + b"\0"


def packed(layout: str, *values: Any) -> bytes:
    """Return values as the kernel takes them."""
    return struct.pack(layout, *values)
