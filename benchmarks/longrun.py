"""What becomes of snapshots in a long run: after every page was written, and where every tick writes every page."""

from __future__ import annotations

import mmap
import time
from typing import Any

import numpy as np
from snapserv_client import Branch, Server, local

PAGE = 4096
ARENA_PAGES = (1 << 30) // PAGE
AT_ONCE = 8192
MOST_SNAPSHOTS = 400
DENSE_SIDE = 11_585
"""Rows and columns of two float32 fields that are 1 GiB together."""


def measure_aged(rounds: int, pages: int = ARENA_PAGES) -> dict[str, Any]:
    """Return milliseconds of snapshots: fresh, after every page was written, and once segments are re-based."""
    with local("benchmarks.simulations:Pages", pages=pages) as server:
        main = server.branch("main")
        fresh, longest = _snapshots(main, rounds)
        for _ in range(pages // AT_ONCE):
            main.step(dirty=AT_ONCE, where="random")
        at_once, _ = _snapshots(main, 5)
        settling, pause = 0, 0.0
        while settling < MOST_SNAPSHOTS and _private(server, main) > PAGE * pages // 4:
            _, longest_of_ten = _snapshots(main, 10)
            settling, pause = settling + 10, max(pause, longest_of_ten)
        settled, _ = _snapshots(main, rounds)
    return {
        "arena MiB": pages * PAGE >> 20,
        "fresh p50 ms": _p50(fresh),
        "every page written, p50 ms": _p50(at_once),
        "re-based, p50 ms": _p50(settled),
        "after snapshots": len(at_once) + settling,
        "longest step before ms": longest,
        "longest step while re-basing ms": pause,
    }


def measure_dense(rounds: int, side: int = DENSE_SIDE) -> dict[str, Any]:
    """Return milliseconds of steps of `gray_scott`, which writes every page: before and after a branch."""
    with local("examples.gray_scott:GrayScott", rows=side, cols=side) as server:
        main = server.branch("main")
        main.step(2)
        usual, first = [], []
        for _ in range(rounds):
            usual += [_time(main.step) for _ in range(2)]
            snapshot = main.snapshot()
            branch = snapshot.branch()
            _warm(server.spec().arena.size_bytes)
            first.append(_time(branch.step))
            branch.drop()
            snapshot.drop()
        size = server.spec().arena.size_bytes
    return {
        "arena MiB": size >> 20,
        "step p50 ms": _p50(usual),
        "first step of a branch p50 ms": _p50(first),
        "ratio": _p50(first) / _p50(usual),
    }


def _private(server: Server, branch: Branch) -> int:
    """Return how many bytes a branch holds for itself, its base images not counted."""
    snapshot = branch.snapshot()
    sizes = {node.name: node.private_bytes or 0 for node in server.tree(sizes=True).nodes}
    snapshot.drop()
    return sizes[branch.name]


def _snapshots(main: Branch, rounds: int) -> tuple[list[float], float]:
    """Return the seconds of snapshots with a small step between them, and the longest step's milliseconds."""
    times, longest = [], 0.0
    for _ in range(rounds):
        longest = max(longest, _time(lambda: main.step(dirty=1000)))
        began = time.perf_counter()
        snapshot = main.snapshot()
        times.append(time.perf_counter() - began)
        snapshot.drop()
    return times, longest * 1000


def _warm(size: int) -> None:
    """Have memory of that size behind the free pages: a virtual machine's host takes those that lie idle away."""
    with mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        area.madvise(mmap.MADV_HUGEPAGE)
        np.frombuffer(area, np.uint8)[::PAGE] = 1


def _time(call: Any) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _p50(seconds: list[float]) -> float:
    return float(np.median(seconds)) * 1000
