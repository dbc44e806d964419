"""What a look at what a clone would share or lose costs each snapshot: with it and without, turn about.

It goes through the areas of the process, as the clone does right after it. So what counts is how much longer both
together take than the clone alone; the look by itself is listed too.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from snapserv_client import local

PARTS = {
    "with": "in the cell, up to the end of the clone",
    "without": "… without a look",
    "look": "… a look at what is held, in the cell",
}


def measure(rounds: int) -> dict[str, Any]:
    """Return microseconds, and how many more a snapshot with a look takes in the cell, by the medians."""
    seen: dict[str, list[float]] = {"with": [], "without": []}
    with local("benchmarks.simulations:Looked") as server:
        main = server.branch("main")
        for number in range(rounds + rounds // 10 + 1):
            for times in seen.values():  # in the order in which `Looked` does
                main.step(dirty=16)
                began = time.perf_counter()
                snapshot = main.snapshot()
                if number > rounds // 10:  # the first ones look at more, and warm up
                    times.append((time.perf_counter() - began) * 1e6)
                snapshot.drop()
            if number == rounds // 10:
                main.call("looks")
        cell: dict[str, list[float]] = main.call("looks")
    rows = [_row("snapshot, seen by the client", seen["with"]), _row("… without a look", seen["without"])]
    rows += [_row(what, cell[name]) for name, what in PARTS.items()]
    dearer = float(np.median(cell["with"]) - np.median(cell["without"]))
    return {"rounds": rounds, "rows": rows, "dearer us": dearer}


def _row(what: str, times: list[float]) -> dict[str, Any]:
    return {"what": what, **{f"p{p}": float(np.percentile(times, p)) for p in (10, 50, 90)}}
