"""A step of a simulation that does nothing, beside an echo of plain pyzmq: turn about, in one run.

And beside an echo that goes on to a third process over a Unix socket, as a step does: no server whose simulations
have processes of their own can be faster.
"""

from __future__ import annotations

import multiprocessing
import socket
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import zmq
from snapserv_client import local

PAYLOAD = [b"SS1", bytes(64)]
MOST_BYTES = 4096
ECHO, RELAY, STEP, DIRECT = "raw pyzmq echo", "an echo by way of a third process", "step", "step, direct"


def measure(rounds: int) -> dict[str, Any]:
    """Return microseconds, and the ratios of the medians."""
    spawn = multiprocessing.get_context("spawn")
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with tempfile.TemporaryDirectory() as folder:
        endpoints = [f"ipc://{folder}/echo.sock", f"ipc://{folder}/relay.sock"]
        others = [
            spawn.Process(target=_echo, args=(endpoints[0],), daemon=True),
            spawn.Process(target=_echo, args=(endpoints[1], near), daemon=True),
            spawn.Process(target=_far, args=(far,), daemon=True),
        ]
        for each in others:
            each.start()
        near.close()
        far.close()
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        dealers = []
        for endpoint in endpoints:
            dealers.append(context.socket(zmq.DEALER))
            dealers[-1].connect(endpoint)
        try:
            with local("benchmarks.simulations:Nothing") as server:
                main, own = server.branch("main"), server.snapshot("root").branch(name="own")
                with own.direct() as direct:
                    calls = {
                        ECHO: lambda: _there_and_back(dealers[0]),
                        RELAY: lambda: _there_and_back(dealers[1]),
                        "ping": server.ping,
                        STEP: main.step,
                        DIRECT: direct.step,
                    }
                    times = _alternate(rounds, calls)
                    if not direct.leased:
                        raise RuntimeError("the steps did not go directly")
        finally:
            for dealer in dealers:
                dealer.send_multipart([b"end"])
            for each in others:
                each.join()
            context.destroy(0)
    rows = [
        {"what": what, **{f"p{p}": float(np.percentile(taken, p)) * 1e6 for p in (10, 50, 90, 99)}}
        for what, taken in times.items()
    ]
    medians = {row["what"]: row["p50"] for row in rows}
    return {
        "rounds": rounds,
        "rows": rows,
        "ratio": medians[STEP] / medians[ECHO],
        "relay ratio": medians[RELAY] / medians[ECHO],
        "direct": medians[DIRECT] / medians[ECHO],
    }


def _there_and_back(dealer: zmq.Socket[bytes]) -> None:
    dealer.send_multipart(PAYLOAD)
    dealer.recv_multipart()


def _alternate(rounds: int, calls: dict[str, Callable[[], Any]]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {what: [] for what in calls}
    for number in range(rounds + rounds // 10):
        for what, call in calls.items():
            began = time.perf_counter()
            call()
            if number >= rounds // 10:  # the first ones warm up
                times[what].append(time.perf_counter() - began)
    return times


def _echo(endpoint: str, beyond: socket.socket | None = None) -> None:
    """Send back what comes; where there is somebody beyond, what that one makes of it."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.bind(endpoint)
    while (frames := router.recv_multipart())[1] != b"end":
        if beyond is not None:
            beyond.sendall(frames[2])
            frames[2] = beyond.recv(MOST_BYTES)
        router.send_multipart(frames)
    context.destroy(0)


def _far(near: socket.socket) -> None:
    while data := near.recv(MOST_BYTES):
        near.sendall(data)
