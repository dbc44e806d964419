"""What looking at each tick costs: a run that is recorded, or is to stop at something, beside a plain one."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from snapserv_client import Snapshot, condition, local

TICKS = 10_000
COLUMNS = ("burning_ha", "burnt_ha")
NEVER = condition("burning_ha < 0")
PLAIN, RECORDED, UNTIL, ASKED = "plain", "recorded, every tick", "until, never", "a request a tick"


def measure(rounds: int, ticks: int = TICKS) -> dict[str, Any]:
    """Return seconds of the same run of the wildfire, turn about: of the same snapshot, in a new branch each.

    A curve without recording is a request a tick, which is the rival.
    """
    taken: dict[str, list[float]] = {PLAIN: [], RECORDED: [], UNTIL: []}
    with local("snapserv.examples.wildfire:Wildfire") as server:
        main = server.branch("main")
        main.step(ignite=[(512, 512)], wind=(3.0, 1.0))
        start = main.snapshot()
        for _ in range(rounds):
            for what, times in taken.items():
                times.append(_run_s(start, what, ticks))
        asked = [_run_s(start, ASKED, ticks) for _ in range(max(1, rounds // 10))]
    plain = float(np.median(taken[PLAIN]))
    rows = [
        {"run": what, "p50 ms": float(np.median(times)) * 1e3, "over plain": float(np.median(times)) / plain}
        for what, times in (*taken.items(), (ASKED, asked))
    ]
    return {"ticks": ticks, "columns": len(COLUMNS), "rounds": rounds, "rows": rows}


def _run_s(start: Snapshot, what: str, ticks: int) -> float:
    with start.branch() as branch:
        branch.step()  # the first one after a clone has pages to copy
        began = time.perf_counter()
        if what == ASKED:
            for _ in range(ticks):
                branch.step()
        elif what == RECORDED:
            recorded = branch.step(ticks, record=COLUMNS).records
            assert len(recorded.steps) == ticks, recorded
        elif what == UNTIL:
            assert branch.step(ticks, until=NEVER).stopped is False
        else:
            branch.step(ticks)
        return time.perf_counter() - began
