"""Snapshots and branches as the client sees them, beside os.fork of the same memory, turn about in one run."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from rich.console import Console
from snapserv_client import Branch, Server, local

from .rivals import Rival, empty_fork_s, forking_process

PAGE = 4096
DIRTY_PAGES = 1000
FIRST_ROUNDS, RANDOM_ROUNDS = 8, 20


def measure(*, sizes_mib: tuple[int, ...], rounds: int, console: Console) -> dict[str, Any]:
    """Return a row for each size and each pattern of dirty pages, in milliseconds."""
    floor = float(np.median(empty_fork_s(rounds))) * 1000
    rows = []
    for size in sizes_mib:
        for where in ("clustered", "scattered"):
            console.print(f"{size} MiB, {where}", style="dim")
            rows.append(_measure_size(size, where, rounds, floor))
    return {"dirty_pages": DIRTY_PAGES, "rounds": rounds, "rows": rows}


def _measure_size(size_mib: int, where: str, rounds: int, floor_ms: float) -> dict[str, Any]:
    size = size_mib << 20
    snapshots: list[float] = []
    forks: dict[str, list[float]] = {}
    with local("benchmarks.simulations:Pages", pages=size // PAGE) as server:
        main = server.branch("main")
        for kind, huge in (("4K", False), ("THP", True)):
            if where == "scattered" and not huge:
                continue  # it copies every page table, whatever is dirty
            with forking_process(size, huge=huge, dirty=DIRTY_PAGES) as rival:
                taken, forks[kind] = _turn_about(main, where, rival, rounds)
                snapshots += taken
        fork_ms = server.stats().fork_us_p50 / 1000
        branches = _branches(server, main, where, rounds)
    return {
        "arena MiB": size_mib,
        "pages": where,
        "snapshot p50 ms": _ms(snapshots, 50),
        "p90": _ms(snapshots, 90),
        "of it fork": fork_ms,
        "branch+step p50 ms": _ms(branches, 50),
        "os.fork 4K ms": _ms(forks["4K"], 50) if "4K" in forks else None,
        "os.fork THP ms": _ms(forks["THP"], 50),
        "empty C fork ms": floor_ms,
    }


def _turn_about(main: Branch, where: str, rival: Rival, rounds: int) -> tuple[list[float], list[float]]:
    snapshots, forks = [], []
    for number in range(rounds + 3):
        main.step(dirty=DIRTY_PAGES, where=where)
        began = time.perf_counter()
        snapshot = main.snapshot()
        took = time.perf_counter() - began
        snapshot.drop()
        fork = rival.fork_s()
        if number >= 3:
            snapshots.append(took)
            forks.append(fork)
    return snapshots, forks


def measure_random(sizes_mib: tuple[int, ...], console: Console) -> list[dict[str, Any]]:
    """Return a row for each size, in milliseconds: pages of a random order are read, changed and written back.

    Both keep the first that they made, so both pay for copies of what they write; and the more pages are private,
    the longer either takes. So both are begun anew for each size of pages of the rival, and do as much. What the
    first rounds take, while the cell finds out, is told apart.
    """
    rows = []
    for size in sizes_mib:
        row: dict[str, Any] = {"arena MiB": size}
        for kind, huge in (("THP", True), ("4K", False)):
            console.print(f"{size} MiB, random, beside os.fork in {kind}", style="dim")
            with (
                local("benchmarks.simulations:Pages", pages=(size << 20) // PAGE) as server,
                forking_process(size << 20, huge=huge, dirty=DIRTY_PAGES, scattered=True) as rival,
            ):
                times = _random_rounds(server.branch("main"), rival)
                fork_ms = server.stats().fork_us_p50 / 1000
            first, last = times[:FIRST_ROUNDS], times[FIRST_ROUNDS:]
            steps, snapshots, their_steps, forks = (float(each) for each in np.median(last, axis=0) * 1000)
            if huge:
                row |= {"step p50 ms": steps, "snapshot p50 ms": snapshots, "of it fork": fork_ms}
                row["dearest of the first"] = float(first[:, 1].max()) * 1000
            row[f"its step {kind}"], row[f"os.fork {kind} ms"] = their_steps, forks
            row[f"over os.fork {kind}"] = snapshots / forks
        rows.append(row)
    return rows


def _random_rounds(main: Branch, rival: Rival) -> Any:
    """Return seconds, shape (rounds, 4): a step, a snapshot, a step of the rival, its fork."""
    times = []
    for number in range(FIRST_ROUNDS + RANDOM_ROUNDS):
        began = time.perf_counter()
        main.step(dirty=DIRTY_PAGES, where="random")
        stepped = time.perf_counter()
        snapshot = main.snapshot()
        took = time.perf_counter() - stepped
        if number:  # the first one is kept, as the rival's first child is
            snapshot.drop()
        times.append((stepped - began, took, *rival.step_and_fork_s()))
    return np.array(times)


def _branches(server: Server, main: Branch, where: str, rounds: int) -> list[float]:
    """Time from asking for a branch to the end of its first step, which dirties the pages again."""
    times = []
    for number in range(rounds + 3):
        main.step(dirty=DIRTY_PAGES, where=where)
        snapshot = main.snapshot()
        began = time.perf_counter()
        branch = snapshot.branch()
        branch.step()
        took = time.perf_counter() - began
        branch.drop()
        snapshot.drop()
        if number >= 3:
            times.append(took)
    return times


def _ms(seconds: list[float], percentile: int) -> float:
    return float(np.percentile(seconds, percentile)) * 1000
