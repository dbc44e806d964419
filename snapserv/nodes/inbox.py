"""What comes from a cell: bytes made into messages again, and refused where they cannot be any.

A cell runs its author's code, and that may write into any descriptor that it finds. From the first byte that is
none of ours on, nothing in the stream can be told apart any more, and an answer may never come: so it is an error.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgpack
from snapserv_client.wire import MAX_BUFFERS, MAX_HEADER_BYTES, MAX_MESSAGE_BYTES, unpack

from ..cell.link import BARE, FAILURE, HELLO, NUMBER, PREFIX, Prefix, decode
from ..errors import SimulationError, SnapservError
from ..ext import fork

READ_BYTES = 1 << 18
LARGE_BYTES = 1 << 16
"""A message above this size is received into memory of its own."""

_FIXED: Final = {
    fork.HELLO: HELLO.size,
    fork.FAILED: FAILURE.size,
    fork.FROZE: NUMBER.size,
    fork.RECORD: fork.RECORD_BYTES,
}
"""Messages that are sent from C: no header, and so many bytes."""
_COUNT = struct.Struct("=I")
_MOST_TABLE_BYTES = _COUNT.size + 8 * MAX_BUFFERS
_MOST_HEADER_BYTES = _MOST_TABLE_BYTES + MAX_HEADER_BYTES
_MOST_PAYLOAD_BYTES = MAX_BUFFERS * MAX_MESSAGE_BYTES


class GarbledError(Exception):
    """What came is no message; the text says what it was."""


class Inbox:
    """The messages of one cell.

    Args:
        take: Called with each message's prefix and all that follows it.
        answer: Called with an answer in its place that came whole and by itself, and has no buffers: what it says.
    """

    def __init__(
        self,
        take: Callable[[Prefix, memoryview], None],
        answer: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        self._take = take
        self._answer = answer
        self._small = b""
        self._large: tuple[Prefix, bytearray, int] | None = None

    def read(self, control: socket.socket) -> bool:
        """Take all that has come, and return whether more may come; whoever takes it may close the socket.

        Raises:
            GarbledError: It is none of our messages.
        """
        while control.fileno() >= 0:
            try:
                if self._large is None:
                    data = control.recv(READ_BYTES)
                    if not data:
                        return False
                    if self._answer is not None and not self._small:
                        answer = _plain_answer(data)
                        if answer is not None:
                            self._answer(answer)  # as nearly all are
                            return True
                    self._split(self._small + data if self._small else data)
                    if len(data) < READ_BYTES:
                        return True
                else:
                    prefix, body, got = self._large
                    count = control.recv_into(memoryview(body)[got:])
                    if not count:
                        return False
                    self._large = (prefix, body, got + count)
                    if got + count == len(body):
                        self._large = None
                        self._take(prefix, memoryview(body))
            except BlockingIOError:
                return True
            except ConnectionResetError:
                return False
        return True

    def _split(self, data: bytes) -> None:
        """Split what arrived into messages; keep the start of the last one."""
        view, at = memoryview(data), 0
        while len(data) - at >= PREFIX.size:
            prefix = Prefix(*PREFIX.unpack_from(data, at))
            _check(prefix)
            size = prefix.header_bytes + prefix.payload_bytes
            start = at + PREFIX.size
            got = len(data) - start
            if got >= size:
                self._take(prefix, view[start : start + size])
                at = start + size
            elif size <= LARGE_BYTES or got < prefix.header_bytes:
                break
            else:
                _check_table(prefix, view[start : start + prefix.header_bytes])
                self._large = (prefix, _room(size), got)
                self._large[1][:got] = view[start:]
                at = len(data)
        self._small = data[at:]


def _check(prefix: Prefix) -> None:
    """Check what a message says of itself, before anything is made or waited for that is as large as it says."""
    kind, header, payload = prefix
    if kind in _FIXED:
        right = header == 0 and payload == _FIXED[kind]
    elif kind == fork.PROGRESS:
        right = 0 < header <= _MOST_HEADER_BYTES and payload == 0
    elif kind == fork.REPLY:
        right = 0 < header <= _MOST_HEADER_BYTES and payload <= _MOST_PAYLOAD_BYTES
    else:
        raise GarbledError(f"a message of the unknown kind {kind}")
    if not right:
        raise GarbledError(f"a message of kind {kind} with {header:,} bytes of header and {payload:,} of payload")


def _check_table(prefix: Prefix, header: memoryview) -> None:
    """Check that a large message's buffers are together as long as its payload."""
    try:
        (count,) = _COUNT.unpack_from(header)
        sizes = struct.unpack_from(f"={min(count, MAX_BUFFERS)}Q", header, _COUNT.size)
    except struct.error as cause:
        raise GarbledError("an answer whose header is cut off") from cause
    if count > MAX_BUFFERS or sum(sizes) != prefix.payload_bytes:
        raise GarbledError(f"an answer of {prefix.payload_bytes:,} bytes, which is not what its parts add up to")


def _room(size: int) -> bytearray:
    try:
        return bytearray(size)
    except MemoryError as cause:
        raise GarbledError(f"an answer of {size:,} bytes, for which there is no memory") from cause


def _plain_answer(data: bytes) -> Mapping[str, Any] | None:
    """Return what an answer says that is all of ``data`` and went well; None where that is anything else."""
    if not BARE.size < len(data) <= LARGE_BYTES:
        return None
    kind, header, payload, count = BARE.unpack_from(data)
    if kind != fork.REPLY or payload or count or PREFIX.size + header != len(data):
        return None
    try:
        answer = unpack(memoryview(data)[BARE.size :])
    except SnapservError:
        return None
    return answer if type(answer) is dict and "ok" in answer else None


def answer_of(header: memoryview, payload: memoryview) -> Mapping[str, Any]:
    """Return what a cell answered; where it cannot be read, as not all keys that pack unpack again, an error.

    Raises:
        GarbledError: It is no answer.
    """
    try:
        answer = decode(header, payload)
    except SnapservError as cause:
        _check_whole(header)
        told = SimulationError(
            f"what it returned cannot be read: {cause}",
            details={"completed": True},
            hint="keys of dicts must be plain values: no tuples",
        )
        return {"error": told.to_wire()}
    except (struct.error, IndexError) as cause:
        raise GarbledError("an answer whose header is cut off") from cause
    if not isinstance(answer, dict) or not ("ok" in answer or isinstance(answer.get("error"), dict)):
        raise GarbledError("an answer that says nothing")
    return answer


def progress_of(header: memoryview) -> tuple[int, int]:
    """Return how many ticks are done, and of how many.

    Raises:
        GarbledError: It does not say so.
    """
    try:
        told = decode(header, b"")
        return int(told["done"]), int(told["total"])
    except (SnapservError, struct.error, LookupError, TypeError, ValueError) as cause:
        raise GarbledError("a report of progress that says nothing") from cause


def _check_whole(header: memoryview) -> None:
    """Check that what cannot be unpacked is one whole value at least."""
    (count,) = _COUNT.unpack_from(header)
    packed = header[_COUNT.size + 8 * count :]
    unpacker = msgpack.Unpacker(max_buffer_size=max(1, len(packed)))
    unpacker.feed(packed)
    try:
        unpacker.skip()
        whole = unpacker.tell() == len(packed)
    except (ValueError, msgpack.UnpackException) as cause:
        raise GarbledError("an answer that is cut off") from cause
    if not whole:
        raise GarbledError("an answer with something behind it")
