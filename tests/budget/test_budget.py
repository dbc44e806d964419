"""Memory is admitted before a fork, watched while cells work, and a runaway branch is ended alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from snapserv_client import Snapshot
from snapserv_client.errors import BadRequestError, NodeDiedError, NotFoundError, OverBudgetError

from snapserv.machine.limits import total_bytes
from snapserv.machine.sizes import parse_size

from ..conftest import ServerProcess, assert_settles

Serve = Callable[..., ServerProcess]
GLUTTON = "tests.simulations.memory:Glutton"
MIB = 1 << 20


def score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("1", 1), ("8GiB", 8 << 30), ("512m", 512 << 20), ("1.5 GB", 1_500_000_000), ("2 kib", 2048), ("3T", 3 << 40)],
)
def test_a_size_is_read_as_people_write_it(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "GiB", "-1", "8GiBs", "0", "1e9", "9999999T", "nan", "\u0664GiB GiB"])
def test_what_is_no_size_is_a_bad_request(text: str) -> None:
    with pytest.raises(BadRequestError, match="amount of memory"):
        parse_size(text)


def test_the_total_is_that_of_the_smallest_control_group(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\n")
    (tmp_path / "proc/self/cgroup").write_text("0::/a/b\n")
    (tmp_path / "cgroup/a/b").mkdir(parents=True)
    (tmp_path / "cgroup/a/b/memory.max").write_text("max\n")
    assert total_bytes(tmp_path / "proc", tmp_path / "cgroup") == 8 << 30
    (tmp_path / "cgroup/a/memory.max").write_text(f"{1 << 30}\n")
    assert total_bytes(tmp_path / "proc", tmp_path / "cgroup") == 1 << 30


def test_a_runaway_branch_is_ended_alone_and_its_client_is_told_why(serve: Serve) -> None:
    """Another branch, stepped all the while, sees no error; its longest pause is printed."""
    server = serve(GLUTTON, options=("--memory", "2GiB"))
    with server.connect() as client:
        client.branch("main").branch(2, names=["runaway", "bystander"])
        pauses: list[float] = []
        stepping, done = threading.Event(), threading.Event()

        def stand_by() -> None:
            with server.connect() as other:
                bystander = other.branch("bystander")
                while not done.is_set():
                    began = time.monotonic()
                    bystander.step()
                    pauses.append(time.monotonic() - began)
                    stepping.set()

        standing_by = threading.Thread(target=stand_by)
        standing_by.start()
        assert stepping.wait(10)
        try:
            with pytest.raises(OverBudgetError) as caught:
                client.branch("runaway").step(1 << 20, mebibytes=16)
        finally:
            done.set()
            standing_by.join()
        details = caught.value.details
        assert details["node"] == "runaway"
        assert details["limit_bytes"] == 2 << 30
        assert details["charged_bytes"] > 2 << 30
        assert details["biggest"][0]["node"] == "runaway"
        over = details["charged_bytes"] - details["limit_bytes"]
        print(f"\nlongest pause {max(pauses) * 1000:.1f} ms in {len(pauses):,} steps, {over / MIB:.0f} MiB over")
        assert client.branch("bystander").step().step == len(pauses) + 1
        with pytest.raises(NodeDiedError, match="over the budget"):
            client.branch("runaway").step()
        assert client.stats().memory.stopped == 1
        client.branch("runaway").reset()
        assert client.branch("runaway").step(mebibytes=16).step == 1


def test_a_child_of_an_expansion_that_runs_away_fails_alone(serve: Serve) -> None:
    server = serve(GLUTTON, options=("--memory", "512MiB"))
    with server.connect() as client:
        outcomes = client.branch("main").expand([{"mebibytes": 0}, {"mebibytes": 16}, {"mebibytes": 0}], steps=200)
        errors = [outcome.error for outcome in outcomes]
        assert errors[0] is None
        assert errors[2] is None
        assert isinstance(errors[1], OverBudgetError)


def test_a_setup_that_runs_away_is_over_budget(serve: Serve) -> None:
    server = serve(GLUTTON, options=("--memory", "256MiB"))
    with server.connect() as client:
        with pytest.raises(OverBudgetError):
            client.create(name="other", take=512)
        assert [tree.name for tree in client.tree().trees] == ["default"]
        assert client.branch("main").step().step == 1


def test_snapshots_that_nobody_minds_are_evicted_the_least_recently_used_first(serve: Serve) -> None:
    """Those that somebody named, tagged or pinned stay; watchers are told which ones go."""
    server = serve(GLUTTON, options=("--memory", "540MiB"))
    told: list[str] = []
    heard = threading.Event()

    def watch() -> None:
        with server.connect() as own:
            for event in own.watch(timeout_s=20):
                heard.set()
                if event.kind == "evicted" and event.node is not None:
                    told.append(event.node.name)

    with server.connect() as client:
        watching = threading.Thread(target=watch)
        watching.start()
        main = client.branch("main")
        while not heard.wait(0.05):  # a subscription takes effect when it does
            main.pin(False)

        def take(name: str | None = None) -> Snapshot:
            main.call("take", 80)
            taken = main.snapshot(name)
            main.reset()
            return taken

        named, pinned, tagged = take("named"), take(), take()
        pinned.pin()
        tagged.tag("kept")
        first, second, third = take(), take(), take()
        first.read("ballast")  # so that the second one is the least recently used
        fourth = take()
        assert_settles(lambda: second.name in {node.name for node in client.tree().nodes}, False)
        assert client.stats().memory.evictions == 1
        names = {node.name for node in client.tree().nodes}
        assert {named.name, pinned.name, tagged.name, first.name, fourth.name, "root", "main"} <= names
        assert third.name in names
    server.end()
    watching.join()
    assert told == [second.name]


def test_a_fork_is_refused_where_nothing_can_be_evicted(serve: Serve) -> None:
    server = serve(GLUTTON, options=("--memory", "340MiB"))
    with server.connect() as client:
        main = client.branch("main")
        first = main.branch(name="first")
        for number in range(4):
            main.branch(name=f"big{number}").call("take", 70)

        def branch_without_end() -> None:
            while True:  # what they hold is measured a little later
                main.branch(8)

        with pytest.raises(OverBudgetError) as caught:
            branch_without_end()
        assert caught.value.details["limit_bytes"] == 340 * MIB
        assert caught.value.details["biggest"]
        assert first.step().step == 1
        assert client.stats().memory.charged_bytes > 200 * MIB


def test_a_base_image_is_charged_once_and_what_was_dropped_no_more(serve: Serve) -> None:
    server = serve(GLUTTON, params={"ballast": 128 * MIB}, options=("--memory", "1GiB"))
    with server.connect() as client:
        main = client.branch("main")
        if client.spec().arena.backing not in ("huge_tmpfs", "memfd"):
            pytest.skip("the arena has no base image here")
        assert_settles(lambda: client.stats().memory.base_bytes, 128 * MIB)
        main.branch(8)
        big = main.branch(name="big")
        big.call("take", 100)
        assert_settles(lambda: client.stats().memory.branch_bytes > 100 * MIB, True)
        assert client.stats().memory.base_bytes == 128 * MIB
        assert client.stats().memory.charged_bytes < 400 * MIB
        big.drop()
        assert_settles(lambda: client.stats().memory.branch_bytes < 50 * MIB, True)


def test_the_oom_killer_prefers_branches_over_snapshots_over_the_master_over_the_server(serve: Serve) -> None:
    server = serve(GLUTTON)
    with server.connect() as client:
        main = client.branch("main")
        taken = main.snapshot()
        branched = taken.branch(name="branched")
        own = score(server.pid)
        assert score(client.node("root").info().pid) == own + 100
        assert score(taken.info().pid) == own + 200
        assert score(main.info().pid) == own + 400
        assert score(branched.info().pid) == own + 400


def test_an_evicted_snapshot_is_one_that_a_client_no_longer_finds(serve: Serve) -> None:
    server = serve(GLUTTON, options=("--memory", "300MiB"))
    with server.connect() as client:
        main = client.branch("main")
        main.call("take", 150)
        taken = main.snapshot()
        main.reset()
        main.call("take", 150)
        # It is counted when it is chosen, and gone when its process is.
        assert_settles(lambda: [node.name for node in client.tree()], ["root", "main"])
        assert client.stats().memory.evictions == 1
        with pytest.raises(NotFoundError):
            taken.info()
        assert main.step().step == 1
