"""A branch of one's own: what a client asks its process without the server is as if it had asked the server."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from snapserv_client import Server, aio, connect, requests
from snapserv_client.channel import CHANNEL_VARIABLE
from snapserv_client.errors import (
    BadRequestError,
    FaultedError,
    NodeDiedError,
    NotFoundError,
    RequestTimeoutError,
    SimulationError,
    StepInterruptedError,
    TooLargeError,
)
from snapserv_client.sync.branch import DirectBranch

from ..conftest import ROOT, ServerProcess, assert_nothing_more, assert_settles, statistics

Serve = Callable[..., ServerProcess]
pytestmark = pytest.mark.skipif(
    os.environ.get(CHANNEL_VARIABLE) == "off", reason=f"{CHANNEL_VARIABLE}=off: there is no side channel"
)


def sockets(pid: int) -> int:
    """Return how many sockets a process holds."""
    found = 0
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found += os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:")
        except OSError:
            continue
    return found


def own(server: Server, **how: Any) -> DirectBranch:
    return server.snapshot("root").branch(**how).direct()


def test_what_is_done_directly_is_what_is_done_by_way_of_the_server(server: Server) -> None:
    plain = server.snapshot("root").branch(name="plain")
    with own(server, name="direct") as direct:
        for node in (plain, direct):
            assert node.step(drift=0.5).outputs["count"] == 1
            assert node.step(3).ticks == 3
            assert node.call("echo", {"a": [1, None, b"x"]}) == {"a": [1, None, b"x"]}
            assert node.call("total") == float(node.read("position").sum())
            with pytest.raises(BadRequestError):
                node.step(unknown=1)
            with pytest.raises(NotFoundError):
                node.call("hidden")
            with pytest.raises(BadRequestError):
                node.step(0)
            assert node.step(2, drift=-1.0).step == 6
        for _ in range(100):
            direct.step()
            plain.step()
        assert direct.leased
        assert direct.read("position", np.s_[::7]).tobytes() == plain.read("position", np.s_[::7]).tobytes()
        assert direct.read("count").shape == ()
        assert direct.leased
    np.testing.assert_array_equal(plain.read("position"), direct.read("position"))
    assert plain.call("past") == direct.call("past")
    assert [repr(action) for action in plain.actions()] == [repr(action) for action in direct.actions()]
    assert direct.verify().ok
    assert not direct.leased


def test_everything_else_of_a_branch_goes_by_way_of_the_server_and_the_lease_begins_again(server: Server) -> None:
    with own(server, name="direct") as direct:
        for _ in range(100):
            direct.step()
        snapshot = direct.snapshot("middle")
        assert snapshot.last.step == 100
        direct.step()
        assert direct.step().step == 102
        direct.restore(snapshot)
        assert direct.step().step == 101
        direct.write("count", 7)
        assert int(direct.read("count")) == 7
        assert direct.step().outputs["count"] == 8
        other = direct.branch(name="other")
        assert other.step().step == 103
        with pytest.raises(BadRequestError):
            direct.mark()
        direct.reset()
        assert direct.step().step == 1
        assert [outcome.ok for outcome in direct.expand([{}, {"drift": 1.0}])] == [True, True]
        for _ in range(100):
            direct.step()
        assert direct.leased
        assert direct.diff("root").same is False
        assert direct.verify().ok


def test_two_clients_at_one_branch_take_turns(server: Server, endpoint: str) -> None:
    server.snapshot("root").branch(name="shared")
    done: list[int] = []

    def run() -> None:
        with connect(endpoint, timeout_s=10) as mine, mine.branch("shared").direct() as direct:
            done.extend(direct.step().step for _ in range(200))

    both = [threading.Thread(target=run) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert sorted(done) == list(range(1, 401))


def test_whoever_waits_for_a_leased_branch_waits_for_one_request_at_most(server: Server, endpoint: str) -> None:
    with own(server, name="leased") as direct, connect(endpoint, timeout_s=10) as other:
        direct.step()
        assert direct.leased
        began = time.monotonic()
        assert other.branch("leased").step().step == 2
        assert other.branch("leased").read("count") == 2
        assert time.monotonic() - began < 5
        assert direct.step().step == 3


def test_a_client_that_is_stopped_keeps_nobody_from_the_branch(server: Server) -> None:
    server.snapshot("root").branch(name="stopped")
    script = f"""
import numpy as np, sys, time
from snapserv_client import connect
with connect({server.endpoint!r}, timeout_s=10) as client, client.branch("stopped").direct() as direct:
    direct.step()
    assert direct.leased
    print("leased", flush=True)
    direct.call("echo", np.zeros(1 << 22))
