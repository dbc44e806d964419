"""Nodes that wait for a server: for how long, for which one, and who is turned away."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from ..conftest import assert_settles, start_server
from .conftest import Phoenix, zombie


def test_without_a_server_nodes_wait_for_as_long_as_they_were_told_and_end(
    tmp_path: Path, phoenix: Callable[..., Phoenix]
) -> None:
    server = phoenix(options=())
    with server.connect() as client:
        client.branch("main").snapshot()
    server.kill()
    assert all(Path(f"/proc/{pid}").exists() and not zombie(pid) for pid in server.pids)
    server.rise("--fresh")
    with server.connect() as client:
        assert [node.name for node in client.tree()] == ["root", "main"]
    assert_settles(lambda: all(zombie(pid) for pid in server.pids), True)


def test_the_grace_is_over_when_it_is(tmp_path: Path, phoenix: Callable[..., Phoenix]) -> None:
    server = phoenix()
    server.process.end()
    short = start_server(server.folder, *server.targets, options=("--orphan-grace", "0.5"))
    pids = {int(pid) for pid in Path(f"/proc/{short.pid}/task/{short.pid}/children").read_text().split()}
    assert len(pids) == 2
    short.end(signal.SIGKILL)
    assert_settles(lambda: all(zombie(pid) for pid in pids), True)
    server.rise()


def test_another_simulation_is_not_served_over_the_nodes_that_wait(phoenix: Callable[..., Phoenix]) -> None:
    server = phoenix()
    server.kill()
    with pytest.raises(AssertionError, match="--fresh ends them"):
        start_server(server.folder, "tests.simulations.trouble:Trouble")
    with pytest.raises(AssertionError, match="--fresh ends them"):
        start_server(server.folder, *server.targets, params={"cols": 3})
    server.rise()
    with server.connect() as client:
        assert client.branch("main").step().step == 1


def test_who_is_no_cell_is_turned_away_from_the_adoption_socket(phoenix: Callable[..., Phoenix]) -> None:
    server = phoenix()
    path = server.folder / "s.sock.adopt"
    assert path.stat().st_mode & 0o777 == 0o600
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.settimeout(10)
        stranger.connect(str(path))
        assert stranger.recv(1) == b""
    assert_settles(lambda: "stranger_turned_away" in server.process.log.read_text(), True)
    with server.connect() as client:
        assert client.branch("main").step().step == 1
