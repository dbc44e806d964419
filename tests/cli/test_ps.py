"""`ps`: servers of this user on this machine, wherever they listen, and what killed ones have left."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from ..conftest import assert_nothing_left, assert_settles, start_server
from .conftest import Terminal

WALK = "tests.simulations.walk:Walk"


@pytest.fixture
def folder(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this user's sockets are."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_path))
    made = short_path / "snapserv"
    made.mkdir(mode=0o700)
    return made


def listed(terminal: Terminal, endpoint: str) -> list[dict[str, Any]]:
    """Return what is listed at an endpoint: other tests have servers as well."""
    return [each for each in terminal.json("ps") if each["endpoint"] == endpoint]


def test_a_server_is_listed_with_what_it_serves_and_what_it_costs(folder: Path, capsys: Any) -> None:
    terminal = Terminal(capsys)
    server = start_server(folder, WALK)
    (found,) = listed(terminal, server.endpoint)
    assert (found["name"], found["pid"], found["state"], found["hint"]) == ("s", server.pid, "serving", "")
    assert (found["simulations"], found["snapshots"], found["branches"], found["dead"]) == (["Walk"], 1, 1, 0)
    assert found["memory_bytes"] > 0
    assert 0 <= found["uptime_s"] < 600
    os.kill(server.pid, signal.SIGSTOP)
    try:
        (found,) = listed(terminal, server.endpoint)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert (found["state"], found["pid"], found["uptime_s"]) == ("silent", server.pid, None)
    assert terminal.type("ps") == 0
    assert "Walk" in terminal.out
    assert server.end() == 0
    assert listed(terminal, server.endpoint) == []
    assert_nothing_left(server, folder)


def test_a_server_at_a_port_or_in_another_folder_is_listed_as_well(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, capsys: Any
) -> None:
    terminal = Terminal(capsys)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    servers = [
        (elsewhere, start_server(elsewhere, WALK)),
        (folder, start_server(folder, WALK, options=("--endpoint", "tcp://127.0.0.1:*"))),
    ]
    for where, server in servers:
        (found,) = listed(terminal, server.endpoint)
        assert (found["pid"], found["state"], found["name"]) == (server.pid, "serving", None)
        assert server.end() == 0
        assert_nothing_left(server, where)


def test_what_a_killed_server_left_is_told_with_what_to_do_about_it(folder: Path, capsys: Any) -> None:
    terminal = Terminal(capsys)
    killed = start_server(folder, WALK, options=("--orphan-grace", "60"))
    killed.end(signal.SIGKILL)
    (found,) = listed(terminal, killed.endpoint)
    assert (found["state"], found["waiting"], found["pid"]) == ("killed", 2, 0)
    assert "start it again" in found["hint"]
    after = start_server(folder, WALK)
    (found,) = listed(terminal, after.endpoint)
    assert (found["state"], found["pid"]) == ("serving", after.pid)
    assert after.end() == 0  # and with it whoever has waited for it
    start_server(folder, WALK).end(signal.SIGKILL)
    assert_settles(lambda: listed(terminal, after.endpoint)[0]["state"], "left")
    hint = listed(terminal, after.endpoint)[0]["hint"]
    assert terminal.type("ps") == 0
    assert "left" in terminal.out
    assert os.system(hint.partition(": ")[2]) == 0
    assert listed(terminal, after.endpoint) == []
    assert [each.name for each in folder.iterdir()] == ["server.log"]
