"""What a run has left behind. Every process of it has the run's mark in its environment, and so can be found.

Pages of a tmpfs or a memfd live as long as a process maps them or holds a descriptor of them: where no process is
left, there are none.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Container
from pathlib import Path

MARK = "SNAPSERV_CHAOS_RUN"
SETTLE_WITHIN_S = 20.0
POLL_S = 0.05
PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans(wanted: bool) -> None:
    """Have what a killed server leaves become children of this process (prctl(2)), which `reap` sees to."""
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")


def reap(except_for: Container[int]) -> None:
    """Reap children that have ended and that nobody else waits for."""
    for pid in children_of(os.getpid()):
        if pid not in except_for:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def children_of(pid: int) -> list[int]:
    """Return the children of a process."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += map(int, (task / "children").read_text().split())
    return found


def marked(mark: str) -> list[int]:
    """Return the processes of a run that still are, this one aside."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def zombies() -> list[int]:
    """Return the children of this process that have ended and were not reaped."""
    found = []
    for pid in children_of(os.getpid()):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                found.append(pid)
    return found


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def shared_files(pids: list[int]) -> int:
    """Return how many mappings of files without a name, which base images and ledgers are, processes have."""
    count = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            count += sum("(deleted)" in line for line in Path(f"/proc/{pid}/maps").read_text().splitlines())
    return count


async def settled(measure: Callable[[], int], at_most: int = 0) -> int:
    """Wait until ``measure()`` is at most what it must be; return what it is more than that."""
    deadline = time.monotonic() + SETTLE_WITHIN_S
    while (found := measure()) > at_most and time.monotonic() < deadline:
        await asyncio.sleep(POLL_S)
    return max(0, found - at_most)
