"""What should come of each benchmark."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from . import curves, lasting, starting, web
from .tables import Check, checked


def goals(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return each goal of what was measured, and whether it is met."""
    checks: list[Check] = []
    for name, goals_of in GOALS.items():
        if name in results:
            checks += goals_of(results[name])
    return checked(checks)


def _of_snapshots(measured: Mapping[str, Any]) -> list[Check]:
    by_size = {row["arena MiB"]: row for row in measured["rows"] if row["pages"] == "clustered"}
    small, large = by_size[min(by_size)], by_size[max(by_size)]
    ratio = "snapshot p50 ms"
    return [
        (
            f"snapshot p50 at {large['arena MiB']} MiB over that at {small['arena MiB']} MiB",
            large[ratio] / small[ratio],
            "≤", 2.0,
        ),
        ("os.fork, 4 KiB pages, over snapshot, largest arena", large["os.fork 4K ms"] / large[ratio], "≥", 50.0),
        ("os.fork, THP, over snapshot, largest arena", large["os.fork THP ms"] / large[ratio], "≥", 3.0),
        ("snapshot p50 seen by the client, worst size, ms", max(row[ratio] for row in by_size.values()), "≤", 1.5),
        (
            "branch to the end of its first step p50, worst size, ms",
            max(row["branch+step p50 ms"] for row in by_size.values()),
            "≤", 4.0,
        ),
    ]  # fmt: skip


def _of_random(measured: list[Mapping[str, Any]]) -> list[Check]:
    return [
        (
            f"snapshot of {row['arena MiB']} MiB, random writes, over os.fork, THP",
            row["over os.fork THP"],
            "≤",
            0.35,
        )
        for row in measured
        if row["arena MiB"] >= 1024
    ]


def _of_round_trips(measured: Mapping[str, Any]) -> list[Check]:
    relayed = measured["ratio"] / measured["relay ratio"]
    return [
        ("step over raw pyzmq echo", measured["ratio"], "≤", 2.0),
        ("step of a branch of one's own over raw pyzmq echo", measured["direct"], "≤", 0.6),
        ("step over an echo by way of a third process", relayed, "≤", 2.0),
    ]


def _of_reading(measured: Mapping[str, Any]) -> list[Check]:
    by_way = {(row["pages"], row["what"]): row["GB/s"] for row in measured["rows"]}
    return [
        ("read of a large field, base image, GB/s", by_way["base image", "side channel"], "≥", 3.0),
        ("read of 8 bytes over a step", measured["ratio"], "≤", 1.2),
    ]


def _of_long_runs(measured: Mapping[str, Any]) -> list[Check]:
    return [
        (
            "snapshot of 1 GiB once every page was written and segments are re-based, over a fresh one",
            measured["re-based, p50 ms"] / measured["fresh p50 ms"],
            "≤", 3.0,
        ),
        ("longest step while re-basing, ms", measured["longest step while re-basing ms"], "≤", 50.0),
    ]  # fmt: skip


def _of_ways_back(measured: Mapping[str, Any]) -> list[Check]:
    by_pages = {row["pages"]: row for row in measured["rows"]}
    return [
        ("rewind of 64 pages of 1 GiB, in the cell, µs", by_pages[64]["rewind, in the cell, p50 us"], "≤", 150.0),
        ("rewind of 10,000 of them, µs a page", by_pages[10_000]["a page us"], "≤", 3.0),
    ]


def _of_curves(measured: Mapping[str, Any]) -> list[Check]:
    over = {row["run"]: row["over plain"] for row in measured["rows"]}
    ticks = f"{measured['ticks']:,} ticks of the wildfire"
    return [
        (f"{ticks}, recorded, over the same without", over[curves.RECORDED], "≤", 1.15),
        (f"{ticks}, until a condition, over the same without", over[curves.UNTIL], "≤", 1.15),
    ]


def _of_travel(measured: Mapping[str, Any]) -> list[Check]:
    search = measured["search"]
    return [
        (
            f"a return within a gap of {measured['gap']:,} ticks of the wildfire over stepping the gap",
            measured["rows"][1]["over stepping"],
            "≤", 1.1,
        ),
        (f"returns of a search among {search['ticks']:,} ticks", float(search["returns"]), "≤", 25.0),
    ]  # fmt: skip


def _of_expansions(measured: Mapping[str, Any]) -> list[Check]:
    return [
        ("LunarLander, 64 children one by one over one expand", measured["ratio"], "≥", 3.0),
        ("expand of 1,000 children of an arena simulation, s", measured["many s"], "≤", 0.5),
        ("expand of 1,000 children of 1 GiB that do nothing, s", measured["idle s"], "≤", 0.5),
    ]


def _of_scale(measured: Mapping[str, Any]) -> list[Check]:
    return [
        (
            f"latency at {measured['totals']['nodes']:,} nodes over that at 10: ping, step, read, the worst",
            max(measured["ratios"][verb] for verb in ("ping", "step", "read")),
            "≤", 1.5,
        )
    ]  # fmt: skip


GOALS: dict[str, Callable[[Any], list[Check]]] = {
    "snapshots": _of_snapshots,
    "random": _of_random,
    "looking": lambda measured: [
        (
            "a snapshot over one without a look at what is held, in the cell, p50, µs more",
            measured["dearer us"],
            "≤", 50.0,
        )
    ],
    "idle": lambda measured: [("an idle snapshot of 1 GiB, KiB", measured["rows"][0]["all told"], "≤", 600.0)],
    "starting": starting.goals,
    "roundtrip": _of_round_trips,
    "reading": _of_reading,
    "longrun": _of_long_runs,
    "dense": lambda measured: [
        ("first step of a branch over others, every page written", measured["ratio"], "≤", 2.0)
    ],
    "rollback": _of_ways_back,
    "curves": _of_curves,
    "travel": _of_travel,
    "expansion": _of_expansions,
    "lasting": lasting.goals,
    "scale": _of_scale,
    "web": web.goals,
}  # fmt: skip
