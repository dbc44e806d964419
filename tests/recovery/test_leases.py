"""A server that is killed while a client has a branch to itself: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from snapserv_client.errors import FaultedError, SimulationError

from ..conftest import assert_settles
from .conftest import Phoenix


def test_a_branch_that_was_leased_is_the_next_servers(phoenix: Callable[..., Phoenix]) -> None:
    server = phoenix()
    with server.connect() as client, client.branch("main").direct() as main:
        for _ in range(100):
            main.step()
        assert main.leased
        server.kill()
        server.rise()
        assert main.step().step == 101
        for _ in range(100):
            main.step()
        assert main.leased
        assert main.verify().ok
        assert sum(action.ticks * action.repeat for action in main.actions()) == 201


def test_a_step_that_runs_meanwhile_is_done_once(phoenix: Callable[..., Phoenix], tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    server = phoenix("tests.simulations.timing:Slow", params={"diary": str(diary)})
    with server.connect() as client, client.branch("main").direct() as main:
        main.step()
        assert main.leased

        def replace_the_server() -> None:
            assert_settles(lambda: diary.read_text() in ("9", "10", "11"), True)
            server.kill()
            server.rise()

        killer = threading.Thread(target=replace_the_server)
        killer.start()
        result = main.step(60)
        killer.join()
        assert (result.step, result.ticks, result.outputs) == (61, 60, {"count": 61})
        assert main.step().step == 62
        assert sum(action.ticks * action.repeat for action in main.actions()) == 62


def test_a_fault_that_no_server_was_told_of_is_known_to_the_next(
    phoenix: Callable[..., Phoenix], tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    server = phoenix("tests.simulations.timing:Slow", params={"diary": str(diary)})
    with server.connect() as client, client.branch("main").direct() as main:
        main.step()
        assert main.leased

        def kill_the_server() -> None:
            assert_settles(lambda: diary.read_text() in ("9", "10", "11"), True)
            server.kill()

        killer = threading.Thread(target=kill_the_server)
        killer.start()
        with pytest.raises(SimulationError):
            main.step(60, fail_at=40)
        killer.join()
        server.rise()
        with pytest.raises(FaultedError):
            main.step()
        main.clear()
        assert main.step().step == 40