"""
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "leased\n"
        client.send_signal(signal.SIGSTOP)
        assert server.branch("stopped").step().step == 2
        client.send_signal(signal.SIGCONT)
        assert client.wait(30) == 0


def test_of_a_client_that_dies_nothing_is_left(server: Server) -> None:
    branch = server.snapshot("root").branch(name="orphaned")
    pid = branch.call("process")["pid"]
    before = sockets(pid)
    script = f"""
import os, signal
from snapserv_client import connect
client = connect({server.endpoint!r}, timeout_s=10)
direct = client.branch("orphaned").direct().__enter__()
direct.step(3)
assert direct.leased
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert_settles(lambda: branch.info().state, "idle")
    assert sockets(pid) == before
    assert branch.step().step == 4


def test_a_lease_that_nobody_has_fetched_ends(server: Server) -> None:
    branch = server.snapshot("root").branch(name="unfetched")
    assert server._run(requests.direct(branch.id)).ticket is not None
    assert_settles(lambda: branch.info().state, "idle", within_s=15)


def test_errors_of_the_simulation_are_those_of_a_plain_step(serve: Serve) -> None:
    server = serve("tests.simulations.trouble:Trouble")
    with server.connect() as client:
        found = []
        for how in (False, True):
            branch = client.snapshot("root").branch()
            node = branch.direct() if how else branch
            if isinstance(node, DirectBranch):
                node.__enter__()
            node.step(2)
            with pytest.raises(SimulationError) as raised:
                node.step(5, how="raise", at=4)
            assert node.info().faulted
            with pytest.raises(FaultedError):
                node.step()
            with pytest.raises(FaultedError):
                node.call("fail", "raise")
            node.clear()
            assert node.step().step == 4
            with pytest.raises(SimulationError):
                node.call("fail", "raise")
            with pytest.raises(FaultedError):
                node.step()
            found.append((raised.value.message, {**raised.value.details}, [repr(each) for each in node.actions()]))
            if isinstance(node, DirectBranch):
                node.release()
        assert found[0] == found[1]


@pytest.mark.parametrize("how", ["segfault", "kill", "exit"])
def test_the_death_of_its_process_is_told_as_ever(serve: Serve, how: str) -> None:
    server = serve("tests.simulations.trouble:Trouble")
    with server.connect() as client:
        told = []
        for number in range(2):
            branch = client.snapshot("root").branch(name=f"b{number}")
            with branch.direct() as direct:
                node = direct if number else branch
                node.step(3)
                with pytest.raises(NodeDiedError) as raised:
                    node.step(9, how=how, at=6)
                details = raised.value.details
                told.append((details["signal"], details["status"], details["step"]))
                with pytest.raises(NodeDiedError):
                    node.step()
                node.restore("root")
                assert node.step().step == 1
        assert told[0] == told[1]
        assert told[0][2] == 5


def test_a_branch_that_is_killed_while_nobody_asks_it_is_dead(server: Server) -> None:
    with own(server, name="doomed") as direct:
        direct.step(2)
        os.kill(direct.call("process")["pid"], signal.SIGKILL)
        with pytest.raises(NodeDiedError) as raised:
            direct.step()
        assert raised.value.details["step"] == 2
        direct.restore("root")
        assert direct.step().step == 1


def test_ctrl_c_stops_a_step_between_two_ticks(serve: Serve) -> None:
    server = serve("tests.simulations.timing:Slow")
    with server.connect() as client, client.branch("main").direct() as main:
        main.step()
        assert main.leased
        killer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        killer.start()
        with pytest.raises(KeyboardInterrupt):
            main.step(1000)
        stopped = main.info().step
        assert 1 < stopped < 200
        time.sleep(0.1)
        assert main.info().step == stopped
        assert main.step().step == stopped + 1


def test_an_interrupt_of_somebody_else_reaches_it(serve: Serve) -> None:
    server = serve("tests.simulations.timing:Slow")
    with server.connect() as client, server.connect() as other, client.branch("main").direct() as main:
        main.step()
        assert main.leased
        stopper = threading.Timer(0.3, lambda: told.append(connect_and_stop()))
        told: list[bool] = []

        def connect_and_stop() -> bool:
            with server.connect() as mine:
                return mine.branch("main").interrupt()

        stopper.start()
        with pytest.raises(StepInterruptedError) as raised:
            main.step(1000)
        stopper.join()
        assert told == [True]
        assert raised.value.details["ticks"] == raised.value.details["step"] - 1
        assert other.branch("main").info().state in ("idle", "busy")
        assert main.step().ticks == 1


