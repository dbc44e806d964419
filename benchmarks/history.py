"""What a history costs: recording a step, hashing a large field, verifying: ``python -m benchmarks.history``."""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from snapserv_client import local

from snapserv.cell.history import STEP, History

ARENA_BYTES = 1 << 30
PAGE = 4096
DIRTY_PAGES = 1000


def main() -> None:
    table = Table("what", "")
    for what, value in measure().items():
        table.add_row(what, f"{value:,.2f}")
    Console().print(table)


def measure(size: int = ARENA_BYTES) -> dict[str, float]:
    """Return microseconds a step, bytes of 10,000 equal steps, and milliseconds of verifications."""
    history = History()
    outputs: dict[str, Any] = {"mean": 0.5, "count": 17}
    seen = {"observation": np.zeros(8, np.float32), "reward": 1.0}
    numbers = iter(range(1 << 30))
    results = {
        "record an equal step, us": _us(lambda: _record(history, {"drift": 1.0}, outputs)),
        "record a step with other inputs, us": _us(lambda: _record(history, {"drift": next(numbers)}, outputs)),
        "record a step that puts out a small array, us": _us(lambda: _record(history, {"drift": 1.0}, seen)),
    }
    history = History()
    for _ in range(10_000):
        _record(history, {"drift": 1.0}, outputs)
    results["10,000 equal steps, bytes"] = sum(map(len, [*history._runs, history._last]))
    results["the trail of their outputs, bytes"] = len(history.trail.marks)
    with local("benchmarks.simulations:Pages", pages=size // PAGE) as server:
        main = server.branch("main")
        main.step(dirty=DIRTY_PAGES, where="random")
        for name in ("first", "second"):
            began = time.perf_counter()
            assert main.verify()
            results[f"verify {DIRTY_PAGES:,} pages of {size >> 20:,} MiB, {name} time, ms"] = (
                time.perf_counter() - began
            ) * 1e3
    return results


def _record(history: History, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
    history.add(STEP, history.pack(inputs), ticks=1, told=outputs)


def _us(work: Callable[[], None], number: int = 20_000) -> float:
    return min(timeit.repeat(work, number=number, repeat=7)) / number * 1e6


if __name__ == "__main__":
    main()
