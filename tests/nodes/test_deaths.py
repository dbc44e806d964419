"""Whatever happens in one cell reaches its client as a typed error, and nobody else notices."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator

import pytest
from snapserv_client import Branch, Server
from snapserv_client.errors import (
    NodeDiedError,
    SimulationError,
    SnapservError,
    SnapservWarning,
    StepInterruptedError,
    ThreadsRunningError,
)

from snapserv.cell.link import PREFIX
from snapserv.ext import fork

from ..conftest import ServerProcess, assert_settles

Serve = Callable[..., ServerProcess]


@pytest.fixture
def trouble(serve: Serve) -> Iterator[Server]:
    with serve("tests.simulations.trouble:Trouble").connect() as server:
        yield server


def bystander(server: Server) -> Branch:
    branch: Branch = server.branch("main").branch(name="bystander")
    return branch


@pytest.mark.parametrize(
    ("how", "signal_name", "status"),
    [
        ("segfault", "SIGSEGV", None),
        ("abort", "SIGABRT", None),
        ("kill", "SIGKILL", None),
        ("exit", None, 7),
    ],
)
def test_a_cell_that_ends_says_how_and_after_which_step(
    trouble: Server, how: str, signal_name: str | None, status: int | None
) -> None:
    other = bystander(trouble)
    main = trouble.branch("main")
    with pytest.raises(NodeDiedError) as caught:
        main.step(100, how=how, at=42)
    assert caught.value.details["signal"] == signal_name
    assert caught.value.details["status"] == status
    assert caught.value.details["step"] == 41
    assert other.step(3).step == 3
    assert main.info().state == "dead"
    with pytest.raises(NodeDiedError):
        main.step()


def test_a_dead_branch_lives_again_after_a_restore_or_a_reset(trouble: Server) -> None:
    main = trouble.branch("main")
    main.step(5)
    snapshot = main.snapshot()
    with pytest.raises(NodeDiedError):
        main.step(how="segfault", at=6)
    main.restore(snapshot)
    assert main.step().step == 6
    with pytest.raises(NodeDiedError):
        main.call("fail", "abort")
    main.reset()
    assert main.step().step == 1


def test_an_exception_reaches_the_client_with_its_traceback_and_step(trouble: Server) -> None:
    main = trouble.branch("main")
    with pytest.raises(SimulationError) as caught:
        main.step(10, how="raise", at=4)
    assert "told to raise" in str(caught.value)
    assert "in fail" in caught.value.details["traceback"]
    assert caught.value.details["step"] == 3
    assert (main.info().step, main.info().state) == (3, "faulted")
    main.clear()
    assert main.step().step == 4


def test_a_killed_idle_cell_is_noticed(trouble: Server) -> None:
    main = trouble.branch("main")
    other = bystander(trouble)
    os.kill(main.info().pid, signal.SIGKILL)
    assert_settles(lambda: main.info().state, "dead")
    assert main.info().death == "killed by SIGKILL"
    assert other.step().step == 1


def test_a_killed_snapshot_is_an_error_and_its_descendants_live(trouble: Server) -> None:
    main = trouble.branch("main")
    snapshot = main.snapshot()
    branch = snapshot.branch()
    os.kill(snapshot.info().pid, signal.SIGKILL)
    assert_settles(lambda: snapshot.info().state, "dead")
    for use in (snapshot.branch, lambda: snapshot.read("count"), lambda: main.restore(snapshot)):
        with pytest.raises(NodeDiedError):
            use()
    assert branch.step().step == 1
    assert main.step().step == 1
    snapshot.drop()


def test_the_death_of_the_master_hurts_only_resets(trouble: Server) -> None:
    main = trouble.branch("main")
    main.step(2)
    root = trouble.snapshot("root")
    os.kill(root.info().pid, signal.SIGKILL)
    assert_settles(lambda: root.info().state, "dead")
    with pytest.raises(NodeDiedError):
        main.reset()
    assert main.step().step == 3
    assert main.branch().step().step == 4


def test_an_infinite_loop_delays_nobody_and_is_ended_by_force(serve: Serve) -> None:
    process = serve("tests.simulations.trouble:Trouble")
    with process.connect() as server:
        main, other = server.branch("main"), bystander(server)
        raised: list[SnapservError] = []

        def hang() -> None:
            with process.connect() as own:
                try:
                    own.branch("main").step(how="hang", at=1)
                except SnapservError as error:
                    raised.append(error)

        thread = threading.Thread(target=hang)
        thread.start()
        assert_settles(lambda: main.info().state, "busy")
        assert other.step(5).step == 5
        assert main.interrupt(force=True)
        thread.join(20)
        assert [error.code for error in raised] == ["node_died"]
        main.reset()
        assert main.step().step == 1


def test_a_stuck_branch_can_be_dropped_by_force(serve: Serve) -> None:
    process = serve("tests.simulations.trouble:Trouble")
    with process.connect() as server:
        main = server.branch("main")
        stuck = main.branch(name="stuck")

        def hang() -> None:
            with process.connect() as own, pytest.raises(NodeDiedError):
                own.branch("stuck").step(how="sleep", at=1)

        thread = threading.Thread(target=hang)
        thread.start()
        assert_settles(lambda: stuck.info().state, "busy")
        assert stuck.drop(force=True) == ["stuck"]
        thread.join(20)
        assert not thread.is_alive()


def test_a_long_step_reports_progress_and_stops_between_ticks(serve: Serve) -> None:
    process = serve("tests.simulations.walk:Walk")
    with process.connect() as server, process.connect() as other:
        main = server.branch("main")
        reports: list[tuple[int, int]] = []

        def on_progress(done: int, total: int) -> None:
            reports.append((done, total))
            if len(reports) == 2:
                assert other.branch("main").interrupt()

        with pytest.raises(StepInterruptedError) as caught:
            main.step(10**9, progress=on_progress)
        done = caught.value.details["step"]
        assert [total for _, total in reports] == [10**9] * len(reports)
        assert reports[0][0] < reports[1][0] <= done
        assert int(main.read("count")) == done == main.info().step
        assert main.step().step == done + 1


def test_an_interrupt_with_nothing_to_stop_says_so(server: Server) -> None:
    main = server.branch("main")
    assert not main.interrupt()
    assert main.step(3).step == 3


def test_a_simulation_with_threads_is_refused_by_name_and_count(trouble: Server) -> None:
    main = trouble.branch("main")
    main.call("fail", "threads")
    with pytest.raises(ThreadsRunningError) as caught:
        main.snapshot()
    assert caught.value.details["threads"] == 2
    assert caught.value.details["owners"] == ["", ""]
    assert "threads of your own must end" in caught.value.hint
    with pytest.warns(SnapservWarning, match="threads_running"):
        assert main.step().step == 1
    main.reset()
    main.snapshot()


def test_a_cell_that_closes_our_socket_is_a_death_and_not_a_hang(trouble: Server) -> None:
    with pytest.raises(NodeDiedError):
        trouble.branch("main").call("fail", "close-everything")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"x" * 100, id="text"),
        pytest.param(b"x" * 5, id="less than a prefix"),
        pytest.param(PREFIX.pack(77, 0, 0), id="unknown kind"),
        pytest.param(PREFIX.pack(fork.REPLY, 20, 3 << 40), id="impossible length"),
        pytest.param(PREFIX.pack(fork.REPLY, 6, 0) + b"\0\0\0\0\x81\xa2", id="cut off"),
        pytest.param(PREFIX.pack(fork.REPLY, 0, 0), id="empty"),
        pytest.param(PREFIX.pack(fork.FROZE, 0, 8) + bytes(8), id="answer to another question"),
    ],
)
def test_what_is_no_message_of_ours_ends_its_cell_and_says_so(trouble: Server, content: bytes) -> None:
    main, other = trouble.branch("main"), bystander(trouble)
    with pytest.raises(NodeDiedError, match="control socket of this node carried") as caught:
        main.call("garble", content)
    assert "descriptor that is not its own" in caught.value.hint
    with pytest.raises(NodeDiedError, match="control socket"):
        main.step()
    assert other.step().step == 1
    main.reset()
    assert main.step().step == 1


def test_a_result_that_cannot_be_sent_is_the_simulations_error(trouble: Server) -> None:
    main = trouble.branch("main")
    with pytest.raises(SimulationError, match="cannot be sent"):
        main.call("give_object")
    assert main.step().step == 1


def test_a_branch_that_fails_to_begin_leaves_nothing_behind(serve: Serve) -> None:
    with serve("tests.simulations.branching:Branching").connect() as server:
        main = server.branch("main")
        main.call("fail_next")
        snapshot = main.snapshot()
        before = [node.name for node in server.tree()]
        with pytest.raises(SimulationError, match="told to fail on branch"):
            snapshot.branch(3, names=["a", "b", "c"])
        with pytest.raises(SimulationError):
            main.branch()
        assert [node.name for node in server.tree()] == before
        main.reset()
        assert snapshot.info().state == "idle"
        assert server.branch("main").branch(name="a").step().step == 1
