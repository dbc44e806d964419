"""Run every benchmark, print tables and write ``benchmarks/results/latest.json``.

``--quick`` leaves the largest arena out and takes fewer samples: a check that it runs, not a measurement.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

from rich.console import Console

from snapserv.doctor.machine import diagnose

from . import (
    atomic,
    clones,
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
)
from .figures import RESULTS
from .tables import Check, checked, table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS)
    quick = parser.parse_args().quick
    out = parser.parse_args().out
    console = Console()
    results: dict[str, Any] = {"machine": machine()}
    console.print(results["machine"])

    results["starting"] = starting.measure(3 if quick else 20)
    console.print(table("Commands, from start to end, ms", results["starting"]["rows"]))
    results["roundtrip"] = roundtrip.measure(200 if quick else 3000)
    console.print(table("Round trips, µs", results["roundtrip"]["rows"]))
    results["reading"] = reading.measure(3 if quick else 9, 64 if quick else 512)
    console.print(table("Large reads", results["reading"]["rows"]))
    console.print(table("Small reads, µs", [results["reading"]["small"]]))
    results["snapshots"] = snapshots.measure(
        sizes_mib=(64, 1024) if quick else (64, 1024, 8192), rounds=10 if quick else 60, console=console
    )
    console.print(table("Snapshots and forks with 1,000 pages dirtied between them", results["snapshots"]["rows"]))
    results["random"] = snapshots.measure_random((64, 1024) if quick else (64, 1024, 8192), console)
    console.print(table("… where 1,000 pages of a random order are read, changed and written", results["random"]))
    results["looking"] = looking.measure(20 if quick else 1000)
    console.print(table("A look at what is held, before a snapshot, µs", results["looking"]["rows"]))
    results["idle"] = idle.measure(20 if quick else 200)
    console.print(table("Memory of one more snapshot of a 1 GiB arena, KiB", results["idle"]["rows"]))
    results["longrun"] = longrun.measure_aged(10 if quick else 30)
    console.print(table("Snapshots in a long run", [results["longrun"]]))
    results["dense"] = longrun.measure_dense(3 if quick else 10)
    console.print(table("Steps that write every page", [results["dense"]]))
    results["rollback"] = rollback.measure(10 if quick else 60)
    console.print(table("Ways back", results["rollback"]["rows"]))
    results["atomic"] = atomic.measure(10 if quick else 200)
    console.print(table("Steps that happen whole or not at all", results["atomic"]["rows"]))
    results["expansion"] = expansion.measure(2 if quick else 7)
    console.print(table("Expanding", results["expansion"]["rows"]))
    results["clones"] = clones.measure(5 if quick else 50)
    console.print(table("Ways to copy somebody else's simulator", results["clones"]["rows"]))
    results["scale"] = scale.measure((10, 100) if quick else (10, 100, 1000, 10_000), 20 if quick else 60, console)
    console.print(table("Requests at ten nodes and at more, turn about, p50 µs", results["scale"]["rows"]))
    console.print(table("Memory of one more snapshot, KiB", results["scale"]["memory"]))
    console.print(table("All nodes, s", [results["scale"]["totals"]]))
    results["lasting"] = lasting.measure(5 if quick else 30, 100 if quick else 10_000)
    lasting.show(results["lasting"], console)
    results["goals"] = goals(results)
    console.print(table("Goals", results["goals"]))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n")
    if out == RESULTS:
        figures.write()
    console.print(f"wrote {out}", soft_wrap=True)
    if all(row["copy and step us"] is None for row in results["clones"]["rows"]):
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


def goals(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each goal with what was measured and whether it is met."""
    by_size = {row["arena MiB"]: row for row in results["snapshots"]["rows"] if row["pages"] == "clustered"}
    small, large = by_size[min(by_size)], by_size[max(by_size)]
    by_pages = {row["pages"]: row for row in results["rollback"]["rows"]}
    ratio = "snapshot p50 ms"
    many = results["scale"]
    checks: list[Check] = [
        (
            f"snapshot p50 at {large['arena MiB']} MiB over that at {small['arena MiB']} MiB",
            large[ratio] / small[ratio],
            "≤", 2.0,
        ),
        ("os.fork, 4 KiB pages, over snapshot, largest arena", large["os.fork 4K ms"] / large[ratio], "≥", 50.0),
        ("os.fork, THP, over snapshot, largest arena", large["os.fork THP ms"] / large[ratio], "≥", 3.0),
        ("snapshot p50 seen by the client, worst size, ms", max(row[ratio] for row in by_size.values()), "≤", 1.5),
        *(
            (f"… of {row['arena MiB']} MiB, random writes, over os.fork, THP", row["over os.fork THP"], "≤", 0.35)
            for row in results["random"]
            if row["arena MiB"] >= 1024
        ),
        (
            "branch to the end of its first step p50, worst size, ms",
            max(row["branch+step p50 ms"] for row in by_size.values()),
            "≤", 4.0,
        ),
        (
            "a snapshot over one without a look at what is held, in the cell, p50, µs more",
            results["looking"]["dearer us"],
            "≤", 50.0,
        ),
        ("an idle snapshot of 1 GiB, KiB", results["idle"]["rows"][0]["all told"], "≤", 600.0),
        *starting.goals(results["starting"]),
        ("step over raw pyzmq echo", results["roundtrip"]["ratio"], "≤", 2.0),
        ("step of a branch of one's own over raw pyzmq echo", results["roundtrip"]["direct"], "≤", 0.6),
        (
            "read of a large field, base image, GB/s",
            next(
                row["GB/s"]
                for row in results["reading"]["rows"]
                if (row["pages"], row["what"]) == ("base image", "side channel")
            ),
            "≥", 3.0,
        ),
        ("read of 8 bytes over a step", results["reading"]["ratio"], "≤", 1.2),
        (
            "step over an echo by way of a third process",
            results["roundtrip"]["ratio"] / results["roundtrip"]["relay ratio"],
            "≤", 2.0,
        ),
        (
            "snapshot of 1 GiB once every page was written and segments are re-based, over a fresh one",
            results["longrun"]["re-based, p50 ms"] / results["longrun"]["fresh p50 ms"],
            "≤", 3.0,
        ),
        ("longest step while re-basing, ms", results["longrun"]["longest step while re-basing ms"], "≤", 50.0),
        ("first step of a branch over others, every page written", results["dense"]["ratio"], "≤", 2.0),
        ("rewind of 64 pages of 1 GiB, in the cell, µs", by_pages[64]["rewind, in the cell, p50 us"], "≤", 150.0),
        ("rewind of 10,000 of them, µs a page", by_pages[10_000]["a page us"], "≤", 3.0),
        ("LunarLander, 64 children one by one over one expand", results["expansion"]["ratio"], "≥", 3.0),
        *lasting.goals(results["lasting"]),
        ("expand of 1,000 children of an arena simulation, s", results["expansion"]["many s"], "≤", 0.5),
        ("expand of 1,000 children of 1 GiB that do nothing, s", results["expansion"]["idle s"], "≤", 0.5),
        (
            f"request latency at {many['totals']['nodes']:,} nodes over that at 10: ping, step, read, the worst",
            max(many["ratios"][verb] for verb in ("ping", "step", "read")),
            "≤", 1.5,
        ),
    ]  # fmt: skip
    return checked(checks)


if __name__ == "__main__":
    main()