def test_an_interrupt_of_a_branch_that_only_is_leased_stops_nothing(server: Server, endpoint: str) -> None:
    with own(server, name="idle") as direct, connect(endpoint, timeout_s=10) as other:
        for force in (False, True):
            direct.step()
            assert other.branch("idle").interrupt(force=force) is False
        for _ in range(3):
            direct.step()
        assert direct.step().step == 6


def test_a_hanging_step_is_killed_by_force(serve: Serve) -> None:
    server = serve("tests.simulations.timing:Slow")
    with server.connect() as client, client.branch("main").direct() as main:
        main.step()

        def kill() -> None:
            with server.connect() as mine:
                mine.branch("main").interrupt(force=True)

        killer = threading.Timer(0.3, kill)
        killer.start()
        with pytest.raises(NodeDiedError):
            main.step(hang=True)
        killer.join()
        main.restore("root")
        assert main.step().step == 1


def test_who_waits_no_longer_gets_the_next_reply_and_not_a_late_one(serve: Serve) -> None:
    server = serve("tests.simulations.timing:Slow")
    with server.connect() as client, client.branch("main").direct() as main:
        main.step()
        assert main.leased
        with pytest.raises(RequestTimeoutError):
            main.step(20, timeout_s=0.1)
        assert main.step().step == 22


def test_progress_is_reported(serve: Serve) -> None:
    server = serve("tests.simulations.timing:Slow")
    with server.connect() as client, client.branch("main").direct() as main:
        seen: list[tuple[int, int]] = []
        main.step(20, progress=lambda done, total: seen.append((done, total)))
        assert main.leased
        assert seen
        assert all(total == 20 and 0 < done < 20 for done, total in seen)


def test_a_callback_may_ask_the_branch_itself(serve: Serve) -> None:
    server = serve("tests.simulations.timing:Slow")
    with server.connect() as client, client.branch("main").direct() as main:
        found: list[int] = []

        def look(done: int, total: int) -> None:
            if not found:
                found.append(int(main.read("count")))

        assert main.step(20, progress=look).step == 20
        assert found == [20]


def test_atomic_steps_and_their_limits_are_the_servers(serve: Serve) -> None:
    server = serve("tests.simulations.trouble:Trouble")
    with server.connect() as client, client.branch("main").direct() as main:
        main.step(2)
        with pytest.raises(SimulationError) as raised:
            main.step(5, atomic=True, how="raise", at=4)
        assert raised.value.details["rolled_back_to"] == 2
        with pytest.raises(RequestTimeoutError):
            main.step(5, atomic=True, timeout_s=0.5, how="hang", at=4)
        assert main.step().step == 3


def test_a_server_whose_steps_are_atomic_leases_nothing(serve: Serve) -> None:
    server = serve("tests.simulations.trouble:Trouble", options=("--atomic",))
    with server.connect() as client, client.branch("main").direct() as main:
        assert not main.leased
        with pytest.raises(SimulationError) as raised:
            main.step(5, how="raise", at=4)
        assert raised.value.details["rolled_back_to"] == 0


def test_a_branch_that_takes_snapshots_by_itself_goes_on_doing_so(server: Server) -> None:
    with own(server, name="ladder") as direct:
        direct.step(5)
        assert direct.leased
        direct.autosnap(every_steps=10)
        for _ in range(30):
            direct.step()
        assert not direct.leased
        taken = [node for node in server.tree().nodes if node.automatic]
        assert {node.step for node in taken} == {10, 20, 30}


def test_replies_have_the_limits_of_all_replies(server: Server) -> None:
    plain = server.snapshot("root").branch(name="plain")
    with own(server, name="direct") as direct:
        direct.step()
        for value in ("x" * (1 << 20), [np.zeros(1000)] * 300):
            codes = []
            for node in (plain, direct):
                with pytest.raises((TooLargeError, SimulationError)) as raised:
                    node.call("echo", value)
                codes.append((type(raised.value), raised.value.details.get("completed")))
            assert codes[0] == codes[1]
        large = np.arange(1 << 20, dtype=np.float64)
        assert direct.call("echo", large).tobytes() == large.tobytes()
        assert direct.step().ticks == 1


def test_a_large_read_goes_by_the_side_channel(serve: Serve) -> None:
    server = serve("tests.simulations.large:Large")
    with server.connect() as client, client.branch("main").direct() as main:
        main.step(first=3, last=9)
        assert main.leased
        assert main.read("grid").sum(dtype="f8") == client.branch("main").read("grid").sum(dtype="f8")
        assert main.step(first=1, last=2).step == 2


