"""What a branch has started ends with its node, and nothing else does."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from snapserv_client import Branch, Server
from snapserv_client.errors import NodeDiedError, SimulationError

from ..conftest import ServerProcess, assert_settles
from ..refuse import REFUSE

Serve = Callable[..., ServerProcess]
TARGET = "tests.simulations.leaving:Leaving"
KINDS = ["start", "fork", "daemon"]


def alive(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


@pytest.fixture
def leaving(serve: Serve) -> Iterator[Server]:
    with serve(TARGET).connect() as server:
        yield server


def start_each(branch: Branch) -> list[int]:
    pids = [branch.call(kind) for kind in KINDS]
    assert all(map(alive, pids))
    return pids


@pytest.mark.parametrize("how", ["drop", "restore", "reset", "kill"])
def test_processes_end_with_the_node_that_started_them_and_those_of_siblings_go_on(
    leaving: Server, how: str
) -> None:
    snapshot = leaving.branch("main").snapshot()
    one, other = snapshot.branch(2)
    ending, staying = start_each(one), start_each(other)
    if how == "drop":
        one.drop()
    elif how == "restore":
        one.restore(snapshot)
    elif how == "reset":
        one.reset()
    else:
        os.kill(one.info().pid, signal.SIGKILL)
    assert_settles(lambda: [pid for pid in ending if alive(pid)], [])
    assert all(map(alive, staying))
    assert other.step().step == 1


def test_all_of_them_end_with_the_server(serve: Serve) -> None:
    process = serve(TARGET)
    with process.connect() as server:
        pids = start_each(server.branch("main"))
    process.end()
    assert not [pid for pid in pids if alive(pid)]


def test_one_that_will_not_end_is_made_to_and_one_without_an_environment_is_found(leaving: Server) -> None:
    branch = leaving.branch("main").branch()
    pids = [branch.call("fork", True), branch.call("start", bare=True)]
    branch.drop()
    assert_settles(lambda: [pid for pid in pids if alive(pid)], [])


def test_what_is_to_be_kept_outlives_its_node(leaving: Server) -> None:
    branch = leaving.branch("main").branch()
    kept, ended = branch.call("start", keep=True), branch.call("start")
    branch.drop()
    assert_settles(lambda: alive(ended), False)
    assert alive(kept)
    os.kill(kept, signal.SIGKILL)


def test_the_tracker_of_shared_memory_serves_a_nodes_siblings_when_that_is_gone(serve: Serve) -> None:
    process = serve(TARGET)
    with process.connect() as server:
        first = server.branch("main").branch()
        tracker = first.call("share")
        sibling = first.snapshot().branch()
        other = first.call("start")
        first.drop()
        assert_settles(lambda: alive(other), False)
        assert sibling.call("share") == tracker
        assert alive(tracker)
    process.end()
    assert_settles(lambda: alive(tracker), False)
    assert "died unexpectedly" not in process.log.read_text()


@pytest.mark.parametrize("how", ["raise", "crash"])
def test_a_branch_that_is_rolled_back_keeps_what_it_had_started(leaving: Server, how: str) -> None:
    branch = leaving.branch("main").branch()
    started = branch.call("start")
    for _ in range(2):
        with pytest.raises((SimulationError, NodeDiedError)):
            branch.step(how=how, atomic=True)
        assert branch.step(atomic=True).ticks == 1
    marker = leaving.branch("main").branch()
    ended = marker.call("start")
    marker.drop()
    assert_settles(lambda: alive(ended), False)
    assert alive(started)
    branch.drop()
    assert_settles(lambda: alive(started), False)


def test_where_cells_are_forked_twice_a_living_branch_keeps_what_it_has_started(serve: Serve) -> None:
    process = serve(TARGET, prefix=(*REFUSE, "clone3", "--"))
    with process.connect() as server:
        one, other = server.branch("main").snapshot().branch(2)
        staying = start_each(one)
        ending, daemon = [other.call("start"), other.call("fork")], other.call("daemon")
        other.drop()
        assert_settles(lambda: [pid for pid in ending if alive(pid)], [])
        assert all(map(alive, staying))
    for pid in (daemon, staying[-1]):
        os.kill(pid, signal.SIGKILL)


def test_children_that_the_server_had_before_are_none_of_its_affair(serve: Serve) -> None:
    process = serve(TARGET, prefix=("sh", "-c", 'sleep 600 & exec "$0" "$@"'))
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (own,) = [int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text().strip() == "sleep"]
    with process.connect() as server:
        branch = server.branch("main").branch()
        started = branch.call("start")
        branch.drop()
        assert_settles(lambda: alive(started), False)
        assert alive(own)
    process.end()
    assert alive(own)
    os.kill(own, signal.SIGKILL)
