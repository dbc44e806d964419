"""The synchronous client: results, timeouts, Ctrl-C, threads, forks, looks, private servers."""

from __future__ import annotations

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
from snapserv_client import Branch, Server, Snapshot, connect, local, number
from snapserv_client.errors import BadRequestError, RequestTimeoutError, SnapservError

from ..conftest import ROOT, ServerProcess, assert_settles
from ..simulations.walk import Walk

Serve = Callable[..., ServerProcess]


def test_a_tour_of_everything(server: Server) -> None:
    assert server.ping() > 0
    assert server.spec().simulation == "Walk"
    main = server.branch("main")
    result = main.step(5, drift=1.0)
    assert (result.step, result.ticks, result.outputs["count"]) == (5, 5, 5)
    snapshot = main.snapshot("here")
    assert isinstance(snapshot, Snapshot)
    assert snapshot.fork_us is not None
    one = snapshot.branch()
    several = snapshot.branch(2, rng="split")
    named = snapshot.branch(names=["n1", "n2"])
    assert isinstance(one, Branch)
    assert [type(node) for node in (*several, *named)] == [Branch] * 4
    assert [node.name for node in named] == ["n1", "n2"]
    main.write("position", np.arange(1000.0))
    main.write("position", -1.0, (slice(0, 10),))
    assert main.read("position", (slice(8, 12),)).tolist() == [-1.0, -1.0, 10.0, 11.0]
    assert main.read("position", 999) == 999.0
    assert main.call("total") == float(np.arange(10, 1000).sum() - 10)
    assert main.call("echo", {"a": [1, 2.5, None], "b": np.arange(3)})["b"].tolist() == [0, 1, 2]
    assert [entry.name for entry in one.log()] == ["root", "here", one.name]
    main.restore("here")
    assert main.diff(snapshot).same
    assert server.stats().snapshots == 2


def test_a_large_array_arrives_whole(server: Server) -> None:
    big = np.random.default_rng(1).random((512, 1024))
    assert np.array_equal(server.branch("main").call("echo", big), big)


def test_a_timeout_leaves_the_connection_usable_and_drops_the_late_reply(server: Server) -> None:
    main = server.branch("main")
    with pytest.raises(RequestTimeoutError, match=r"within 0\.05 s"):
        main.step(10**9, timeout_s=0.05)
    assert main.interrupt()
    assert server.spec().simulation == "Walk"
    assert main.step().outputs["count"] == main.last.step


def test_a_progress_callback_may_ask_the_server_itself(server: Server) -> None:
    main = server.branch("main")
    seen: list[int] = []

    def on_progress(done: int, total: int) -> None:
        seen.append(server.branch("main").info().step)
        if len(seen) == 3:
            main.interrupt()

    with pytest.raises(SnapservError) as caught:
        main.step(10**9, progress=on_progress)
    assert caught.value.code == "interrupted"
    assert seen == sorted(seen)


def test_doing_again_and_verifying_say_how_far_they_have_come(server: Server) -> None:
    main = server.branch("main")
    main.step(2)
    before = main.snapshot()
    main.step(20_000)
    told: dict[str, list[tuple[int, int]]] = {"replay": [], "verify": []}
    done = main.actions()[1:]
    again = server.replay(done, before, progress=lambda *far: told["replay"].append(far))
    assert again.last.step == 20_002
    assert main.verify(before, progress=lambda *far: told["verify"].append(far)).ok
    for said in told.values():
        assert said == sorted(said)
        assert {total for _, total in said} == {20_000}
        assert 0 <= said[0][0] < said[-1][0] <= 20_000


def test_what_a_progress_callback_raises_is_raised(server: Server) -> None:
    def on_progress(done: int, total: int) -> None:
        raise ZeroDivisionError

    main = server.branch("main")
    with pytest.raises(ZeroDivisionError):
        main.step(10**9, progress=on_progress)
    assert main.interrupt()
    assert main.step().ticks == 1


def test_ctrl_c_stops_the_step_between_two_ticks(server: Server) -> None:
    main = server.branch("main")

    def on_progress(done: int, total: int) -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        main.step(10**9, progress=on_progress)
    stopped = main.info()
    assert stopped.state == "idle"
    assert int(main.read("count")) == stopped.step > 0


@pytest.mark.parametrize("direct", [False, True])
def test_ctrl_c_at_any_moment_leaves_nothing_running(server: Server, direct: bool) -> None:
    main = server.branch("main")
    asked = main.direct() if direct else main

    def press(after_s: float) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        time.sleep(after_s)
        os.kill(os.getpid(), signal.SIGINT)

    def ask(key: threading.Thread) -> None:
        key.start()
        asked.step(10**9)

    for after_us in range(0, 1000, 25):
        pressing = threading.Thread(target=press, args=(after_us * 1e-6,))
        with pytest.raises(KeyboardInterrupt):
            ask(pressing)
        pressing.join()
        assert_settles(lambda: main.info().state, "idle")


