"""How many processes there may be: every limit that a clone can meet, and how to raise it."""

from __future__ import annotations

import contextlib
import os
import resource
from dataclasses import dataclass
from pathlib import Path

from .limits import control_groups

CAP_SYS_RESOURCE = 24


@dataclass(frozen=True)
class ProcessLimit:
    """A limit on the number of processes.

    Attributes:
        what: What limits them.
        most: How many there may be, with those of others where they count; None for no limit.
        used: How many there are; None where it is not told.
        improve: How to raise it.
    """

    what: str
    most: int | None
    used: int | None
    improve: str

    @property
    def room(self) -> int | None:
        """How many more there may be; None for any number."""
        return None if self.most is None else max(0, self.most - (self.used or 0))


def process_limits(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> list[ProcessLimit]:
    """Return all limits that fork(2) lists: of the machine, of this user and of the control groups."""
    tasks = _machine_tasks(proc)
    return [
        ProcessLimit(
            "kernel.pid_max", _number(proc / "sys/kernel/pid_max"), tasks, "sysctl kernel.pid_max=4194304"
        ),
        ProcessLimit(
            "kernel.threads-max", _number(proc / "sys/kernel/threads-max"), tasks, "sysctl kernel.threads-max"
        ),
        _of_user(proc),
        *_of_groups(proc, groups),
    ]


def tightest(limits: list[ProcessLimit]) -> ProcessLimit | None:
    """Return the limit that is met first; None where there is none."""
    bounding = [(limit.room, index) for index, limit in enumerate(limits) if limit.room is not None]
    return limits[min(bounding)[1]] if bounding else None


def _machine_tasks(proc: Path) -> int | None:
    """Return how many threads there are on the machine: the fourth word of /proc/loadavg (proc_loadavg(5))."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int((proc / "loadavg").read_text().split()[3].partition("/")[2])
    return None


def _of_user(proc: Path) -> ProcessLimit:
    # The soft limit is what the kernel looks at. It counts all threads of the user, wherever they were started.
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    free = os.geteuid() == 0 or _capable(proc, CAP_SYS_RESOURCE)
    most = None if free or soft == resource.RLIM_INFINITY else soft
    return ProcessLimit("RLIMIT_NPROC", most, None, "ulimit -u, or LimitNPROC of the service")


def _of_groups(proc: Path, groups: Path) -> list[ProcessLimit]:
    found = []
    for folder in control_groups("pids", proc, groups):
        most = _number(folder / "pids.max")
        if most is not None:
            used = _number(folder / "pids.current")
            improve = f"echo max > {folder}/pids.max, or TasksMax of the service, or --pids-limit of the container"
            found.append(ProcessLimit(f"pids.max of {folder}", most, used, improve))
    return found


def _capable(proc: Path, capability: int) -> bool:
    with contextlib.suppress(OSError):
        for line in (proc / "self/status").read_text().splitlines():
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> capability & 1)
    return False


def _number(path: Path) -> int | None:
    """Return the number in a file; None where there is none, as for ``max``."""
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text())
    return None
