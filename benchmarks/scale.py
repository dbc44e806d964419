"""Ten thousand live snapshots of one arena: what a request, a snapshot and its memory cost when there are so many.

Two servers of the same simulation stand side by side: one keeps ten nodes, the other grows. Requests are timed turn
about between the two, so that what else the machine does reaches both alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console
from snapserv_client import Branch, Server, local

from snapserv.machine.limits import available_bytes

from .idle import ARENA_PAGES, COUNTERS, meminfo

FEW = 10
WRITTEN_PAGES = 16
PAGE_KIB = 4
NODE_BYTES = 1_200 << 10
SPARED_BYTES = 4 << 30
SERVED = "clone"
"""Of a snapshot, what the clone alone takes: the kernel's part, in the branch."""


def measure(counts: tuple[int, ...], rounds: int, console: Console) -> dict[str, Any]:
    """Return the latencies at each count of nodes, and what the largest count took in time and memory.

    Args:
        counts: How many nodes to grow to, one after another. One that there is no memory for is left out.
        rounds: How often each request is timed at each of them.
        console: Where to say how far it is.
    """
    target, pages = "benchmarks.simulations:Pages", ARENA_PAGES
    rows: list[dict[str, Any]] = []
    grown: list[dict[str, Any]] = []
    with local(target, pages=pages) as few, local(target, pages=pages) as many:
        _grow(few, FEW, WRITTEN_PAGES)
        for count in counts:
            before = many.stats().nodes
            if (count - before) * NODE_BYTES > available_bytes() - SPARED_BYTES:
                console.print(f"no memory for {count:,} nodes", style="dim")
                break
            console.print(f"{count:,} nodes", style="dim")
            for nodes, written in (((before + count) // 2, WRITTEN_PAGES), (count, 0)):
                grown.append(_grow(many, nodes, written))
            rows += _latencies(rounds, few, many, count)
        there = many.stats()
        server = {"server KiB a node": there.resident_bytes / 1024 / there.nodes, "descriptors": there.descriptors}
        totals = _totals(many)
        _, ending = _timed(many.close)
    return {
        "rows": rows,
        "ratios": {what: rows[-1][what] / rows[-2][what] for what in (*VERBS, SERVED)},
        "memory": grown[-2:],
        "totals": {"nodes": there.nodes, "create s": sum(part["s"] for part in grown), **totals, "end s": ending},
        **server,
    }


def _grow(server: Server, nodes: int, written: int) -> dict[str, Any]:
    """Take snapshots of main until there are as many nodes; return the time and the memory that they took."""
    main = server.branch("main")
    missing = max(0, nodes - server.stats().nodes)
    before, began = meminfo(), time.perf_counter()
    for _ in range(missing):
        main.step(dirty=written)
        main.snapshot()
    took, after = time.perf_counter() - began, meminfo()
    parts = {name: (after[name] - before[name]) / max(1, missing) for name in COUNTERS}
    state = written * PAGE_KIB
    return {
        "pages written between": written,
        "snapshots": missing,
        "s": took,
        "all told KiB": sum(parts.values()) - state,
        **{name: parts[name] - (state if name == "AnonPages" else 0) for name in COUNTERS},
    }


def _latencies(rounds: int, few: Server, many: Server, count: int) -> list[dict[str, Any]]:
    """Time every request of `VERBS` on both servers, turn about; return the medians in microseconds."""
    taken: list[dict[str, list[float]]] = [{what: [] for what in (*VERBS, SERVED)} for _ in range(2)]
    sides = [(few, few.branch("main"), taken[0]), (many, many.branch("main"), taken[1])]
    for _ in range(rounds):
        sides.reverse()  # whoever comes second finds the processor awake
        for verb, run in VERBS.items():
            for server, main, times in sides:
                times[verb].append(run(server, main) * 1e6)
        for _, main, times in sides:
            snapshot = main.snapshot()
            times[SERVED].append(snapshot.fork_us or 0.0)
            snapshot.drop()
    return [
        {"nodes": nodes, **{what: float(np.median(values)) for what, values in times.items()}}
        for nodes, times in zip((FEW, count), taken, strict=True)
    ]


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    result = call()
    return result, time.perf_counter() - began


def _snapshot(_: Server, main: Branch) -> float:
    main.step(dirty=WRITTEN_PAGES)
    snapshot, took = _timed(main.snapshot)
    snapshot.drop()
    return took


def _branch(server: Server, _: Branch) -> float:
    root = server.node("root")
    branch, took = _timed(root.branch)
    branch.drop()
    return took


VERBS: dict[str, Callable[[Server, Branch], float]] = {
    "ping": lambda server, _: _timed(server.ping)[1],
    "step": lambda _, main: _timed(main.step)[1],
    "read": lambda _, main: _timed(lambda: main.read("turn"))[1],
    "snapshot": _snapshot,
    "branch": _branch,
}


def _totals(server: Server) -> dict[str, Any]:
    """Return the seconds that it takes to list all nodes, to branch the deepest and step it, and to drop all."""
    tree, listing = _timed(server.tree)
    deepest = max((node for node in tree if node.kind == "snapshot"), key=lambda node: node.id)
    lineage, tracing = _timed(server.node(deepest.id).log)
    branch, branching = _timed(server.node(deepest.id).branch)
    _, stepping = _timed(lambda: branch.step(dirty=WRITTEN_PAGES))
    gone, dropping = _timed(lambda: server.node(lineage[1].id).drop(recursive=True))
    return {
        "listed": len(tree),
        "list s": listing,
        "depth": len(lineage),
        "log s": tracing,
        "branch and step s": branching + stepping,
        "dropped": len(gone),
        "drop s": dropping,
    }