def test_a_connection_is_refused_in_other_threads_and_after_close(endpoint: str) -> None:
    server = connect(endpoint, timeout_s=10)
    raised: list[Exception] = []

    def use() -> None:
        try:
            server.ping()
        except BadRequestError as error:
            raised.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert "thread" in str(raised[0])
    server.close()
    server.close()
    with pytest.raises(BadRequestError, match="closed"):
        server.ping()


def test_a_forked_child_can_neither_use_nor_end_its_parents_server() -> None:
    with local("tests.simulations.walk:Walk") as server:
        pid = os.fork()
        if pid == 0:
            try:
                server.ping()
            except BadRequestError:
                server.close()
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        assert server.branch("main").step().step == 1


def test_a_forgotten_connection_is_closed_with_a_warning(endpoint: str) -> None:
    server = connect(endpoint, timeout_s=10)
    before = len(os.listdir("/proc/self/fd"))
    kept = [server]
    del server
    with pytest.warns(ResourceWarning, match="was not closed"):
        kept.clear()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) < before


def test_nodes_servers_and_trees_look_helpful(server: Server) -> None:
    main = server.branch("main")
    snapshot = main.snapshot("before")
    snapshot.tag("golden")
    assert repr(main).startswith("<Branch main · step 0")
    assert repr(snapshot).startswith("<Snapshot before · step 0 · #golden")
    assert server.endpoint in repr(server)
    drawn = str(server.tree())
    assert drawn.splitlines() == [
        "● root · step 0",
        "● before · step 0 · #golden",
        "▶ main · step 0",
    ]


def test_local_serves_a_class_by_name_and_ends_with_the_block() -> None:
    with local(Walk, cols=5) as server:
        assert server.hello is not None
        pid, folder = server.hello.pid, Path(server.endpoint.removeprefix("ipc://")).parent
        assert server.branch("main").read("position").shape == (5,)
    assert not Path(f"/proc/{pid}").exists()
    assert not folder.exists()


SCRIPT = """
import msgspec, os, sys
from snapserv import Field, Simulation
from snapserv_client import local

STEP = 3

class Mine(Simulation):
    count = Field("i8")

    class Inputs(msgspec.Struct):
        by: int = 1
        more: list[int] = msgspec.field(default_factory=list)

    def step(self, inputs: Inputs) -> dict:
        self.count += STEP * inputs.by + sum(inputs.more)
        return {"count": int(self.count)}

server = local(Mine)
print(server.branch("main").step(2, by=5, more=[1]).outputs)
print(server.endpoint.removeprefix("ipc://"))
if "--close" in sys.argv:
    server.close()
if "--die" in sys.argv:
    sys.stdout.flush()
    os._exit(9)
"""


@pytest.mark.parametrize("ending", ["--close", "--forget", "--die"])
def test_a_class_of_a_script_is_served_by_value_and_its_server_never_outlives_the_script(
    tmp_path: Path, ending: str
) -> None:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(path), ending], capture_output=True, text=True, timeout=60, cwd=ROOT, check=False
    )
    assert done.stdout, done.stderr
    outputs, socket = done.stdout.splitlines()
    assert outputs == "{'count': 32}"
    assert_settles(lambda: Path(socket).exists(), False)
    assert_settles(lambda: Path(socket).parent.exists(), False)


def test_inputs_whose_names_are_those_of_arguments_go_in_by_mapping(server: Server) -> None:
    assert server.branch("main").step(inputs={"drift": 2.0}).ticks == 1


def test_regions_must_be_basic_indexing(server: Server) -> None:
    main = server.branch("main")
    wrong: Any
    for wrong in ("abc", 1.5, (..., 1), [1, 2]):
        with pytest.raises(BadRequestError, match="region"):
            main.read("position", wrong)
    assert main.read("position", ...).shape == (1000,)
    assert main.read("position", np.s_[-3:]).shape == (3,)


def test_a_step_that_puts_out_nothing_has_outputs_without_any(serve: Serve) -> None:
    with serve("tests.simulations.large:Large", params={"rows": 8}).connect() as server:
        main = server.branch("main")
        assert main.step(2).outputs == {}
        (outcome,) = main.expand([{}])
        assert dict(outcome) == {}
        assert outcome


def test_a_number_is_a_float_however_it_came() -> None:
    found = [number(each) for each in (True, 3, np.array(2.5))]
    assert found == [1.0, 3.0, 2.5]
    assert {type(each) for each in found} == {float}
    for wrong in ("3", None, [1], np.zeros(2), np.array("x")):
        with pytest.raises(BadRequestError, match="is no number"):
            number(wrong)
