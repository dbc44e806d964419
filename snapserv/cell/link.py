"""The link between the server and a cell: messages over a Unix stream socket.

A message is a prefix (kind, header bytes, payload bytes; see ``ext/processes/messages.h``), a header and a payload.
The header is the number of buffers, their sizes, and the same msgpack that clients are sent; the payload is the
buffers. The functions here turn values into bytes and back; who blocks and who does not is the callers' affair.
"""

from __future__ import annotations

import _socket
import socket
import struct
import time
from collections import deque
from typing import Any, NamedTuple, TypeAlias

import msgspec
from snapserv_client.wire import Buffer, pack, unpack

from ..errors import SimulationError, SnapservError, TooLargeError
from ..ext import fork

CONTROL_DESCRIPTOR = 3
"""A master's end of its link, as it is started."""
LEDGER_DESCRIPTOR = 4
"""The server's ledger, in every cell."""

PREFIX = struct.Struct("=IIQ")
HELLO = struct.Struct("=qq")
FAILURE = struct.Struct("=qq")
NUMBER = struct.Struct("=Q")
DESCRIPTOR = struct.Struct("=i")
SETTLEMENT = struct.Struct("=q108s")
USUAL_BYTES = 4096
_COUNT = struct.Struct("=I")
BARE = struct.Struct("=IIQI")
"""A prefix, and that there are no buffers."""

# Numbers, not enums, whose operators are Python code: a cell should touch as little memory as it can.
_ROOM_FOR_ONE_DESCRIPTOR = socket.CMSG_SPACE(DESCRIPTOR.size)
_CLOSE_ON_EXEC = int(socket.MSG_CMSG_CLOEXEC)
_DO_NOT_WAIT = int(socket.MSG_DONTWAIT)
_LOOK = int(socket.MSG_PEEK)
_TRY_EVERY_S = 0.05


class Prefix(NamedTuple):
    """The fixed start of every message."""

    kind: int
    header_bytes: int
    payload_bytes: int


def encode(kind: int, value: Any) -> list[Buffer]:
    """Return the parts of a message that carries ``value``; arrays are not copied."""
    header, *buffers = pack(value)
    if not buffers:
        return [BARE.pack(kind, _COUNT.size + len(header), 0, 0) + header]
    sizes = struct.pack(f"=I{len(buffers)}Q", len(buffers), *map(len, buffers))
    prefix = PREFIX.pack(kind, len(sizes) + len(header), sum(map(len, buffers)))
    return [b"".join((prefix, sizes, header)), *buffers]


def unsendable(error: SnapservError) -> SnapservError:
    """Return what a client is told where what was returned to it cannot be sent: it was done all the same."""
    error.hint = error.hint or "the simulation returned it"
    kind = TooLargeError if isinstance(error, TooLargeError) else SimulationError
    return kind(str(error), details={"completed": True})


def plain(value: Any) -> Any:
    """Return a value as messages carry it: structures as dicts, and what is no plain value as text."""
    return msgspec.to_builtins(value, enc_hook=str)


def decode(header: Buffer, payload: Buffer) -> Any:
    """Return the value of a message; its arrays are views of ``payload``."""
    (count,) = _COUNT.unpack_from(header)
    start = _COUNT.size + 8 * count
    if not count:
        return unpack(memoryview(header)[start:])
    view, buffers, offset = memoryview(payload), [], 0
    for size in struct.unpack_from(f"={count}Q", header, 4):
        buffers.append(view[offset : offset + size])
        offset += size
    return unpack(memoryview(header)[start:], buffers)


Message: TypeAlias = tuple[Prefix, memoryview, memoryview, int | None]
"""A message's prefix, header and payload, and the descriptor that came with it."""


