"""The server's descriptors: one a snapshot, two a branch, and what happens when there are no more."""

from __future__ import annotations

import os
import resource
import socket
from pathlib import Path

from .errors import OverBudgetError

_OPEN = Path("/proc/self/fd")


def raise_limit() -> None:
    """Allow this process as many descriptors as it may allow itself: shells give 1,024, for the sake of select(2).

    The hard limit is the administrator's, and stays, also for root. Cells inherit the limit.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def count_open() -> int:
    """Return how many are open. Since Linux 6.2 the size of the folder says it; before, each one is listed."""
    return os.stat(_OPEN).st_size or len(os.listdir(_OPEN))


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Return a pair of sockets for a new cell; the second one is for the cell.

    Raises:
        OverBudgetError: This process or the machine has no descriptor left.
    """
    try:
        return socket.socketpair()
    except OSError as cause:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        raise OverBudgetError(
            f"no socket for another node: {os.strerror(cause.errno or 0)}",
            hint="drop snapshots, or raise the limit on the server's descriptors (ulimit -n, LimitNOFILE)",
            details={"errno": cause.errno, "limit": soft, "most": hard},
        ) from cause
