"""Reads: a large field by way of the side channel, in a message, and as a plain copy; and of a few bytes, a step.

Turn about, in one run. The large field's pages are the base image's, or all private.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from snapserv_client import local, requests
from snapserv_client.errors import BusyError

PAGES_A_MIB = 256


def measure(rounds: int, size_mib: int = 512) -> dict[str, Any]:
    """Return milliseconds and bytes a second of large reads, and microseconds of small ones."""
    rows = [row for private in (False, True) for row in _large(rounds, size_mib, private=private)]
    small = _small(100 * rounds)
    return {"rounds": rounds, "rows": rows, "small": small, "ratio": small["read of 8 bytes us"] / small["step us"]}


def _large(rounds: int, size_mib: int, *, private: bool) -> list[dict[str, Any]]:
    with local("benchmarks.simulations:Pages", pages=size_mib * PAGES_A_MIB) as server:
        main = server.branch("main")
        main.step(dirty=size_mib * PAGES_A_MIB if private else 0)
        snapshot = main.snapshot()
        source, target = np.ones(size_mib << 20, np.uint8), np.ones(size_mib << 20, np.uint8)

        def in_a_message() -> Any:
            while True:
                with contextlib.suppress(BusyError):  # ZeroMQ has not let go of the last one yet
                    return server._run(requests.read(snapshot.id, "memory", None))
                time.sleep(0.001)

        ways: dict[str, Callable[[], Any]] = {
            "side channel": lambda: snapshot.read("memory"),
            "side channel, each page touched": lambda: snapshot.read("memory")[:, 0].sum(),
            "in a message": in_a_message,
            "numpy.copyto": lambda: np.copyto(target, source),
        }
        times: dict[str, list[float]] = {what: [] for what in ways}
        for number in range(rounds + 1):
            for what, way in ways.items():
                began = time.perf_counter()
                way()
                if number:
                    times[what].append(time.perf_counter() - began)
    pages = "private" if private else "base image"
    medians = {what: float(np.median(taken)) for what, taken in times.items()}
    return [
        {"pages": pages, "what": what, "p50 ms": median * 1e3, "GB/s": (size_mib << 20) / median / 1e9}
        for what, median in medians.items()
    ]


def _small(rounds: int) -> dict[str, float]:
    with local("benchmarks.simulations:Pages", pages=PAGES_A_MIB) as server:
        main = server.branch("main")
        ways: dict[str, Callable[[], Any]] = {
            "read of 8 bytes": lambda: main.read("turn"),
            "step": main.step,
            "ping": server.ping,
        }
        times: dict[str, list[float]] = {what: [] for what in ways}
        for number in range(rounds + rounds // 10):
            for what, way in ways.items():
                began = time.perf_counter()
                way()
                if number >= rounds // 10:
                    times[what].append(time.perf_counter() - began)
    return {f"{what} us": float(np.median(taken)) * 1e6 for what, taken in times.items()}
