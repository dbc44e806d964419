"""Requests that ran when the server was killed: each gets one reply, and is done once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from snapserv_client import requests
from snapserv_client.errors import NotFoundError, SimulationError, StepInterruptedError, UnreachableError
from snapserv_client.wire import MAGIC, pack

from ..conftest import assert_settles
from ..server.conftest import answer, dealer
from .conftest import Phoenix, hang


def test_a_request_that_was_interrupted_gets_its_reply_once(phoenix: Callable[..., Phoenix]) -> None:
    server = phoenix("tests.simulations.timing:Slow")
    with server.connect() as client:
        main = client.branch("main")
        main.step(1)

        def replace_the_server() -> None:
            with server.connect() as mine:
                assert_settles(lambda: mine.node("main").info().step > 10, True)
            server.kill()
            server.rise()

        killer = threading.Thread(target=replace_the_server)
        killer.start()
        result = main.step(60)  # 20 ms each: the server is killed in the middle
        killer.join()
        assert (result.step, result.ticks) == (61, 60)
        assert main.info().step == 61
        assert sum(action.ticks * action.repeat for action in main.actions()) == 61


def test_what_a_cell_finished_while_there_was_no_server_is_told_and_not_done_again(
    phoenix: Callable[..., Phoenix], tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    server = phoenix("tests.simulations.timing:Slow", params={"diary": str(diary)})
    with server.connect() as client:
        main = client.branch("main")
        pid = main.info().pid
        results: list[Any] = []

        def run() -> None:
            with server.connect() as mine:
                results.append(mine.branch("main").step(20))

        stepping = threading.Thread(target=run)
        stepping.start()
        assert_settles(lambda: main.info().step > 0, True)
        server.kill()
        assert_settles(diary.read_text, "20")  # it ends meanwhile, and nobody hears of it
        assert Path(f"/proc/{pid}").exists()
        server.rise()
        stepping.join()
        assert [(each.step, each.ticks) for each in results] == [(20, 20)]
        assert main.step(1).step == 21


def test_an_error_that_nobody_heard_is_told_as_well(phoenix: Callable[..., Phoenix], tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    server = phoenix("tests.simulations.timing:Slow", params={"diary": str(diary)})
    with server.connect() as client:
        main = client.branch("main")
        caught: list[BaseException] = []

        def run() -> None:
            with server.connect() as mine:
                try:
                    mine.branch("main").step(20, fail_at=15)
                except SimulationError as error:
                    caught.append(error)

        stepping = threading.Thread(target=run)
        stepping.start()
        assert_settles(lambda: main.info().step > 0, True)
        server.kill()
        assert_settles(diary.read_text, "failed")
        server.rise()
        stepping.join()
        assert [error.details["step"] for error in caught if isinstance(error, SimulationError)] == [14]


def test_a_reply_that_got_lost_with_the_server_is_given_again(phoenix: Callable[..., Phoenix]) -> None:
    """A client that repeats a request to the next server gets the first reply, which the last one wrote down."""
    server = phoenix()
    with server.connect() as client:
        request = requests.step("main", 3, {}, progress=False)
        connection = client._connection
        connection.run(request)
        used = connection._last_id
        taken = client.branch("main").snapshot("once")
        snapshot_id = connection._last_id
        server.kill()
        server.rise()
        for number, repeated in ((used, request), (snapshot_id, requests.snapshot("main", "once"))):
            connection._last_id = number - 1
            again = connection.run(repeated)
            assert (again.step if number == used else again.node.id) == (3 if number == used else taken.id)  # type: ignore[attr-defined]
        connection._last_id = 1000
        assert client.branch("main").info().step == 3
        assert len(client.tree().nodes) == 3


def test_an_adopted_tick_that_never_ends_can_be_killed_and_a_long_step_interrupted(
    phoenix: Callable[..., Phoenix],
) -> None:
    server = phoenix("tests.simulations.timing:Slow")
    with server.connect() as client:
        branch = client.branch("main").branch(name="long")
        errors: list[BaseException] = []

        def run() -> None:
            with server.connect() as mine:
                try:
                    mine.branch("long").step(100_000)
                except StepInterruptedError as error:
                    errors.append(error)

        stepping = threading.Thread(target=run)
        stepping.start()
        assert_settles(lambda: branch.info().step > 0, True)
        server.kill()
        server.rise()
        assert branch.info().state == "busy"
        assert branch.interrupt()
        stepping.join()
        assert len(errors) == 1
        hung = threading.Thread(target=hang, args=(server,))
        hung.start()
        assert_settles(lambda: client.node("main").info().state, "busy")
        server.kill()
        server.rise()
        # Where the cell had not read its request when the server died, the client asks for it again.
        assert_settles(lambda: client.node("main").info().state, "busy")
        assert client.branch("main").interrupt(force=True)
        hung.join()
        assert_settles(lambda: client.node("main").info().state, "dead")


def test_a_drop_and_a_failed_request_are_not_undone(phoenix: Callable[..., Phoenix]) -> None:
    server = phoenix()
    with server.connect() as client:
        snapshot = client.branch("main").snapshot("gone")
        below = snapshot.branch(name="below")
        snapshot.drop()
        client.create(name="felled")
        client.snapshot("felled/root").drop(recursive=True)
        server.kill()
        server.rise()
        with pytest.raises(NotFoundError):
            client.node("gone")
        assert below.info().parent == client.node("root").id
        assert [tree.name for tree in client.tree().trees] == ["default"]
        assert [each.name for each in client.node("below").log()] == ["root", "below"]


def test_a_client_gives_a_server_up_that_never_comes_back(
    phoenix: Callable[..., Phoenix], monkeypatch: pytest.MonkeyPatch
) -> None:
    from snapserv_client import connection

    monkeypatch.setattr(connection, "LOST_AFTER_S", 1.5)
    server = phoenix("tests.simulations.timing:Slow")
    with server.connect() as client:
        server.kill()
        with pytest.raises(UnreachableError):
            client._connection.run(requests.step("main", 1, {}, progress=False))
    server.rise()


def test_outcomes_that_were_sent_are_sent_again_by_the_next_server(phoenix: Callable[..., Phoenix]) -> None:
    server = phoenix()
    request = {
        "id": 1,
        "verb": "expand",
        "node": "main",
        "args": {"inputs": [{}] * 3, "stream": True, "keep": "all"},
    }

    def told() -> tuple[list[Any], Any]:
        with dealer(server.process.endpoint, name=b"retries") as socket:
            socket.send_multipart([MAGIC, *pack(request)])
            replies = [answer(socket) for _ in range(4)]
        assert [reply.final for reply in replies] == [False, False, False, True]
        outcomes = sorted((reply.outcome.index, reply.outcome.outputs) for reply in replies if reply.outcome)
        return outcomes, replies[-1].ok

    first = told()
    server.kill()
    server.rise()
    assert told() == first
