"""The side channel: how a client on the server's machine, and of its user, fetches descriptors from it.

A ticket that a reply has brought is shown at the Unix socket beside the server's own, and what comes back is a
descriptor: large arrays then need not go through ZeroMQ. Where there is no such channel, all goes as it does from
another machine.
"""

from __future__ import annotations

import math
import mmap
import os
import socket
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import SnapservError
from .protocol import Handed, HelloResult
from .trust import refuse_strangers
from .wire import MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from .arrays import Array

CHANNEL_VARIABLE = "SNAPSERV_CHANNEL"
"""``off``, in the environment of a server or a client: it has no side channel."""
SUFFIX = ".side"
"""The channel of ``ipc://PATH`` is the Unix socket ``PATH.side``, of type SOCK_SEQPACKET."""
TICKET_BYTES = 16
HANDED = b"\x01"
REFUSED = b"\x00"
ANSWERS_WITHIN_S = 5.0
_CREDENTIALS = struct.Struct("=iII")
_KEEPING_NO_DESCRIPTOR: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
"""Python before 3.13 keeps a descriptor for as long as something is mapped."""


def turned_off() -> bool:
    """Return whether this process is to have no side channel."""
    return os.environ.get(CHANNEL_VARIABLE, "").lower() in ("off", "0", "no")


def channel_path(endpoint: str) -> Path | None:
    """Return where the channel of a server is, or None where it can have none: TCP may lead anywhere."""
    return Path(endpoint.removeprefix("ipc://") + SUFFIX) if endpoint.startswith("ipc://") else None


class Channel:
    """The side channel of a server, seen from a client.

    Args:
        path: Its Unix socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @staticmethod
    def to(endpoint: str, hello: HelloResult) -> Channel | None:
        """Return the channel of a server that has said hello, where there is one for this user."""
        path = channel_path(endpoint)
        if path is None or not hello.channel or turned_off():
            return None
        try:
            return Channel(path) if path.lstat().st_uid == os.geteuid() else None
        except OSError:
            return None

    def fetch(self, ticket: bytes) -> int | None:
        """Return the descriptor that a ticket is for; None where there is none any more.

        Raises:
            UntrustedError: The socket may be a stranger's.
        """
        refuse_strangers(f"ipc://{self._path}")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as caller:
            caller.settimeout(ANSWERS_WITHIN_S)
            try:
                caller.connect(str(self._path))
                peer = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
                if _CREDENTIALS.unpack(peer)[1] != os.geteuid():
                    return None
                caller.send(ticket)
                answer, descriptors, _, _ = socket.recv_fds(caller, len(HANDED), 1)
            except OSError:
                return None
        if answer != HANDED or len(descriptors) != 1:
            for descriptor in descriptors:
                os.close(descriptor)
            return None
        return descriptors[0]

    def array(self, handed: Handed) -> Array | None:
        """Return an array that was handed over, not writable; None where nobody has it any more.

        Its memory is the kernel's again when the array and all views of it are gone.
        """
        descriptor = self.fetch(handed.ticket)
        if descriptor is None:
            return None
        try:
            return mapped(descriptor, handed)
        except (OSError, ValueError, SnapservError):
            return None  # asked for once more, it comes in the plain way
        finally:
            os.close(descriptor)


def mapped(descriptor: int, handed: Handed) -> Array:
    """Return the array in a file, without copying it.

    Raises:
        OSError: It cannot be mapped.
        ValueError: It is smaller than it is said to be.
        SnapservError: What it is said to be is no array.
    """
    import numpy as np  # where there is an array, and not before

    from .arrays import dtype_from_wire

    dtype = dtype_from_wire(handed.dtype)
    size = dtype.itemsize * math.prod(handed.shape)
    if not 0 < size <= min(MAX_MESSAGE_BYTES, os.fstat(descriptor).st_size):
        raise ValueError(f"{size:,} bytes are not there")
    content = mmap.mmap(descriptor, size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ, **_KEEPING_NO_DESCRIPTOR)
    return np.frombuffer(content, dtype).reshape(handed.shape)
