"""How long a command takes, from start to end, beside Python alone and with pyzmq: turn about, in one run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import numpy as np
from snapserv_client import local

from .tables import Check

SNAPSERV = ("-m", "snapserv")
COMMANDS = {
    "python -c pass": ("-c", "pass"),
    "python -c 'import zmq'": ("-c", "import zmq"),
    "snapserv --version": (*SNAPSERV, "--version"),
    "snapserv --help": (*SNAPSERV, "--help"),
    "snapserv tree": (*SNAPSERV, "tree"),
    "snapserv tree --json": (*SNAPSERV, "tree", "--json"),
}
GOAL_S = 0.2


def measure(rounds: int) -> dict[str, Any]:
    """Return milliseconds, by the medians."""
    times: dict[str, list[float]] = {what: [] for what in COMMANDS}
    with local("examples.counter:Counter") as server:
        environment = {**os.environ, "SNAPSERV_ENDPOINT": server.endpoint}
        for number in range(rounds + 1):
            for what, words in COMMANDS.items():
                began = time.perf_counter()
                subprocess.run([sys.executable, *words], env=environment, stdout=subprocess.DEVNULL, check=True)
                if number:  # the first ones compile
                    times[what].append((time.perf_counter() - began) * 1000)
    rows = [
        {"what": what, **{f"p{p} ms": float(np.percentile(taken, p)) for p in (10, 50, 90)}}
        for what, taken in times.items()
    ]
    return {"rounds": rounds, "rows": rows}


def goals(measured: dict[str, Any]) -> list[Check]:
    """Return each goal with what was measured: of commands of ours alone."""
    ours = [row for row in measured["rows"] if row["what"].startswith("snapserv")]
    return [(f"{row['what']}, start to end, p50, s", row["p50 ms"] / 1000, "≤", GOAL_S) for row in ours]
