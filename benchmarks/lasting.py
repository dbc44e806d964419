"""What it costs to have snapshots last: saving, beside a plain write, bringing back, and the budget of memory.

``python -m benchmarks.lasting`` measures this alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from snapserv_client import Server, connect

from .tables import Check, checked, table

ROOT = Path(__file__).resolve().parents[1]
LANDER, ACTION = "gym:LunarLander-v3", {"action": 0}
PAGES, PAGES_DIRTY = "benchmarks.simulations:Pages", 1000
MIB = 1 << 20
EPISODE = 50
"""After so many ticks a lander begins anew: none lands before."""
ALONE = 3
"""So many are brought back where nothing of their tree is alive; the others beside one of them."""


@contextlib.contextmanager
def serving(folder: str, *words: str) -> Iterator[Server]:
    """Serve something with a socket in a folder, and end it as it should."""
    endpoint, (ready, told) = f"ipc://{folder}/s.sock", os.pipe()
    command = [sys.executable, "-m", "snapserv", "serve", *words, "--endpoint", endpoint, "--quiet"]
    process = subprocess.Popen([*command, "--ready-fd", str(told)], pass_fds=[told], cwd=ROOT)
    os.close(told)
    with os.fdopen(ready) as answer:
        said = json.loads(answer.readline())
    if "error" in said:
        raise RuntimeError(said["error"])
    try:
        with connect(endpoint) as server:
            yield server
    finally:
        process.terminate()
        process.wait()


def measure(rounds: int, many: int) -> dict[str, Any]:
    """Return what saving, bringing back and the budget cost.

    Args:
        rounds: How many snapshots are saved and brought back.
        many: How many snapshots are to lie in a store under a budget that holds few of their processes.
    """
    rows = [
        _saving("LunarLander, a tick after another", [LANDER], ACTION, rounds),
        _saving(
            f"1 GiB, {PAGES_DIRTY:,} changed pages", [PAGES, "--param", f"pages={1 << 18}"],
            {"dirty": PAGES_DIRTY, "where": "random"}, rounds,
        ),
    ]  # fmt: skip
    return {
        "saving": rows,
        "back": _bringing_back(rounds),
        "verb": _verb(rounds * 10),
        "budget": _budget(many),
    }


def tables(measured: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return what was measured, as tables by their titles."""
    return {
        "Saving a snapshot": measured["saving"],
        "Bringing one back": measured["back"],
        "A snapshot, with a store and without": measured["verb"],
        "More snapshots than memory holds": [measured["budget"]],
    }


def goals(measured: dict[str, Any]) -> list[Check]:
    """Return what should come of it."""
    lander, pages = measured["saving"]
    alone, beside, _ = measured["back"]
    without, idle, meanwhile = measured["verb"]
    budget = measured["budget"]
    return [
        ("saving a snapshot of LunarLander, ms", lander["saved p50 ms"], "≤", 30.0),
        ("… MiB", lander["MiB"], "≤", 1.0),
        ("saving a snapshot of 1 GiB with 1,000 changed pages, ms", pages["saved p50 ms"], "≤", 60.0),
        ("… MiB", pages["MiB"], "≤", 2.0),
        ("a branch of a stored LunarLander, a relative alive, ms", beside["p50 ms"], "≤", 15.0),
        ("… alone, ms", alone["p50 ms"], "≤", 60.0),
        (
            "a snapshot with a store over one without, p50, µs more",
            (idle["snapshot p50 ms"] - without["snapshot p50 ms"]) * 1e3,
            "≤", 50.0,
        ),
        (
            "snapshot p99 while all are saved, over that without a store",
            meanwhile["p99 ms"] / without["p99 ms"],
            "≤", 2.0,
        ),
        (f"of {budget['snapshots']:,} snapshots under a small budget, lost", budget["lost"], "≤", 0),
        ("a branch of any of them and its first step, p50, ms", budget["branch+step p50 ms"], "≤", 60.0),
    ]  # fmt: skip


def _ms(times: list[float], share: float = 50) -> float:
    return float(np.percentile(times, share)) * 1e3


