"""Ways back: rewind in place, restore of a snapshot, and a copy of everything, in one run."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from snapserv_client import local

ARENA_BYTES = 1 << 30
PAGE = 4096


def measure(rounds: int, size: int = ARENA_BYTES) -> dict[str, Any]:
    """Return microseconds: inside the cell where it says so, and otherwise as the client sees them."""
    rows = []
    whole, other = np.ones(size, np.uint8), np.ones(size, np.uint8)
    with local("benchmarks.simulations:Pages", pages=size // PAGE) as server:
        main = server.branch("main")
        start = main.snapshot("start")
        for pages in (64, 1000, 10_000):
            main.restore(start)
            main.mark()
            inside, rewinds, restores, copies = [], [], [], []
            for _ in range(rounds):
                main.step(dirty=pages, where="random")
                began = time.perf_counter()
                gone = main.rewind()
                rewinds.append(time.perf_counter() - began)
                inside.append(gone.elapsed_us)
                assert gone.pages >= pages
            main.mark(remove=True)
            for _ in range(rounds):
                main.step(dirty=pages, where="random")
                began = time.perf_counter()
                main.restore(start)
                restores.append(time.perf_counter() - began)
            for _ in range(min(rounds, 5)):
                began = time.perf_counter()
                np.copyto(whole, other)
                copies.append(time.perf_counter() - began)
            rows.append(
                {
                    "pages": pages,
                    "rewind, in the cell, p50 us": float(np.median(inside)),
                    "a page us": float(np.median(inside)) / pages,
                    "rewind p50 us": float(np.median(rewinds)) * 1e6,
                    "restore p50 us": float(np.median(restores)) * 1e6,
                    "memcpy of all p50 us": float(np.median(copies)) * 1e6,
                }
            )
    return {"arena MiB": size >> 20, "rounds": rounds, "rows": rows}
