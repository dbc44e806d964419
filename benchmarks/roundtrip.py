"""A step of a simulation that does nothing, beside an echo of plain pyzmq: turn about, in one run."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import zmq
from snapserv_client import local

PAYLOAD = [b"SS1", bytes(64)]


def measure(rounds: int) -> dict[str, Any]:
    """Return microseconds, and the ratio of the medians."""
    with tempfile.TemporaryDirectory() as folder:
        endpoint = f"ipc://{folder}/echo.sock"
        echoing = multiprocessing.get_context("spawn").Process(target=_echo, args=(endpoint,), daemon=True)
        echoing.start()
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        dealer = context.socket(zmq.DEALER)
        dealer.connect(endpoint)

        def echo() -> None:
            dealer.send_multipart(PAYLOAD)
            dealer.recv_multipart()

        try:
            with local("benchmarks.simulations:Nothing") as server:
                main, own = server.branch("main"), server.snapshot("root").branch(name="own")
                with own.direct() as direct:
                    calls = {"raw pyzmq echo": echo, "ping": server.ping, "step": main.step}
                    times = _alternate(rounds, {**calls, "step, direct": direct.step})
                    if not direct.leased:
                        raise RuntimeError("the steps did not go directly")
        finally:
            dealer.send_multipart([b"end"])
            echoing.join()
            context.destroy(0)
    rows = [
        {"what": what, **{f"p{p}": float(np.percentile(taken, p)) * 1e6 for p in (10, 50, 90, 99)}}
        for what, taken in times.items()
    ]
    p50 = {row["what"]: row["p50"] for row in rows}
    ratio, direct = (p50[what] / p50["raw pyzmq echo"] for what in ("step", "step, direct"))
    return {"rounds": rounds, "rows": rows, "ratio": ratio, "direct": direct}


def _alternate(rounds: int, calls: dict[str, Callable[[], Any]]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {what: [] for what in calls}
    for number in range(rounds + rounds // 10):
        for what, call in calls.items():
            began = time.perf_counter()
            call()
            if number >= rounds // 10:  # the first ones warm up
                times[what].append(time.perf_counter() - began)
    return times


def _echo(endpoint: str) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.bind(endpoint)
    while (frames := router.recv_multipart())[1] != b"end":
        router.send_multipart(frames)
    context.destroy(0)