def _timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _write(folder: str, size: int) -> float:
    """Return how long a plain write of random bytes takes until the disk has them."""
    content = random.Random(size).randbytes(size)

    def write() -> None:
        with open(f"{folder}/plain", "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    took = _timed(write)
    os.remove(f"{folder}/plain")
    return took


def _saving(what: str, words: list[str], inputs: dict[str, Any], rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="snapserv-bench-") as folder:
        took, plain, sizes = [], [], []
        with serving(folder, *words, "--store", f"{folder}/store", "--durable", "none") as server:
            main = server.branch("main")
            main.save("first")
            for _ in range(rounds):
                main.step(1, **inputs)
                snapshot = main.snapshot()
                began = time.perf_counter()
                saved = snapshot.save().saved[0]
                took.append(time.perf_counter() - began)
                sizes.append(saved.bytes)
                plain.append(_write(folder, saved.bytes))
        return {
            "what": what,
            "saved p50 ms": _ms(took),
            "p90 ms": _ms(took, 90),
            "MiB": float(np.median(sizes)) / MIB,
            "a plain write ms": _ms(plain),
        }


def _bringing_back(rounds: int) -> list[dict[str, Any]]:
    """Return how long it takes until a stored lander has stepped: alone, and beside a relative that lives."""
    with tempfile.TemporaryDirectory(prefix="snapserv-bench-") as folder:
        words = ["--store", f"{folder}/store", "--durable", "none"]
        with serving(folder, LANDER, *words) as server:
            main = server.branch("main")
            for number in range(rounds):
                main.step(1, **ACTION)
                main.save(f"n{number}")
        alone, beside, living = [], [], []
        for number in range(ALONE):
            with serving(folder, LANDER, *words) as server:
                server.load(f"n{number}", "old")
                alone.append(_timed(lambda: server.snapshot(f"old/n{number}").branch()))  # noqa: B023 - at once
                for other in range(ALONE, rounds):
                    loaded = server.load(f"n{other}")
                    beside.append(_timed(lambda: loaded.branch()))  # noqa: B023 - at once
                    living.append(_timed(lambda: loaded.branch()))  # noqa: B023 - at once
    return [
        {"what": "a branch of a stored lander, none of its tree alive", "p50 ms": _ms(alone)},
        {"what": "… a relative of it alive", "p50 ms": _ms(beside)},
        {"what": "a branch of one that lives", "p50 ms": _ms(living)},
    ]


def _verb(rounds: int) -> list[dict[str, Any]]:
    """Return what a snapshot costs: without a store and with an idle one, turn about; and while all are written."""
    with tempfile.TemporaryDirectory(prefix="snapserv-bench-") as one, contextlib.ExitStack() as served:
        other = served.enter_context(tempfile.TemporaryDirectory(prefix="snapserv-bench-"))
        servers = [
            served.enter_context(serving(one, LANDER)),
            served.enter_context(serving(other, LANDER, "--store", f"{other}/store", "--durable", "none")),
        ]
        without, idle = _snapshots(servers, rounds)
    with (
        tempfile.TemporaryDirectory(prefix="snapserv-bench-") as folder,
        serving(folder, LANDER, "--store", f"{folder}/store", "--durable", "all") as server,
    ):
        (meanwhile,) = _snapshots([server], rounds)
    rows = (("no store", without), ("a store, nothing written", idle), ("all saved meanwhile", meanwhile))
    return [
        {"what": what, "snapshot p50 ms": _ms(times), "p90 ms": _ms(times, 90), "p99 ms": _ms(times, 99)}
        for what, times in rows
    ]


def _snapshots(servers: list[Server], rounds: int) -> list[list[float]]:
    """Return how long snapshots took, of each of some servers in turn."""
    mains, times = [server.branch("main") for server in servers], [list[float]() for _ in servers]
    for number in range(rounds):
        for main, took in zip(mains, times, strict=True):
            if number % EPISODE == 0:
                main.reset()
            main.step(1, **ACTION)
            took.append(_timed(main.snapshot))
    return times


def _budget(many: int) -> dict[str, Any]:
    """Return how it goes with more snapshots than memory holds: all of them there, and random ones branched."""
    chance = random.Random(1)
    with tempfile.TemporaryDirectory(prefix="snapserv-bench-") as folder:
        words = ["--store", f"{folder}/store", "--durable", "all", "--memory", "400MiB"]
        with serving(folder, LANDER, *words) as server:
            main, names = server.branch("main"), []
            began = time.perf_counter()
            for number in range(many):
                if number % EPISODE == 0:
                    main.reset()
                main.step(1, action=chance.randrange(4))
                names.append(main.snapshot().name)
            made_s = time.perf_counter() - began
            # Bringing back is measured, and not saving: what is due is saved before.
            while any(not node.durable for node in server.tree() if node.kind == "snapshot"):
                time.sleep(1)
            tree = {node.name: node for node in server.tree()}
            lost = [name for name in names if name not in tree]
            took = []
            for name in chance.sample(names, min(100, many)):
                node = server.snapshot(name)

                def branch() -> None:
                    node.branch().step(1, **ACTION)  # noqa: B023 - at once

                took.append(_timed(branch))
            size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
            stored = sum(node.state == "stored" for node in tree.values())
            alive = sum(node.state != "stored" for node in tree.values())
    return {
        "snapshots": many,
        "lost": len(lost),
        "stored": stored,
        "processes": alive,
        "made s": made_s,
        "branch+step p50 ms": _ms(took),
        "p90 ms": _ms(took, 90),
        "store MiB": size / MIB,
    }


def main() -> None:
    """Measure it alone."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lasting", description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--many", type=int, default=10_000, help="how many snapshots lie under a small budget")
    options = parser.parse_args()
    console = Console()
    if options.rounds <= ALONE:
        parser.error(f"--rounds: more than {ALONE}, which are brought back alone")
    measured = measure(options.rounds, options.many)
    for title, rows in tables(measured).items():
        console.print(table(title, rows))
    console.print(table("Goals", checked(goals(measured))))


if __name__ == "__main__":
    main()
