"""The server's descriptors: one a snapshot, two a branch, and what happens when there are no more."""

from __future__ import annotations

import errno
import os
import resource
import socket
from pathlib import Path

from .limits import exhausted

SPARED = 64
"""So many are left to clients, or where few are allowed, this part of them:"""
SPARED_PART = 8
_OPEN = Path("/proc/self/fd")


def raise_limit() -> int:
    """Allow this process as many descriptors as it may allow itself; return how many it could have before.

    Shells give 1,024 for the sake of select(2), which cannot do with higher numbers: what this process starts is to
    be given the old limit back. The hard limit is the administrator's, and stays, also for root.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft


def count_open() -> int:
    """Return how many are open. Since Linux 6.2 the size of the folder says it; before, each one is listed."""
    return os.stat(_OPEN).st_size or len(os.listdir(_OPEN))


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Return a pair of sockets for a new cell; the second one is for the cell.

    Raises:
        OverBudgetError: This process or the machine has no descriptor left but those that are spared for clients.
            The kernel gives the lowest number that is free, so a number says how many are taken.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        ours, theirs = socket.socketpair()
    except OSError as cause:
        raise exhausted("no descriptors are left for another node", cause) from cause
    if max(ours.fileno(), theirs.fileno()) < limit - min(SPARED, limit // SPARED_PART):
        return ours, theirs
    ours.close()
    theirs.close()
    raise exhausted("no descriptors are left for another node", OSError(errno.EMFILE, ""))