@pytest.mark.parametrize("whose", ["server", "client"])
def test_without_the_channel_it_is_a_branch_like_any_other(
    serve: Serve, whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve("tests.simulations.walk:Walk", **({CHANNEL_VARIABLE: "off"} if whose == "server" else {}))
    if whose == "client":
        monkeypatch.setenv(CHANNEL_VARIABLE, "off")
    with server.connect() as client, client.branch("main").direct() as main:
        assert main.step(3).step == 3
        assert not main.leased
        if whose == "server":
            assert client._run(requests.direct("main")).ticket is None


def test_steps_count_and_nothing_is_left_when_it_is_over(serve: Serve) -> None:
    server = serve("tests.simulations.walk:Walk")
    with server.connect() as client:
        main = client.branch("main")
        main.step()
        pid = main.call("process")["pid"]
        before, cell, steps = statistics(server.pid), sockets(pid), client.stats().steps
        gc.collect()
        here = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            with main.direct() as direct:
                direct.step(7)
                assert direct.leased
                assert sockets(pid) == cell + 1
            assert_settles(lambda: sockets(pid), cell)
        assert client.stats().steps == steps + 35
        assert_nothing_more(server.pid, before)
        assert len(os.listdir("/proc/self/fd")) == here


def test_what_a_simulation_forks_does_not_keep_the_stream(serve: Serve, tmp_path: Path) -> None:
    target = tmp_path / "forks.py"
    target.write_text(
        """
import os, time
from snapserv import Field, Simulation, exported
class Forks(Simulation):
    count = Field("i8")
    def step(self, inputs: object) -> None:
        self.count += 1
    @exported
    def fork(self) -> int:
        pid = os.fork()
        if pid == 0:
            time.sleep(60)
            os._exit(0)
        return pid
    @exported
    def process(self) -> int:
        return os.getpid()
"""
    )
    server = serve(f"{target}:Forks")
    with server.connect() as client, client.branch("main").direct() as main:
        main.step()
        helper = main.call("fork")
        assert main.leased
        assert_settles(lambda: sockets(helper), 0)
        os.kill(main.call("process"), signal.SIGKILL)
        with pytest.raises(NodeDiedError):
            main.step()


def test_it_is_awaited_as_well(endpoint: str, server: Server) -> None:
    async def run() -> None:
        async with await aio.connect(endpoint, timeout_s=10) as client:
            root = await client.snapshot("root")
            branches = await root.branch(2)
            async with branches[0].direct() as one, branches[1].direct() as two:
                results = await asyncio.gather(*(each.step(5) for each in (one, two, one, two)))
                assert sorted(result.step for result in results) == [5, 5, 10, 10]
                for _ in range(100):
                    await one.step()
                assert one.leased
                assert (await one.read("count")) == 110
                large = np.arange(1 << 20, dtype=np.float64)
                assert (await one.call("echo", large)).tobytes() == large.tobytes()
                await one.snapshot()
                assert (await one.step()).step == 111
                with pytest.raises(BadRequestError):
                    await one.step(unknown=3)

    asyncio.run(run())


def test_cancelling_the_task_that_waits_stops_the_step(serve: Serve) -> None:
    server = serve("tests.simulations.timing:Slow")

    async def run() -> None:
        async with await aio.connect(server.endpoint, timeout_s=10) as client:
            main = (await client.branch("main")).direct()
            async with main:
                await main.step()
                assert main.leased
                stepping = asyncio.create_task(main.step(1000))
                await asyncio.sleep(0.3)
                stepping.cancel()
                await asyncio.gather(stepping, return_exceptions=True)
                stopped = (await main.step()).step
                assert 2 < stopped < 200

    asyncio.run(run())


def test_a_request_that_was_answered_nowhere_is_done_once(serve: Serve) -> None:
    """The stream breaks at the worst of times: the step is done, and its reply is lost."""
    server = serve("tests.simulations.timing:Slow")
    with server.connect() as client, client.branch("main").direct() as main:
        main.step()
        stream = main._stream
        assert stream is not None
        request = requests.step(main.id, 10, {}, progress=False)
        request_id = client._connection.next_id()
        stream.begin(request, request_id)
        time.sleep(0.05)
        stream.close()
        result = client._connection.run(request, request_id=request_id)
        assert (result.step, result.ticks, result.outputs) == (11, 10, {"count": 11})
        assert client._connection.run(request, request_id=request_id) == result
        assert main.step().step == 12


def test_nonsense_on_the_stream_ends_the_lease_and_nothing_else(server: Server) -> None:
    branch = server.snapshot("root").branch(name="nonsense")
    for said in (b"\xff" * 64, b"\x02\x00\x00\x00" + bytes(16), b"\x01"):
        direct = branch.direct()
        direct.__enter__()
        stream = direct._stream
        assert stream is not None
        stream._socket.sendall(said)
        direct.release()
        assert branch.step().ticks == 1
