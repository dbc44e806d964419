"""An atomic step or call happens whole or not at all."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from snapserv_client import Branch, Server, aio, requests
from snapserv_client.errors import (
    BadRequestError,
    FaultedError,
    NodeDiedError,
    RequestTimeoutError,
    SimulationError,
    SnapservWarning,
    StepInterruptedError,
    ThreadsRunningError,
)

from ..conftest import ServerProcess, assert_nothing_more, assert_settles, session_processes, statistics
from ..server.conftest import answer, dealer
from .conftest import elsewhere, fault

Serve = Callable[..., ServerProcess]


def told(branch: Branch) -> list[str]:
    return [str(action) for action in branch.actions()]


def test_a_simulation_that_crashes_every_100th_tick_gets_there_by_retries_alone(serve: Serve) -> None:
    """And ends as one that never crashed: nothing is lost, done twice, or left behind."""
    process = serve("tests.simulations.flaky:Flaky")
    with process.connect() as server:
        main = server.branch("main")
        before = statistics(process.pid)
        crashes: list[NodeDiedError] = []
        while main.last.step < 10_000:
            try:
                outputs = main.step(min(20, 10_000 - main.last.step), atomic=True).outputs
            except NodeDiedError as error:
                crashes.append(error)
        assert {crash.details["signal"] for crash in crashes} == {"SIGSEGV"}
        assert all(0 <= crash.details["step"] - crash.details["rolled_back_to"] < 20 for crash in crashes)
        assert outputs["count"] == int(main.read("count")) == 10_000
        assert len(crashes) == main.call("ticks_that_ran") // 100 >= 100
        assert main.actions()[0].ticks == 20  # type: ignore[union-attr]
        calm = server.create(params={"every": 10**9}, name="calm")
        assert calm.step(10_000).outputs == outputs
        calm.drop()
        server.node("calm/root").drop(recursive=True)
        assert_nothing_more(process.pid, before)


@pytest.mark.parametrize(
    ("how", "signal_name", "status"),
    [("segfault", "SIGSEGV", None), ("abort", "SIGABRT", None), ("kill", "SIGKILL", None), ("exit", None, 7)],
)
def test_an_atomic_step_whose_process_ends_is_rolled_back(
    trouble: Server, how: str, signal_name: str | None, status: int | None
) -> None:
    main = trouble.branch("main")
    main.step(3)
    identity, parent = main.id, main.info().parent
    with pytest.raises(NodeDiedError, match="rolled back to step 3") as caught:
        main.step(100, how=how, at=42, atomic=True)
    assert caught.value.details["signal"] == signal_name
    assert caught.value.details["status"] == status
    assert caught.value.details["step"] == 41
    assert caught.value.details["rolled_back_to"] == 3
    info = main.info()
    assert (info.id, info.name, info.state, info.step, info.parent) == (identity, "main", "idle", 3, parent)
    assert info.death is None
    assert int(main.read("count")) == 3
    assert main.step(2).step == 5
    assert main.verify().ok


def test_an_atomic_step_that_raises_is_rolled_back_and_leaves_no_fault_and_no_action(trouble: Server) -> None:
    main = trouble.branch("main")
    main.step(3)
    before = told(main)
    with pytest.raises(SimulationError, match="rolled back to step 3") as caught:
        main.step(10, how="raise", at=8, atomic=True)
    assert (caught.value.details["step"], caught.value.details["rolled_back_to"]) == (7, 3)
    assert "in fail" in caught.value.details["traceback"]
    assert (main.info().state, main.info().step, int(main.read("count"))) == ("idle", 3, 3)
    assert told(main) == before
    assert main.step().step == 4


def test_an_atomic_step_that_is_killed_from_outside_is_rolled_back(process: ServerProcess, trouble: Server) -> None:
    main = trouble.branch("main")
    main.step(2)
    with elsewhere(process, lambda own: own.branch("main").step(how="sleep", at=3, atomic=True)) as raised:
        assert_settles(lambda: main.info().state, "busy")
        # The simulation sleeps in the branch's own process; its backup has another.
        assert_settles(lambda: asleep(main.info().pid), True)
        os.kill(main.info().pid, signal.SIGKILL)
    assert [(error.code, error.details["rolled_back_to"]) for error in raised] == [("node_died", 2)]
    assert main.step().step == 3


def test_an_atomic_step_that_is_interrupted_by_force_is_rolled_back(
    process: ServerProcess, trouble: Server
) -> None:
    main = trouble.branch("main")
    main.step(2)
    with elsewhere(process, lambda own: own.branch("main").step(how="hang", at=3, atomic=True)) as raised:
        assert_settles(lambda: main.info().state, "busy")
        assert_settles(lambda: len(session_processes(process.pid)), 3)  # the root, main and its backup
        assert_settles(lambda: asleep(main.info().pid), True)  # it hangs, and is not freezing
        assert main.interrupt(force=True)
    assert [(error.code, error.details["rolled_back_to"]) for error in raised] == [("node_died", 2)]
    assert main.step().step == 3


def test_an_atomic_step_that_is_interrupted_is_rolled_back(process: ServerProcess, trouble: Server) -> None:
    main = trouble.branch("main")
    main.step(2)
    with elsewhere(process, lambda own: own.branch("main").step(10**12, atomic=True)) as raised:
        assert_settles(lambda: main.info().step > 2, True)
        assert main.interrupt()
    (error,) = raised
    assert (error.code, error.details["rolled_back_to"]) == ("interrupted", 2)
    assert error.details["step"] > 2
    assert main.info().step == int(main.read("count")) == 2


def test_an_atomic_call_that_is_given_up_says_where_the_branch_stands(
    process: ServerProcess, trouble: Server
) -> None:
    trouble.branch("main").step(2)
    with dealer(trouble.endpoint) as socket:
        hang = requests.call("main", "fail", ["hang"], {}, atomic=True)
        socket.send_multipart(hang.frames(1))
        assert_settles(lambda: len(session_processes(process.pid)), 3)  # the root, main and its backup
        socket.send_multipart(requests.interrupt("main", request=1).frames(2))
        replies = {reply.id: reply for reply in (answer(socket), answer(socket))}
    error = replies[1].error
    assert error is not None
    assert (error.code, error.details) == ("interrupted", {"step": 2, "rolled_back_to": 2})
    assert trouble.branch("main").step().step == 3


@pytest.mark.parametrize("how", ["hang", "sleep", ""])
def test_an_atomic_step_that_takes_too_long_is_ended_by_the_server(trouble: Server, how: str) -> None:
    main = trouble.branch("main")
    main.step(2)
    with pytest.raises(RequestTimeoutError, match="rolled back to step 2") as caught:
        main.step(10**12, how=how, at=5, atomic=True, timeout_s=0.2)
    assert caught.value.details["rolled_back_to"] == 2
    assert caught.value.details["step"] >= 4
    assert main.step().step == 3
    assert main.step(1000, atomic=True, timeout_s=30).step == 1003


def test_an_atomic_step_whose_turn_comes_too_late_is_not_begun(process: ServerProcess, trouble: Server) -> None:
    main = trouble.branch("main")

    def hang(own: Server) -> None:
        own.branch("main").step(how="hang", at=1, atomic=True, timeout_s=1.5)

    with elsewhere(process, hang) as raised:
        assert_settles(lambda: main.info().state, "busy")
        with pytest.raises(RequestTimeoutError, match="came too late") as caught:
            main.step(atomic=True, timeout_s=0.1)
    assert [error.code for error in raised] == ["timeout"]
    assert caught.value.details["rolled_back_to"] == main.info().step == 0
    assert main.step(atomic=True, timeout_s=30).step == 1


def test_a_step_that_is_not_atomic_goes_on_when_its_client_waits_no_longer(trouble: Server) -> None:
    main = trouble.branch("main")
    with pytest.raises(RequestTimeoutError):
        main.step(10**12, timeout_s=0.2)
    assert main.interrupt()
    assert_settles(lambda: main.info().state, "idle")
    assert main.info().step > 0


def test_an_atomic_call_is_rolled_back_and_one_that_is_not_faults(trouble: Server) -> None:
    main = trouble.branch("main")
    main.step(2)
    with pytest.raises(SimulationError, match="rolled back to step 2"):
        main.call("fail", "raise", atomic=True)
    with pytest.raises(NodeDiedError, match="rolled back to step 2"):
        main.call("fail", "segfault", atomic=True)
    main.call("touch", 0, 1, 7, atomic=True)
    assert int(main.read("pages")[0, 0]) == 7
    assert len(main.actions()) == 2
    with pytest.raises(SimulationError):
        main.call("fail", "raise")
    assert main.info().state == "faulted"


def test_a_result_that_cannot_be_sent_is_no_fault_but_undoes_an_atomic_call(trouble: Server) -> None:
    main = trouble.branch("main")
    with pytest.raises(SimulationError, match="cannot be sent"):
        main.call("give_object")
    assert main.info().state == "idle"
    with pytest.raises(SimulationError, match="rolled back to step 0"):
        main.call("give_object", atomic=True)


def test_atomic_can_be_the_servers_default_for_steps(serve: Serve) -> None:
    with serve("tests.simulations.trouble:Trouble", options=("--atomic",)).connect() as server:
        main = server.branch("main")
        assert server.atomic
        with pytest.raises(NodeDiedError, match="rolled back to step 0"):
            main.step(5, how="segfault", at=3)
        with pytest.raises(RequestTimeoutError, match="rolled back to step 0"):
            main.step(how="hang", at=1, timeout_s=0.2)
        with pytest.raises(SimulationError) as caught:
            main.step(5, how="raise", at=3, atomic=False)
        assert "rolled_back_to" not in caught.value.details
        assert main.info().state == "faulted"
        with pytest.raises(FaultedError):
            main.step()


def test_a_bad_input_of_an_atomic_step_changes_nothing(trouble: Server) -> None:
    main = trouble.branch("main")
    with pytest.raises(BadRequestError, match="wrong") as caught:
        main.step(wrong=1, atomic=True)
    assert "allowed: how, at" in caught.value.hint
    assert (main.info().state, main.step(atomic=True).step) == ("idle", 1)


def test_where_there_can_be_no_backup_nothing_is_begun(trouble: Server) -> None:
    main = trouble.branch("main")
    main.call("fail", "threads")
    with pytest.raises(ThreadsRunningError):
        main.step(5, atomic=True)
    assert (main.info().step, main.info().state) == (0, "idle")
    with pytest.warns(SnapservWarning, match="threads_running"):
        assert main.step().step == 1


@pytest.mark.parametrize(("how", "state"), [("raise", "faulted"), ("segfault", "dead"), ("hang", "dead")])
def test_where_the_backup_is_lost_too_the_plain_error_says_so(
    process: ServerProcess, trouble: Server, how: str, state: str
) -> None:
    main = trouble.branch("main")
    main.step(2)
    known = set(session_processes(process.pid))

    def step(own: Server) -> None:
        own.branch("main").step(10**12, how=how, at=10**5, atomic=True, timeout_s=2 if how == "hang" else None)

    with elsewhere(process, step) as raised:
        assert_settles(lambda: main.info().step > 2, True)  # not while the backup is made
        (backup,) = set(session_processes(process.pid)) - known
        os.kill(backup, signal.SIGKILL)
    (error,) = raised
    assert "could not be rolled back" in error.message
    assert error.details["rolled_back_to"] is None
    assert main.info().state == state
    main.reset()
    assert main.step().step == 1


def test_a_mark_outlives_a_roll_back(serve: Serve) -> None:
    with serve("tests.simulations.trouble:Trouble").connect() as server:
        main = server.branch("main")
        main.step(2)
        main.call("touch", 0, 2, 5)
        main.mark()
        main.step(3)
        for how, kind in (("raise", SimulationError), ("kill", NodeDiedError)):
            with pytest.raises(kind):
                main.step(9, how=how, at=7, atomic=True)
            assert main.info().step == 5
        main.call("touch", 1, 3, 9)
        assert main.rewind().step == 2
        assert main.read("pages")[:, 0].tolist() == [5, 5, 0, 0]
        assert int(main.read("count")) == 2
        assert main.verify().ok


def test_no_hook_runs_and_every_random_stream_goes_on_where_a_step_is_rolled_back(
    serve: Serve, tmp_path: Any
) -> None:
    journal = tmp_path / "journal"
    with serve("tests.simulations.branching:Hooked", params={"journal": str(journal)}).connect() as server:
        main, other = server.branch("main"), server.branch("main").branch(name="other")
        expected = [other.step().outputs for _ in range(2)]
        assert main.step().outputs == expected[0]
        before = hooks(journal)
        with pytest.raises(StepInterruptedError), server_interrupting(server, main):
            main.step(10**12, atomic=True)
        # Only what a snapshot needs: none of the author's code knows that the branch came back.
        assert hooks(journal)[len(before) :] == ["snapshot"]
        assert main.step(atomic=True).outputs == expected[1]
        main.drop()
        assert hooks(journal)[-1] == "drop"


def hooks(journal: Any) -> list[str]:
    return [line.split()[0] for line in journal.read_text().splitlines()]


@contextmanager
def server_interrupting(server: Server, branch: Branch) -> Iterator[None]:
    def interrupt() -> None:
        from snapserv_client import connect

        with connect(server.endpoint) as own:
            begun = branch.last.step
            other = own.branch(branch.name)
            assert_settles(lambda: other.info().step > begun, True)
            assert other.interrupt()

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        yield
    finally:
        thread.join(30)


def test_watchers_hear_of_a_death_and_of_the_way_back(process: ServerProcess, trouble: Server) -> None:
    main = trouble.branch("main")
    told: list[tuple[str, str]] = []
    heard = threading.Event()

    def watch() -> None:
        with process.connect() as own:
            for event in own.watch(timeout_s=20):
                told.append((event.kind, event.node.state if event.node else ""))
                heard.set()

    thread = threading.Thread(target=watch)
    thread.start()
    while not heard.wait(0.05):  # a subscription takes effect when it does
        main.pin(False)
    with pytest.raises(NodeDiedError):
        main.step(how="segfault", at=1, atomic=True)
    fault(main)
    main.clear()
    trouble.shutdown()
    thread.join(20)
    assert [each for each in told if each[0] not in ("pinned", "shutdown")] == [
        ("died", "dead"),
        ("restored", "busy"),
        ("faulted", "faulted"),
        ("cleared", "busy"),
    ]


@pytest.mark.parametrize("end", ["drop", "shutdown"])
def test_nothing_is_left_of_an_atomic_step_whose_branch_or_server_ends(process: ServerProcess, end: str) -> None:
    with process.connect() as server:
        before = statistics(process.pid)["children"]
        stuck = server.branch("main").branch(name="stuck")
        snapshot = server.node(stuck.info().parent or 0)
        with elsewhere(process, lambda own: own.branch("stuck").step(how="sleep", at=1, atomic=True)) as raised:
            assert_settles(lambda: statistics(process.pid)["children"], before + 3)
            if end == "drop":
                assert stuck.drop(force=True) == ["stuck"]
                snapshot.drop()
                assert_settles(lambda: statistics(process.pid)["children"], before)
            else:
                server.shutdown()
        assert len(raised) == 1


def test_atomic_steps_work_with_asyncio(process: ServerProcess) -> None:
    import asyncio

    async def run() -> None:
        async with await aio.connect(process.endpoint) as server:
            main = await server.branch("main")
            with pytest.raises(RequestTimeoutError, match="rolled back to step 0"):
                await main.step(how="hang", at=1, atomic=True, timeout_s=0.2)
            with pytest.raises(NodeDiedError, match="rolled back to step 0"):
                await main.call("fail", "abort", atomic=True)
            with pytest.raises(SimulationError):
                await main.step(how="raise", at=1)
            with pytest.raises(FaultedError):
                await main.step()
            await main.clear()
            assert (await main.step()).step == 1

    asyncio.run(run())


def asleep(pid: int) -> bool:
    """Return whether a process waits for the clock."""
    with open(f"/proc/{pid}/wchan") as where:
        return "nanosleep" in where.read()
