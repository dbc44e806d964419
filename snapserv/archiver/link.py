"""What a server and its archiver say to each other: values as msgpack, with descriptors attached, one at a time."""

from __future__ import annotations

import os
import socket
import struct
from typing import Any

import msgpack

MOST_DESCRIPTORS = 64
_SIZE = struct.Struct("=I")


def send(link: socket.socket, value: Any, descriptors: list[int] | None = None) -> None:
    """Send a value, and descriptors along with it, which stay the caller's.

    Raises:
        OSError: The other end is gone.
    """
    content: bytes = msgpack.packb(value)
    size = _SIZE.pack(len(content))
    if descriptors:
        socket.send_fds(link, [size], descriptors)
    else:
        link.sendall(size)
    link.sendall(content)


def receive(link: socket.socket) -> tuple[Any, list[int]]:
    """Wait for a value; return it, and the descriptors that came along, which are the caller's.

    Raises:
        EOFError: The other end is gone.
    """
    size, descriptors, _, _ = socket.recv_fds(link, _SIZE.size, MOST_DESCRIPTORS)
    try:
        while len(size) < _SIZE.size:
            size += _exactly(link, _SIZE.size - len(size))
        content = _exactly(link, _SIZE.unpack(size)[0])
        return msgpack.unpackb(content, strict_map_key=False), descriptors
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise


def _exactly(link: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        got = link.recv_into(view)
        if not got:
            raise EOFError
        view = view[got:]
    return data
