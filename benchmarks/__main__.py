"""Run every benchmark, print tables and write ``benchmarks/results/latest.json``.

``--quick`` leaves the largest arena out and takes fewer samples: a check that it runs, not a measurement.
``--only`` measures some anew, and leaves what was measured of the others: rivals are always measured along.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from snapserv.doctor.machine import diagnose

from . import (
    atomic,
    clones,
    curves,
    expansion,
    figures,
    idle,
    lasting,
    longrun,
    looking,
    reading,
    rollback,
    roundtrip,
    scale,
    snapshots,
    starting,
    travel,
    web,
)
from .figures import RESULTS
from .goals import goals
from .tables import table


class Benchmark(NamedTuple):
    """One benchmark: what measures it, quickly or well, and its tables by their titles."""

    measure: Callable[[bool, Console], Any]
    tables: Callable[[Any], dict[str, list[dict[str, Any]]]]


def _rows(title: str) -> Callable[[Any], dict[str, list[dict[str, Any]]]]:
    return lambda measured: {title: measured["rows"]}


BENCHMARKS: dict[str, Benchmark] = {
    "starting": Benchmark(
        lambda quick, _: starting.measure(3 if quick else 20), _rows("Commands, from start to end, ms")
    ),
    "roundtrip": Benchmark(lambda quick, _: roundtrip.measure(200 if quick else 3000), _rows("Round trips, µs")),
    "reading": Benchmark(
        lambda quick, _: reading.measure(3 if quick else 9, 64 if quick else 512),
        lambda measured: {"Large reads": measured["rows"], "Small reads, µs": [measured["small"]]},
    ),
    "snapshots": Benchmark(
        lambda quick, console: snapshots.measure(
            sizes_mib=(64, 1024) if quick else (64, 1024, 8192), rounds=10 if quick else 60, console=console
        ),
        _rows("Snapshots and forks with 1,000 pages dirtied between them"),
    ),
    "random": Benchmark(
        lambda quick, console: snapshots.measure_random((64, 1024) if quick else (64, 1024, 8192), console),
        lambda measured: {"… where 1,000 pages of a random order are read, changed and written": measured},
    ),
    "looking": Benchmark(
        lambda quick, _: looking.measure(20 if quick else 1000),
        _rows("A look at what is held, before a snapshot, µs"),
    ),
    "idle": Benchmark(
        lambda quick, _: idle.measure(20 if quick else 200),
        _rows("Memory of one more snapshot of a 1 GiB arena, KiB"),
    ),
    "longrun": Benchmark(
        lambda quick, _: longrun.measure_aged(10 if quick else 30),
        lambda measured: {"Snapshots in a long run": [measured]},
    ),
    "dense": Benchmark(
        lambda quick, _: longrun.measure_dense(3 if quick else 10),
        lambda measured: {"Steps that write every page": [measured]},
    ),
    "rollback": Benchmark(lambda quick, _: rollback.measure(10 if quick else 60), _rows("Ways back")),
    "curves": Benchmark(
        lambda quick, _: curves.measure(3 if quick else 30), _rows("A run that is looked at after each tick")
    ),
    "travel": Benchmark(
        lambda quick, _: travel.measure(4 if quick else 30, 10_000 if quick else travel.SEARCHED),
        lambda measured: {
            "A return within a gap of automatic snapshots": measured["rows"],
            "A search for the tick at which something goes wrong": [measured["search"]],
        },
    ),
    "atomic": Benchmark(
        lambda quick, _: atomic.measure(10 if quick else 200), _rows("Steps that happen whole or not at all")
    ),
    "expansion": Benchmark(lambda quick, _: expansion.measure(2 if quick else 7), _rows("Expanding")),
    "clones": Benchmark(
        lambda quick, _: clones.measure(5 if quick else 50), _rows("Ways to copy somebody else's simulator")
    ),
    "scale": Benchmark(
        lambda quick, console: scale.measure(
            (10, 100) if quick else (10, 100, 1000, 10_000), 20 if quick else 60, console
        ),
        lambda measured: {
            "Requests at ten nodes and at more, turn about, p50 µs": measured["rows"],
            "Memory of one more snapshot, KiB": measured["memory"],
            "All nodes, s": [measured["totals"]],
        },
    ),
    "web": Benchmark(
        lambda quick, console: web.measure(300 if quick else 10_000, 10 if quick else 60, console),
        lambda measured: {f"The page at {measured['nodes']:,} nodes, ms": measured["rows"]},
    ),
    "lasting": Benchmark(
        lambda quick, _: lasting.measure(5 if quick else 30, 100 if quick else 10_000), lasting.tables
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=[*BENCHMARKS], metavar="NAME")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    console = Console()
    results: dict[str, Any] = {"machine": machine()}
    if len(asked.only) < len(BENCHMARKS) and asked.out.exists():
        results = json.loads(asked.out.read_text()) | results
    console.print(results["machine"])
    for name in asked.only:
        results[name] = BENCHMARKS[name].measure(asked.quick, console)
        for title, rows in BENCHMARKS[name].tables(results[name]).items():
            console.print(table(title, rows))
        met = goals({each: results[each] for each in asked.only[: asked.only.index(name) + 1]})
        anew = {row["what"] for row in met}
        results["goals"] = [row for row in results.get("goals", ()) if row["what"] not in anew] + met
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n")  # also where the next one fails
    console.print(table("Goals", results["goals"]))
    if asked.out == RESULTS:
        figures.write()
    console.print(f"wrote {asked.out}", soft_wrap=True)
    if "clones" in asked.only and all(row["copy and step us"] is None for row in results["clones"]["rows"]):
        raise SystemExit("no way to copy a simulator worked")  # all else that fails raises


def machine() -> dict[str, Any]:
    """Return what was measured on."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gib": round(memory / (1 << 30), 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "arena": diagnose().backing,
    }


if __name__ == "__main__":
    main()
