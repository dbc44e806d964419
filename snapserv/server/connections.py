"""Who is connected: ZeroMQ's monitor tells (zmq_socket_monitor(3)), and nothing else does when somebody leaves."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable

import zmq
from snapserv_client.transport import NOBLOCK, has_input
from zmq.utils.monitor import parse_monitor_message

REFUSED = int(zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
CAME, LEFT = int(zmq.EVENT_ACCEPTED), int(zmq.EVENT_DISCONNECTED)


class Connections:
    """The connections of a socket that is bound; to be made before it is.

    Args:
        socket: The socket.
        on_refused: Called for each connection that was refused: it had no key, or one that is not known.
    """

    def __init__(self, socket: zmq.Socket[bytes], on_refused: Callable[[], None]) -> None:
        self._open: set[int] = set()
        self._on_refused = on_refused
        self._monitor: zmq.Socket[bytes] = socket.get_monitor_socket(REFUSED | CAME | LEFT)
        asyncio.get_running_loop().add_reader(int(self._monitor.getsockopt(zmq.FD)), self._look)
        self._look()

    def count(self) -> int:
        """Return how many there are.

        Where a client has come again before its former connection was found broken, ZeroMQ closes that without a
        word. So those are counted whose descriptors are open.
        """
        self._look()
        self._open = {descriptor for descriptor in self._open if _is_socket(descriptor)}
        return len(self._open)

    def close(self) -> None:
        """Look no more; before the context ends."""
        asyncio.get_running_loop().remove_reader(int(self._monitor.getsockopt(zmq.FD)))
        self._monitor.close(0)

    def _look(self) -> None:
        while has_input(self._monitor):
            told = parse_monitor_message(self._monitor.recv_multipart(NOBLOCK))
            if told["event"] == CAME:
                self._open.add(told["value"])
            elif told["event"] == LEFT:
                self._open.discard(told["value"])
            else:
                self._on_refused()


def _is_socket(descriptor: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        return False
