"""How a process ended: from the kernel's word to its parent, or for others, from what it leaves behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import struct
from dataclasses import dataclass
from pathlib import Path

PIDFD_GET_INFO = 0xC040FF0B
"""_IOWR(0xFF, 11, struct pidfd_info), Linux 6.13: linux/pidfd.h."""
PIDFD_INFO_EXIT = 1 << 3
"""Linux 6.15; the kernel tells it once the process has been reaped."""
_INFO = struct.Struct("=Q52xi")
_EXIT_CODE = 49
"""The place of exit_code in /proc/PID/stat, behind the command's name; see proc_pid_stat(5)."""


@dataclass(frozen=True)
class Ending:
    """How a process ended: ``signal`` and ``status`` are None where the other one applies, or nobody can tell.

    ``asked`` says that the server ended it, and ``why`` for what reason of its own, if for one.
    """

    signal: str | None
    status: int | None
    asked: bool
    why: str = ""

    def __str__(self) -> str:
        if self.signal:
            how = f"killed by {self.signal}"
        else:
            how = "ended" if self.status is None else f"exited with status {self.status}"
        return f"{how}: {self.why}" if self.why else how


def ending_of(pid: int, pidfd: int, *, asked: bool, why: str = "") -> Ending | None:
    """Return how the process behind a pidfd ended, and reap it if it is a child; None while it lives.

    The process is known to have ended where it is no child: then what the kernel keeps is read.
    """
    try:
        result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        left = _left_behind(pid, pidfd)
        if left is None:
            return Ending(None, None, asked, why)
        killed, number = os.WIFSIGNALED(left), os.WTERMSIG(left) if os.WIFSIGNALED(left) else os.WEXITSTATUS(left)
    else:
        if result is None:
            return None
        killed, number = result.si_code != os.CLD_EXITED, result.si_status
    return Ending(signal.Signals(number).name, None, asked, why) if killed else Ending(None, number, asked, why)


def _left_behind(pid: int, pidfd: int) -> int | None:
    """Return the wait status of a process that has ended: from /proc while nobody has reaped it, or its pidfd."""
    with contextlib.suppress(OSError):
        status = _from_stat(pid)
        if status is not None:
            return status
    with contextlib.suppress(OSError):
        return _from_pidfd(pidfd)
    return None


def _from_stat(pid: int) -> int | None:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[_EXIT_CODE]) if fields[0] in "ZX" else None


def _from_pidfd(pidfd: int) -> int | None:
    info = bytearray(_INFO.pack(PIDFD_INFO_EXIT, 0))
    fcntl.ioctl(pidfd, PIDFD_GET_INFO, info)
    told: int
    status: int
    told, status = _INFO.unpack(info)
    return status if told & PIDFD_INFO_EXIT else None
