"""What going back costs: a return within a gap of the ladder, beside stepping that gap; and a search for a tick."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from snapserv_client import local, when

GAP = 10_000
"""Ticks between two automatic snapshots."""
GAPS = 6
SEARCHED = 1_000_000


def measure(rounds: int, searched: int = SEARCHED) -> dict[str, Any]:
    """Return seconds of stepping a gap, and of going back to just before the next snapshot, turn about."""
    stepped: list[float] = []
    gone: list[float] = []
    ticks: set[int] = set()
    with local("snapserv.examples.wildfire:Wildfire") as server:
        main = server.branch("main")
        main.step(ignite=[(512, 512)], wind=(3.0, 1.0))
        main.autosnap(every_steps=GAP, keep=2 * GAPS)
        main.step(GAPS * GAP - 1)
        main.autosnap(off=True)
        main.snapshot("end")
        for number in range(rounds):
            back_to = (GAPS - 2) * GAP - 1 + number % 2 * GAP
            with server.snapshot("end").branch() as plain:
                plain.goto(back_to + 1 - GAP, keep=False)
                began = time.perf_counter()
                plain.step(GAP)
                stepped.append(time.perf_counter() - began)
            with server.snapshot("end").branch() as branch:
                began = time.perf_counter()
                done = branch.goto(back_to)
                gone.append(time.perf_counter() - began)
                ticks.add(done.ticks)
                assert done.left is not None
    one, other = float(np.median(stepped)), float(np.median(gone))
    rows = [
        {"what": f"stepping a gap of {GAP:,} ticks", "p50 ms": one * 1e3, "over stepping": 1.0},
        {"what": f"going back by {max(ticks):,} of them", "p50 ms": other * 1e3, "over stepping": other / one},
    ]
    return {"gap": GAP, "rounds": rounds, "rows": rows, "search": _search(searched)}


def _search(ticks: int) -> dict[str, Any]:
    """Return what a search among so many ticks takes, over running them."""
    with local("benchmarks.simulations:Leak", at=ticks // 3) as server:
        main = server.branch("main")
        began = time.perf_counter()
        main.step(ticks)
        ran = time.perf_counter() - began
        began = time.perf_counter()
        found = main.bisect(0, ticks, when("amount") < 0)
        took = time.perf_counter() - began
        assert found.step == ticks // 3
    return {"ticks": ticks, "returns": found.returns, "run s": ran, "search s": took, "over the run": took / ran}
