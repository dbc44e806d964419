"""What a step costs that happens whole or not at all, beside the same step without that, in one run."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
from snapserv_client import Branch, local

PAGE = 4096
SIZES_MIB = (64, 1024)
DIRTY = (0, 1000)


def measure(rounds: int) -> dict[str, Any]:
    """Return microseconds of a step as its client sees it, plain and atomic by turns."""
    rows = []
    for size, dirty in itertools.product(SIZES_MIB, DIRTY):
        with local("benchmarks.simulations:Pages", pages=size * (1 << 20) // PAGE) as server:
            main = server.branch("main")
            taken: dict[bool, list[float]] = {False: [], True: []}
            for _ in range(3):
                main.step(dirty=dirty, atomic=True)
            for _ in range(rounds):
                for atomic, times in taken.items():
                    times.append(_step_s(main, dirty, atomic))
            plain, whole = (float(np.median(taken[atomic])) * 1e6 for atomic in (False, True))
            rows.append(
                {
                    "arena MiB": size,
                    "pages a step": dirty,
                    "plain p50 us": plain,
                    "atomic p50 us": whole,
                    "atomic p99 us": float(np.percentile(taken[True], 99)) * 1e6,
                    "ratio": whole / plain,
                    "a step more p50 us": whole - plain,
                }
            )
    return {"rounds": rounds, "rows": rows}


def _step_s(main: Branch, dirty: int, atomic: bool) -> float:
    began = time.perf_counter()
    main.step(dirty=dirty, atomic=atomic)
    return time.perf_counter() - began
