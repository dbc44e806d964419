"""Messages on a stream: the frames of a message, with their sizes before them.

A message is the number of its frames, an unsigned int of 4 bytes, then the size of each, of 8 bytes, all
little-endian, and then the frames themselves: those that a message on a ZeroMQ socket has.
"""

from __future__ import annotations

import socket
import struct

from .errors import BadRequestError
from .wire import MAX_BUFFERS, MAX_HEADER_BYTES, MAX_MESSAGE_BYTES, Buffer, Frames

MOST_FRAMES = MAX_BUFFERS + 2
TOGETHER_BYTES = 1 << 16
"""Messages up to this size are sent in one call."""
READ_BYTES = 1 << 16
LARGE_READ_BYTES = 4 << 20
_COUNT = struct.Struct("<I")
_PLAIN = struct.Struct("<IQQ")
"""The sizes of a message without buffers, as most are."""
_NO_WAIT = int(socket.MSG_DONTWAIT)


def framed(frames: Frames) -> list[Buffer]:
    """Return what to send for a message; large frames are not copied."""
    if len(frames) == 2 and len(frames[1]) < TOGETHER_BYTES:
        magic, header = frames
        return [b"".join((_PLAIN.pack(2, len(magic), len(header)), magic, header))]
    sizes = [len(frame) for frame in frames]
    head = struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes)
    return [b"".join((head, *frames))] if sum(sizes) < TOGETHER_BYTES else [head, *frames]


class Reader:
    """The messages that come in on a stream."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._rest: Buffer = b""
        self._wanted = 0

    def take(self) -> Frames | None:
        """Return the next message, if all of it is here.

        Raises:
            BadRequestError: What has come is no message.
        """
        rest = self._rest
        have = len(rest)
        if have < self._wanted or have < _COUNT.size:
            return None
        if _PLAIN.size <= have <= READ_BYTES:
            count, magic, header = _PLAIN.unpack_from(rest)
            if count == 2 and _PLAIN.size + magic + header == have:
                self._rest, self._wanted = b"", 0
                return [rest[_PLAIN.size : _PLAIN.size + magic], rest[_PLAIN.size + magic :]]
        (count,) = _COUNT.unpack_from(rest)
        if not 2 <= count <= MOST_FRAMES:
            raise BadRequestError(f"a message of {count:,} frames on a stream")
        at = _COUNT.size + 8 * count
        if have < at:
            return None
        sizes = struct.unpack_from(f"<{count}Q", rest, _COUNT.size)
        if sizes[1] > MAX_HEADER_BYTES or max(sizes) > MAX_MESSAGE_BYTES:
            raise BadRequestError(f"a message of {sum(sizes):,} bytes on a stream")
        end = at + sum(sizes)
        if have < end:
            self._wanted = end
            return None
        view, frames = memoryview(rest), list[Buffer]()
        for size in sizes:
            frames.append(view[at : at + size])
            at += size
        self._rest = rest[end:] if have > end else b""
        self._wanted = 0
        return frames

    def more(self, *, wait: bool = True) -> None:
        """Receive some more.

        Raises:
            EOFError: Nothing will come any more.
            BlockingIOError: Nothing has come, and nobody is to wait.
        """
        missing = self._wanted - len(self._rest)
        most = READ_BYTES if missing <= READ_BYTES else min(missing, LARGE_READ_BYTES)
        try:
            self.feed(self._stream.recv(most, 0 if wait else _NO_WAIT))
        except (ConnectionResetError, BrokenPipeError) as cause:
            raise EOFError from cause

    def feed(self, data: bytes) -> None:
        """Take in what was received.

        Raises:
            EOFError: Nothing was: the other end has hung up.
        """
        if not data:
            raise EOFError
        if not self._rest:
            self._rest = data
            return
        if not isinstance(self._rest, bytearray):
            self._rest = bytearray(self._rest)
        self._rest += data
