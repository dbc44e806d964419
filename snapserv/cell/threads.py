"""Threads: a fork copies only the one that asks for it, so a process that has others is not cloned."""

from __future__ import annotations

import os
import sys

from ..errors import ThreadsRunningError
from ..ext import fork


def refuse_threads() -> None:
    """Check that this process has one thread, since a fork copies only the thread that asks for it.

    Raises:
        ThreadsRunningError: Counts and names them; the simulation's fault.
    """
    if fork.count_threads() == 1:
        return
    names = thread_names()
    raise ThreadsRunningError(
        f"the simulation runs {len(names)} threads ({', '.join(names)}), and a fork would lose all but one",
        hint="turn thread pools off: OPENBLAS_NUM_THREADS=1, OMP_NUM_THREADS=1, torch.set_num_threads(1); "
        "join threads of your own before a step returns",
        details={"threads": len(names), "names": names},
    )


def thread_names() -> list[str]:
    """Return the names of this process's threads: Python's own names where it has started them."""
    threading = sys.modules.get("threading")
    known = {thread.native_id: thread.name for thread in threading.enumerate()} if threading is not None else {}
    names = []
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/comm") as comm:
                names.append(known.get(int(task)) or comm.read().strip())
        except FileNotFoundError:
            continue  # it ended meanwhile
    return names
