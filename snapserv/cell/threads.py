"""Threads: a fork copies only the one that asks for it, so a process that has others is not cloned."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from ..errors import ThreadsRunningError
from ..ext import fork
from ..simulation.naming import shortened

if TYPE_CHECKING:
    from .pools import Thread

THREADS = "threads"


def refuse_threads() -> None:
    """Check that this process has one thread, since a fork copies only the thread that asks for it.

    Raises:
        ThreadsRunningError: Counts and names them, says whose they are and what to do; the simulation's fault.
    """
    if fork.count_threads() == 1:
        return
    threads, listed, advice = _whose()
    names = [thread.name for thread in threads]
    raise ThreadsRunningError(
        f"the simulation runs {len(names)} threads ({listed}), and a fork would lose all but one",
        hint=advice,
        details={"threads": len(names), "names": names, "owners": [thread.owner for thread in threads]},
    )


def told_of_threads() -> list[dict[str, str]]:
    """Return what the client of a step is told of threads that a tick has left; nothing where there is but one."""
    if fork.count_threads() == 1:
        return []
    threads, listed, advice = _whose()
    what = f"{len(threads)} threads ({listed})"
    return [{"kind": THREADS, "what": what, "where": "", "whose": "", "text": what, "advice": advice}]


def _whose() -> tuple[list[Thread], str, str]:
    """Return this process's threads with whose they are, all of them as text, and what keeps them from starting."""
    from .pools import advice, owned  # loaded only where it is needed: what is loaded is forked

    threads = [owned(task, name) for task, name in running()]
    return threads, ", ".join(shortened([str(each) for each in threads])), advice(threads)


def running() -> list[tuple[int, str]]:
    """Return this process's threads, by the kernel's numbers: with Python's own names where it has started them."""
    threading = sys.modules.get("threading")
    known = {thread.native_id: thread.name for thread in threading.enumerate()} if threading is not None else {}
    found = []
    for task in map(int, os.listdir("/proc/self/task")):
        try:
            with open(f"/proc/self/task/{task}/comm") as comm:
                found.append((task, known.get(task) or comm.read().strip()))
        except FileNotFoundError:
            continue  # it ended meanwhile
    return found