class CellEnd:
    """A cell's end of its link: it blocks, and outlives the server.

    Where the server is gone, what is sent is lost, and who receives waits for the next server; a cell that computes
    looks out for that one in `waiting`. ``link`` counts the servers: a request is answered to the one that asked.
    """

    def __init__(self, descriptor: int) -> None:
        self.link = 0
        self._take(descriptor)

    def _take(self, descriptor: int) -> None:
        self._socket = _socket.socket(fileno=descriptor)  # Python's own is a class above it, with pages to copy
        fork.control_is(descriptor)
        self._socket.setblocking(True)
        self._rest = b""
        self._attached: int | None = None
        self._stashed: deque[Message] = deque()
        self._lost_at: float | None = None
        self._tried = 0.0

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._socket.fileno()

    @property
    def holds(self) -> bool:
        """Whether something has come that was not asked for yet, or the server is gone."""
        return bool(self._rest or self._stashed or self._lost_at is not None)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Those that are no part of the simulation's."""
        return (self.fileno(),)

    def leave(self) -> int:
        """Return the descriptor, which is the caller's from now on."""
        return self._socket.detach()

    def receive(self) -> Message:
        """Wait for a message; return its prefix, header, payload and the descriptor that came with it.

        Raises:
            EOFError: The server is gone, and no other has come.
        """
        while True:
            if self._stashed:
                return self._stashed.popleft()
            if self._lost_at is None:
                try:
                    return self._receive()
                except EOFError:
                    pass
            found = fork.find_server()
            if found < 0:
                raise EOFError
            self._change(found)

    def ready(self) -> bool:
        """Return whether a message has come, or the server is gone."""
        if self.holds:
            return True
        try:
            self._socket.recv(1, _LOOK | _DO_NOT_WAIT)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True
        return True

    def send(self, kind: int, value: Any) -> None:
        """Send a message whole; where the server is gone it is lost.

        Raises:
            BadRequestError: ``value`` holds something that cannot be sent.
        """
        parts = encode(kind, value)
        if self._lost_at is not None:
            return
        try:
            for part in parts:
                self._socket.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            self._lose()

    def next_request(self) -> tuple[int, dict[str, Any], int | None]:
        """Wait for a message; return its kind, what it asks, and the descriptor that came with it.

        Raises:
            EOFError: The server is gone, and no other has come.
        """
        if self._lost_at is None and not self._rest and not self._stashed:
            data = self._arrived()
            if len(data) >= BARE.size and self._attached is None:
                kind, header_bytes, payload_bytes, count = BARE.unpack_from(data)
                if not count and not payload_bytes and len(data) == PREFIX.size + header_bytes:
                    return kind, unpack(data[BARE.size :]), None  # one whole message, as nearly all are
            self._rest = data
        prefix, header, payload, descriptor = self.receive()
        return prefix.kind, decode(header, payload) if header else {}, descriptor

    def waiting(self, kind: int, number: int) -> bool:
        """Return whether a message of ``kind`` that carries ``number``, or 0 for any, has come, without waiting.

        Messages with other numbers are late and dropped. Only while a request runs, when nothing else may come but
        the first request of another server, which waits.

        Raises:
            EOFError: The server is gone, and no other has come.
        """
        while True:
            if self._lost_at is not None and not self._look_out():
                return False
            if not self._rest:
                try:
                    self._rest = self._socket.recv(USUAL_BYTES, _DO_NOT_WAIT)
                except BlockingIOError:
                    return False
                except ConnectionResetError:
                    self._rest = b""
                if not self._rest:
                    self._lose()
                    continue
            try:
                message = self._receive()
            except EOFError:
                self._lose()
                continue
            prefix, _, payload, _ = message
            if prefix.kind == fork.REQUEST:
                self._stashed.append(message)
            elif prefix.kind == kind and NUMBER.unpack(payload)[0] in (number, 0):
                return True

    def _receive(self) -> Message:
        data = self._rest
        if len(data) < PREFIX.size:
            data += self._arrived()
            if len(data) < PREFIX.size:
                data += self._exactly(PREFIX.size - len(data))
        descriptor, self._attached = self._attached, None
        prefix = Prefix(*PREFIX.unpack_from(data))
        end = PREFIX.size + prefix.header_bytes + prefix.payload_bytes
        body = memoryview(data)[PREFIX.size : end]
        self._rest = data[end:]
        if len(data) < end:
            whole = bytearray(end - PREFIX.size)
            whole[: len(body)] = body
            self._fill(memoryview(whole)[len(body) :])
            body = memoryview(whole)
        header, payload = body[: prefix.header_bytes], body[prefix.header_bytes :]
        if prefix.kind != fork.REQUEST:
            # It came together with the request behind this one: the kernel joins what has none with what has one.
            self._attached, descriptor = descriptor, None
        return prefix, header, payload, descriptor

    def _arrived(self) -> bytes:
        """Wait for bytes; return them, or none where the server is gone, and keep a descriptor that came along."""
        try:
            data, attached, _, _ = self._socket.recvmsg(USUAL_BYTES, _ROOM_FOR_ONE_DESCRIPTOR, _CLOSE_ON_EXEC)
        except ConnectionResetError:
            return b""
        for _, _, content in attached:
            (self._attached,) = DESCRIPTOR.unpack(content)
        return data

    def _lose(self) -> None:
        self._rest = b""
        self._lost_at = time.monotonic()

    def _look_out(self) -> bool:
        """Return whether there is another server now, asking at most every `_TRY_EVERY_S`.

        Raises:
            EOFError: There never will be.
        """
        now = time.monotonic()
        if now - self._tried < _TRY_EVERY_S:
            return False
        self._tried = now
        found = fork.try_server(now - (self._lost_at or now))
        if found == fork.NEVER:
            raise EOFError
        if found >= 0:
            self._change(found)
        return found >= 0

    def _change(self, descriptor: int) -> None:
        self._socket.close()
        self._take(descriptor)
        self.link += 1

    def _exactly(self, size: int) -> bytes:
        data = bytearray(size)
        self._fill(memoryview(data))
        return bytes(data)

    def _fill(self, view: memoryview) -> None:
        while view:
            try:
                count = self._socket.recv_into(view)
            except ConnectionResetError as cause:
                raise EOFError from cause
            if count == 0:
                raise EOFError
            view = view[count:]
