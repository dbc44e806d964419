"""Atomic steps, automatic snapshots and faults over the death of a server."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from snapserv_client import requests
from snapserv_client.errors import FaultedError, SimulationError
from snapserv_client.transport import send_frames

from ..conftest import assert_settles
from .conftest import Phoenix


def test_a_fault_that_was_cleared_stays_cleared(phoenix: Callable[..., Phoenix]) -> None:
    server = phoenix("tests.simulations.timing:Slow")
    with server.connect() as client:
        main = client.branch("main")
        with pytest.raises(SimulationError):
            main.step(3, fail_at=2)
        main.clear()
        server.kill()
        server.rise()
        assert main.info().state != "faulted"
        assert main.step(1).step == 2


def test_a_long_step_with_automatic_snapshots_goes_on_and_none_of_them_is_lost(
    phoenix: Callable[..., Phoenix],
) -> None:
    server = phoenix("tests.simulations.timing:Slow")
    with server.connect() as client:
        main = client.branch("main")
        main.autosnap(every_steps=10, keep=20)

        def replace_the_server() -> None:
            with server.connect() as mine:
                assert_settles(lambda: mine.node("main").info().step > 35, True)
            server.kill()
            server.rise()

        killer = threading.Thread(target=replace_the_server)
        killer.start()
        result = main.step(100)
        killer.join()
        assert (result.step, result.ticks, result.outputs) == (100, 100, {"count": 100})
        automatic = [node for node in client.tree() if node.automatic]
        assert [node.step for node in automatic] == list(range(10, 101, 10))
        main.step(10)
        assert client.node("auto-110").info().automatic


def test_an_atomic_step_that_fails_without_a_server_is_rolled_back_by_the_next(
    phoenix: Callable[..., Phoenix], tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    server = phoenix("tests.simulations.timing:Slow", params={"diary": str(diary)})
    with server.connect() as client:
        main = client.branch("main")
        main.step(3)
        caught: list[SimulationError] = []

        def run() -> None:
            with server.connect() as mine:
                try:
                    mine.branch("main").step(20, fail_at=15, atomic=True)
                except SimulationError as error:
                    caught.append(error)

        stepping = threading.Thread(target=run)
        stepping.start()
        assert_settles(lambda: main.info().step > 5, True)
        server.kill()
        assert_settles(diary.read_text, "failed")
        server.rise()
        stepping.join()
        # It was done again, from where it was rolled back to, and failed again.
        assert [error.details["rolled_back_to"] for error in caught] == [3]
        assert main.step(1).step == 4


@pytest.mark.parametrize("how", ["finished", "killed"])
def test_an_atomic_step_that_was_running_is_whole_or_was_never_begun(
    phoenix: Callable[..., Phoenix], tmp_path: Path, how: str
) -> None:
    diary = tmp_path / "diary"
    server = phoenix("tests.simulations.timing:Slow", params={"diary": str(diary)})
    with server.connect() as client:
        main = client.branch("main")
        main.step(3)
        results: list[Any] = []

        def run() -> None:
            with server.connect() as mine:
                results.append(mine.branch("main").step(20, atomic=True))

        stepping = threading.Thread(target=run)
        stepping.start()
        assert_settles(lambda: main.info().step > 5, True)
        pid = main.info().pid
        server.kill()
        if how == "killed":
            os.kill(pid, signal.SIGKILL)
        server.rise()
        stepping.join()
        assert [(each.step, each.ticks) for each in results] == [(23, 20)]
        assert sum(getattr(action, "ticks", 0) * action.repeat for action in main.actions()) == 23
        assert len(client.tree().nodes) == 2


def test_a_fault_outlives_the_server_that_noted_it_and_one_that_nobody_noted_is_found(
    phoenix: Callable[..., Phoenix], tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    server = phoenix("tests.simulations.timing:Slow", params={"diary": str(diary)})
    with server.connect() as client:
        main = client.branch("main")
        other = main.branch(name="other")
        with pytest.raises(SimulationError):
            main.step(1, fail_at=1)
        server.kill()
        server.rise()
        assert main.info().state == "faulted"
        with pytest.raises(FaultedError):
            main.step()
        diary.write_text("")
        vanishing = server.connect()
        send_frames(
            vanishing._connection._socket, requests.step("other", 40, {"fail_at": 30}, progress=False).frames(99)
        )
        assert_settles(lambda: other.info().step > 2, True)
        vanishing.close()
        server.kill()
        assert_settles(diary.read_text, "failed")
        server.rise()
        assert_settles(lambda: other.info().state, "faulted")
