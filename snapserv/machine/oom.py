"""Whom the kernel's OOM killer is to prefer: branches over snapshots, those over the master, all over the server.

Each score stands above the server's own, which stays what it was started with: lowering it needs a privilege and
is the affair of whoever starts the server. Raising one needs none. A clone inherits it.
"""

from __future__ import annotations

import os

MASTER = 100
SNAPSHOT = 200
BRANCH = 400
_MOST = 1000


def score(pid: int | str = "self") -> int:
    """Return the adjustment of a process; see proc_pid_oom_score_adj(5).

    Raises:
        OSError: It cannot be read.
    """
    with open(f"/proc/{pid}/oom_score_adj") as adjustment:
        return int(adjustment.read())


def adjustment(above: int, own: int) -> int:
    """Return the adjustment that stands ``above`` the server's ``own``."""
    return min(_MOST, own + above)


def prefer(pid: int | str, above: int, own: int) -> None:
    """Set the adjustment of a process to ``above`` the server's ``own``; branches do it by `ext.fork.prefer`.

    Raises:
        OSError: It cannot be written, or the process has ended.
    """
    written = os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(written, b"%d" % adjustment(above, own))
    finally:
        os.close(written)
