"""What the server must not forget, in memory that its cells hold as well: it lives as long as any of them.

A ledger is a memfd. It begins with the scoreboard; records follow, each written whole before anybody is told of
what it says. A server that is killed in the middle leaves a record whose checksum is wrong, which ends the ledger.
The next server finds the memfd in any cell and reads on from there; see `snapserv.recovery.adoption`.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import secrets
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, Literal, TypeAlias

import msgpack

from ..cell.scoreboard import SIZE_BYTES as SCOREBOARD_BYTES
from ..cell.scoreboard import Scoreboard

Table: TypeAlias = Literal["about", "tree", "node", "saved", "backup", "reply", "answer"]
Key: TypeAlias = int | str | tuple[bytes, int]
Change: TypeAlias = tuple[Table, Key, bytes | None]
Make: TypeAlias = Callable[[], Any]
"""Gives what a record says, at the moment in which it is written; None where there is nothing to say any more."""

NAME = "snapserv-ledger"
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
"""Of the memfd: all cells have it open, and whoever reads what was mapped and has been cut off is killed by SIGBUS.

It may grow. Who else has it could seal it against that as well, so there can be no other seals.
"""
_HEAD = struct.Struct("=Q")
_FRAME = struct.Struct("=II")
_FIRST = SCOREBOARD_BYTES + mmap.PAGESIZE
_GROW_BYTES = 1 << 22
REWRITE_ABOVE_BYTES = 1 << 25
"""The records are written anew when they take more than this and most of what they say is outdated."""


class _Gathering:
    """What is to be written together: records by table and key. Tasks that outlive it write by themselves."""

    __slots__ = ("_ledger", "_token", "changes", "open")

    def __init__(self, ledger: Ledger) -> None:
        self.changes: dict[tuple[Table, Key], Make] = {}
        self.open = True
        self._ledger = ledger

    def __enter__(self) -> None:
        self._token = _gathered.set(self)

    def __exit__(self, *_: object) -> None:
        _gathered.reset(self._token)
        self.open = False
        if self.changes:
            self._ledger.write(self.changes)


_gathered: ContextVar[_Gathering | None] = ContextVar("gathered", default=None)


class Ledger:
    """Records by table and key, the last one of each key counting.

    Args:
        descriptor: The memfd, which is the ledger's from now on.
    """

    def __init__(self, descriptor: int) -> None:
        _refuse_foreign(descriptor)
        self.descriptor = descriptor
        self.scoreboard = Scoreboard(descriptor)
        self._live: dict[tuple[Table, Key], bytes] = {}
        self._live_bytes = 0
        self._head = mmap.mmap(descriptor, mmap.PAGESIZE, offset=SCOREBOARD_BYTES)
        self._begin: int
        (self._begin,) = _HEAD.unpack_from(self._head)
        self._end = self._read_all()
        self._size = os.fstat(descriptor).st_size
        self._clear(self._end, self._size)  # what a record that was not finished has left behind it
        while self._end + _FRAME.size > self._size:
            self._grow()

    @staticmethod
    def create() -> Ledger:
        """Return a new, empty ledger; only what is touched of it takes memory."""
        descriptor = os.memfd_create(f"{NAME}-{secrets.token_hex(8)}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(descriptor, _FIRST + _GROW_BYTES)
        os.pwrite(descriptor, _HEAD.pack(_FIRST), SCOREBOARD_BYTES)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
        return Ledger(descriptor)

    @property
    def name(self) -> str:
        """What /proc/PID/fd shows of it in every process that holds it; no other ledger has that name."""
        return os.readlink(f"/proc/self/fd/{self.descriptor}")

    def entries(self, table: Table) -> dict[Any, Any]:
        """Return what the ledger says in a table, by key, in the order in which the keys were first written."""
        return {
            key: msgpack.unpackb(value, strict_map_key=False)
            for (name, key), value in self._live.items()
            if name == table
        }

    def put(self, table: Table, key: Key, make: Make) -> None:
        """Write a record; within `gathering`, when that is done, and then as it is then."""
        gathered = _gathered.get()
        if gathered is not None and gathered.open:
            gathered.changes[table, key] = make
        else:
            self.write({(table, key): make})

    def remove(self, table: Table, key: Key) -> None:
        """Take a record away; within `gathering`, when that is done."""
        self.put(table, key, _nothing)

    def gathering(self) -> AbstractContextManager[None]:
        """Write what is put and removed within as one record, at the end: all of it counts or nothing does."""
        return _Gathering(self)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Write what is put and removed in here without waiting for those who gather."""
        token = _gathered.set(None)
        try:
            yield
        finally:
            _gathered.reset(token)

    def write(self, wanted: Mapping[tuple[Table, Key], Make]) -> None:
        """Write what is wanted, as it is now, as one record."""
        changes: list[Change] = []
        for place, make in wanted.items():
            value = make()
            if value is not None or place in self._live:
                changes.append((*place, None if value is None else msgpack.packb(value)))
        for change in changes:
            self._apply(change)
        if changes:
            self._append(changes)
        if self._end - self._begin > REWRITE_ABOVE_BYTES and self._end - self._begin > 4 * self._live_bytes:
            self._rewrite()

    def close(self) -> None:
        """Let go of the memory."""
        self.scoreboard.close()
        self._head.close()
        os.close(self.descriptor)

    # ---------------------------------------------------------------------------------------------- records

    def _append(self, changes: list[Change]) -> None:
        content: bytes = msgpack.packb(changes)
        framed = _FRAME.pack(len(content), zlib.crc32(content)) + content
        while self._end + len(framed) + _FRAME.size > self._size:
            self._grow()
        os.pwrite(self.descriptor, framed, self._end)
        self._end += len(framed)

    def _apply(self, change: Change) -> None:
        table, key, value = change
        before = self._live.get((table, key))
        if before is not None:
            self._live_bytes -= len(before)
        if value is None:
            self._live.pop((table, key), None)
        else:
            self._live[table, key] = value
            self._live_bytes += len(value)

    def _read_all(self) -> int:
        """Apply every whole record; return where the next one goes."""
        size = os.fstat(self.descriptor).st_size
        at = self._begin
        while at + _FRAME.size <= size:
            length, checksum = _FRAME.unpack(os.pread(self.descriptor, _FRAME.size, at))
            content = os.pread(self.descriptor, length, at + _FRAME.size)
            if not length or len(content) < length or zlib.crc32(content) != checksum:
                break
            for change in msgpack.unpackb(content, use_list=False):
                self._apply(change)
            at += _FRAME.size + length
        return at

    def _rewrite(self) -> None:
        """Write what counts behind all that was written, have the ledger begin there, and free what is before."""
        former, begin = self._begin, -(-self._end // mmap.PAGESIZE) * mmap.PAGESIZE
        self._end = begin
        for (table, key), value in self._live.items():
            self._append([(table, key, value)])
        # Eight bytes that are written at once: whoever reads the ledger reads the old records or the new ones.
        _HEAD.pack_into(self._head, 0, begin)
        self._begin = begin
        self._clear(former, begin)

    def _clear(self, start: int, end: int) -> None:
        """Have bytes be zero, and their whole pages take no memory."""
        first = min(end, -(-start // mmap.PAGESIZE) * mmap.PAGESIZE)
        os.pwrite(self.descriptor, bytes(first - start), start)
        last = end // mmap.PAGESIZE * mmap.PAGESIZE
        if last > first:
            with mmap.mmap(self.descriptor, last - first, offset=first) as pages:
                pages.madvise(mmap.MADV_REMOVE)

    def _grow(self) -> None:
        self._size += _GROW_BYTES
        os.ftruncate(self.descriptor, self._size)


def _refuse_foreign(descriptor: int) -> None:
    """Refuse a memfd that another user has made, or that somebody could shorten beneath what is mapped of it.

    Raises:
        PermissionError: It is none of this user's ledgers.
    """
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError:
        seals = 0  # no memfd at all
    if os.fstat(descriptor).st_uid != os.geteuid() or seals & SEALS != SEALS:
        raise PermissionError("a ledger that is not this user's, or is not sealed")


def _nothing() -> None:
    """Say nothing any more."""
