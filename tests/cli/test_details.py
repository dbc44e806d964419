"""What `show` says of a node: relatives, what it costs, and of a fault, what happened."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from snapserv_client import Server
from snapserv_client.errors import NotFoundError, SimulationError

from ..conftest import ServerProcess, assert_nothing_left, start_server
from .conftest import Terminal

Serve = Callable[..., ServerProcess]
TROUBLE = "tests.simulations.trouble:Trouble"


def test_it_says_who_the_relatives_are_and_what_the_node_costs(terminal: Terminal, server: Server) -> None:
    server.branch("main").write("position", 1.0)
    server.snapshot("s").tag("golden")
    server.snapshot("s").branch(names=["left", "right"])
    found = terminal.json("show", "golden")
    assert (found["node"]["name"], found["node"]["tags"], found["node"]["step"]) == ("s", ["golden"], 2)
    assert (found["parent"]["name"], sorted(found["children"])) == ("root", ["left", "main", "right"])
    assert (found["taken_of"], found["fault"], found["stored_bytes"]) == ("main", None, None)
    assert found["charged_bytes"] > 0
    assert terminal.json("show", "main")["node"]["private_bytes"] > 0
    assert terminal.json("show", "root")["parent"] is None
    assert terminal.type("show", "golden") == 0
    for said in ("golden", "left, right", "taken of", "root", "MiB", "since"):
        assert said in terminal.out, said


@pytest.mark.parametrize(
    "words", [("step", "main", "5", "-i", "how=raise", "-i", "at=3"), ("call", "main", "fail", "raise")]
)
def test_a_fault_is_told_with_when_and_by_which_action_and_in_the_authors_frames(
    serve: Serve, alone: Terminal, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("SNAPSERV_ENDPOINT", serve(TROUBLE).endpoint)
    alone.json("step", "main", "2")
    alone.json("write", "main", "pages", "1")
    alone.json(*words, status=1)
    alone.json("snapshot", "main", "broken")
    for name in ("main", "broken"):
        fault = alone.json("show", name)["fault"]
        assert "told to raise" in fault["message"]
        assert (fault["step"], fault["action"]) == (2, 2)
        assert fault["did"]["step"] == 2
        assert abs(fault["at"] - time.time()) < 60
        assert any("trouble.py" in line for line in fault["traceback"].splitlines())
        assert fault["traceback"].splitlines()[-1] == "ValueError: told to raise"
        assert not [line for line in fault["traceback"].splitlines() if "/snapserv/" in line]
    assert alone.type("show", "broken") == 0
    said = "step(0, how=raise, at=3) and one more" if words[0] == "step" else "call(fail, raise), which raised"
    for each in (said, "action 2", "told to raise"):
        assert each in " ".join(alone.out.split()), each
    assert "snapserv clear" not in alone.out, "a snapshot stays what it is"
    assert alone.type("show", "main") == 0
    assert "snapserv clear main" in alone.out
    alone.json("clear", "main")
    assert alone.json("show", "main")["fault"] is None
    assert alone.json("show", "broken")["fault"] is not None


def test_a_fault_is_known_to_the_server_that_comes_after_and_where_the_node_is_loaded(
    short_path: Path, tmp_path: Path
) -> None:
    options = ("--store", str(tmp_path), "--orphan-grace", "60")
    killed = start_server(short_path, TROUBLE, options=options)
    with killed.connect() as server:
        main = server.branch("main")
        with pytest.raises(SimulationError):
            main.step(3, how="raise", at=2)
        main.snapshot("broken").save()
        before = main.show().fault
        assert before is not None
    killed.end(signal.SIGKILL)
    after = start_server(short_path, TROUBLE, options=options)
    with after.connect() as server:
        assert server.branch("main").show().fault == before
        server.snapshot("broken").drop()
        server.load("broken")
        assert server.snapshot("broken").show().fault == before
        with pytest.raises(NotFoundError, match="no action 99"):
            server.branch("main").action(99)
    assert after.end() == 0
    assert_nothing_left(after, short_path)
