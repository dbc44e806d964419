"""What it costs to have snapshots last: saving, beside a plain write, bringing back, and the budget of memory."""

from __future__ import annotations

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
from snapserv_client import Server, connect

ROOT = Path(__file__).resolve().parents[1]
LANDER, ACTION = "gym:LunarLander-v3", {"action": 0}
PAGES, PAGES_DIRTY = "benchmarks.simulations:Pages", 1000
MIB = 1 << 20


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
        "verb": _verb(rounds * 4),
        "budget": _budget(many),
    }


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
        for number in range(3):
            with serving(folder, LANDER, *words) as server:
                server.load(f"n{number}", "old")
                alone.append(_timed(lambda: server.snapshot(f"old/n{number}").branch()))  # noqa: B023 - at once
                for other in range(3, rounds):
                    loaded = server.load(f"n{other}")
                    beside.append(_timed(lambda: loaded.branch()))  # noqa: B023 - at once
                    living.append(_timed(lambda: loaded.branch()))  # noqa: B023 - at once
    return [
        {"what": "a branch of a stored lander, none of its tree alive", "p50 ms": _ms(alone)},
        {"what": "… a relative of it alive", "p50 ms": _ms(beside)},
        {"what": "a branch of one that lives", "p50 ms": _ms(living)},
    ]


def _verb(rounds: int) -> list[dict[str, Any]]:
    """Return what a snapshot costs its client, without a store and with one: idle, and while it is written."""
    rows = []
    for what, words in (
        ("no store", []),
        ("a store, nothing written", ["--durable", "none"]),
        ("all saved meanwhile", ["--durable", "all"]),
    ):
        with tempfile.TemporaryDirectory(prefix="snapserv-bench-") as folder:
            store = ["--store", f"{folder}/store"] if words else []
            with serving(folder, LANDER, *store, *words) as server:
                main, took = server.branch("main"), []
                for _ in range(rounds):
                    main.step(1, **ACTION)
                    took.append(_timed(main.snapshot))
        rows.append({"what": what, "snapshot p50 ms": _ms(took), "p99 ms": _ms(took, 99)})
    return rows


def _budget(many: int) -> dict[str, Any]:
    """Return how it goes with more snapshots than memory holds: all of them there, and random ones branched."""
    chance = random.Random(1)
    with tempfile.TemporaryDirectory(prefix="snapserv-bench-") as folder:
        words = ["--store", f"{folder}/store", "--durable", "all", "--memory", "700MiB"]
        with serving(folder, LANDER, *words) as server:
            main, names = server.branch("main"), []
            began = time.perf_counter()
            for number in range(many):
                if number % 50 == 0:
                    main.reset()
                main.step(1, action=chance.randrange(4))
                names.append(main.snapshot().name)
            made_s = time.perf_counter() - began
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
    return {
        "snapshots": many,
        "lost": len(lost),
        "stored": stored,
        "made s": made_s,
        "branch+step p50 ms": _ms(took),
        "p90 ms": _ms(took, 90),
        "store MiB": size / MIB,
    }
