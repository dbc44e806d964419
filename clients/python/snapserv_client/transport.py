"""Messages on a ZeroMQ socket, at either end: a list of frames goes out, and one comes in.

pyzmq's own multipart calls do the same in more steps: its flags and options are enums, whose operators are
Python code. A request is a few such calls at each end, so here they are plain numbers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import zmq
from zmq.backend import Socket as _Plain

from .wire import MAX_BUFFERS, Buffer, Frames

NOBLOCK = int(zmq.NOBLOCK)
_SNDMORE = int(zmq.SNDMORE)
_send: Callable[..., Any] = _Plain.send
_EVENTS = int(zmq.EVENTS)
_POLLIN = int(zmq.POLLIN)
_POLLOUT = int(zmq.POLLOUT)

COPY_BELOW_BYTES = 1 << 16
"""A buffer of this size is handed over as it is; what is smaller takes less time to copy."""
LEADING_FRAMES = 2
"""The magic and the header."""


def routing_id() -> bytes:
    """Return a name for a new client that no other has; it never begins with a zero byte."""
    return b"c" + os.urandom(15)


def send_frames(socket: zmq.Socket[bytes], frames: Sequence[Buffer], *, flags: int = 0) -> None:
    """Send one message; it goes out whole or not at all.

    Raises:
        zmq.Again: With `NOBLOCK`, the peer takes no more for now.
    """
    more, left = flags | _SNDMORE, len(frames)
    for frame in frames:
        left -= 1
        _send(socket, frame, more if left else flags, len(frame) < COPY_BELOW_BYTES)


def receive_frames(socket: zmq.Socket[bytes], *, flags: int = 0) -> Frames:
    """Receive one message; the buffers after its header are views of the memory that ZeroMQ received into.

    Of a message of too many frames only so many are kept that it can be told.

    Raises:
        zmq.Again: Nothing came: with `NOBLOCK`, now; otherwise in the socket's RCVTIMEO.
    """
    frame = socket.recv(flags, False)
    frames: Frames = [frame.bytes]
    while frame.more:  # which it knows itself: the socket's option takes as long as a frame
        frame = socket.recv(0, False)
        if len(frames) < LEADING_FRAMES:
            frames.append(frame.bytes)
        elif len(frames) <= LEADING_FRAMES + MAX_BUFFERS:
            frames.append(frame.buffer)
    return frames


def has_input(socket: zmq.Socket[bytes]) -> bool:
    """Return whether a message waits. ZeroMQ's descriptor tells of changes only, so this is asked again."""
    return bool(int(socket.getsockopt(_EVENTS)) & _POLLIN)


def takes_output(socket: zmq.Socket[bytes]) -> bool:
    """Return whether a message can be sent without waiting; never where ZeroMQ has given the connection up."""
    return bool(int(socket.getsockopt(_EVENTS)) & _POLLOUT)
