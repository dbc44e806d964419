"""Whatever runs out, who asks for more gets a typed error, nothing leaks, and what exists is served on."""

from __future__ import annotations

import errno
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from snapserv_client import Branch, Server
from snapserv_client.errors import OverBudgetError

from snapserv.ext import fork

from ..conftest import ServerProcess, assert_nothing_more, assert_settles, statistics

Serve = Callable[..., ServerProcess]
WALK = "tests.simulations.walk:Walk"
PIDS = Path("/sys/fs/cgroup/pids")


def use_up(server: Server) -> tuple[list[Branch], OverBudgetError]:
    """Make branches until there can be no more; return them and the error."""
    made: list[Branch] = []
    root = server.snapshot("root")
    refused = 0
    while True:
        try:
            made.append(root.branch())
            refused = 0
        except OverBudgetError as error:
            refused += 1
            if refused == 5:  # not once: what the server has open for a moment is free again soon
                return made, error
            time.sleep(0.02)


def assert_served_on(server: Server, made: list[Branch]) -> None:
    """Assert that what exists can be stepped, read and dropped, and that there is room again then."""
    for branch in (made[0], made[-1]):
        assert branch.step(2).step == 2
        assert branch.read("count") == 2
    assert len(server.tree().nodes) == len(made) + 2
    for branch in made[-4:]:
        branch.drop()
    again = server.snapshot("root").branch()
    assert again.step().step == 1


def test_without_descriptors_a_fork_is_over_budget_and_new_clients_still_come_in(serve: Serve) -> None:
    server = serve(WALK, prefix=("prlimit", "--nofile=200:200"))
    with server.connect() as client:
        made, error = use_up(client)
        assert len(made) > 10
        assert error.details["errno"] == errno.EMFILE
        before = statistics(server.pid)
        for _ in range(5):
            with pytest.raises(OverBudgetError):
                made[0].snapshot()
            with pytest.raises(OverBudgetError):
                client.create(name="other")
        assert_nothing_more(server.pid, before)
        with server.connect() as newcomer:
            assert newcomer.branch(made[0].name).step().step == 1
        for branch in made[-4:]:
            branch.drop()
        assert client.snapshot("root").branch().step().step == 1


def test_the_server_has_all_descriptors_it_may_and_cells_the_usual_limit(serve: Serve) -> None:
    server = serve(WALK, prefix=("prlimit", "--nofile=256:2048"))
    with server.connect() as client:
        assert resource.prlimit(server.pid, resource.RLIMIT_NOFILE) == (2048, 2048)
        main = client.branch("main")
        assert resource.prlimit(main.info().pid, resource.RLIMIT_NOFILE) == (256, 2048)


@pytest.fixture
def pids_group() -> Iterator[Path]:
    """Make a control group that can bound processes; skip where this user cannot. To be named before ``serve``."""
    if not (PIDS / "cgroup.procs").exists() or os.geteuid() != 0:
        pytest.skip("needs root and the pids controller of cgroups, version 1")
    folder = PIDS / f"snapserv-tests-{os.getpid()}"
    folder.mkdir()
    yield folder
    folder.rmdir()


@pytest.mark.skipif(fork.mode()[0] == "fork", reason="needs clone3")
def test_without_processes_a_fork_is_over_budget_and_what_exists_is_served_on(
    pids_group: Path, serve: Serve
) -> None:
    server = serve(WALK, params={"cols": 100_000})
    with server.connect() as client:
        main = client.branch("main")
        for pid in (server.pid, main.info().pid, client.node("root").info().pid):
            (pids_group / "cgroup.procs").write_text(str(pid))
        (pids_group / "pids.max").write_text(str(int((pids_group / "pids.current").read_text()) + 20))
        made, error = use_up(client)
        assert error.details["errno"] == errno.EAGAIN
        assert len(made) == 20
        before = statistics(server.pid)
        with pytest.raises(OverBudgetError):
            main.snapshot()
        with pytest.raises(OverBudgetError):
            client.create(name="other")
        assert_nothing_more(server.pid, before)
        assert made[0].read("position").size == 100_000  # copied in a thread, which is there already
        assert_served_on(client, made)


def test_a_server_whose_log_has_a_full_disk_serves_on(serve: Serve) -> None:
    server = serve(WALK, prefix=("sh", "-c", 'exec "$@" >/dev/full 2>&1', "sh"))
    with server.connect() as client:
        made = [client.snapshot("root").branch() for _ in range(3)]
        os.kill(made[0].info().pid, 9)
        assert_settles(lambda: made[0].info().state, "dead")
        assert made[1].step(3).step == 3
        assert client.branch("main").snapshot().info().kind == "snapshot"
    assert server.log.read_text() == ""


def test_a_setup_larger_than_the_tmpfs_or_the_memory_is_over_budget_and_leaves_the_rest(serve: Serve) -> None:
    server = serve(WALK)
    with server.connect() as client:
        before = statistics(server.pid)
        with pytest.raises(OverBudgetError) as caught:
            client.create(name="other", cols=1 << 42)
        assert caught.value.details["wanted"] > caught.value.details["available"]
        assert_nothing_more(server.pid, before)
        assert client.branch("main").step().step == 1
