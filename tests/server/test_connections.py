"""Clients that left are no clients any more, and what they were told takes no more room than is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..conftest import ServerProcess, assert_settles
from .conftest import Keyed

Serve = Callable[..., ServerProcess]


def resident_mib(pid: int) -> int:
    """Return how much memory a process has, in MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) >> 8


def test_clients_are_those_that_are_connected(serve: Serve) -> None:
    process = serve("tests.simulations.walk:Walk")
    with process.connect() as server:
        others = [process.connect() for _ in range(5)]
        for other in others:
            other.branch("main").step()
        assert server.stats().clients == 6
        for other in others:
            other.close()
        assert_settles(lambda: server.stats().clients, 1)


def test_with_keys_clients_are_counted_as_well_and_strangers_are_gone_at_once(keyed: Keyed) -> None:
    with keyed.connect("ana") as ana:
        with keyed.connect("rob") as rob:
            assert rob.stats().clients == 2
        assert_settles(lambda: ana.stats().clients, 1)


def test_clients_that_come_call_for_much_and_go_leave_a_bounded_memory(serve: Serve) -> None:
    process = serve("tests.simulations.walk:Walk")

    def come_and_go() -> None:
        with process.connect() as server:
            server.branch("main").call("echo", np.zeros(40 << 20, np.uint8))

    before = resident_mib(process.pid)
    for _ in range(4):
        come_and_go()
    # What a client has not taken is ZeroMQ's for a moment longer.
    assert_settles(lambda: resident_mib(process.pid) - before < 80, True)
