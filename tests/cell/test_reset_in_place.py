"""One process plays many children, taken back whole from one to the next: nobody can tell, or it is not done."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from snapserv_client import Outcome, Server, Snapshot
from snapserv_client.errors import NodeDiedError, SimulationError
from snapserv_client.trust import TRUSTED_VARIABLE

from snapserv.ext import memory
from snapserv.mechanisms.ksm import Ksm

from ..conftest import ServerProcess, as_nobody, assert_settles, one_at_a_time, session_processes, start_server
from ..refuse import REFUSE

Serve = Callable[..., ServerProcess]

CORES = len(os.sched_getaffinity(0))
FEW = 2 * CORES
"""So many children are clones, each of them."""


def cells(server: Server) -> list[int]:
    assert server.hello is not None
    return session_processes(server.hello.pid)


def reasons(process: ServerProcess) -> list[str]:
    """Return why children were cloned, as the server's log says it."""
    lines = [json.loads(line) for line in process.log.read_text().splitlines() if line.startswith("{")]
    return [line["error"] for line in lines if line["event"] == "children_cloned"]


def cloned(before: Snapshot, inputs: list[dict[str, Any]], **options: Any) -> list[Outcome]:
    """Return what comes of some inputs, each in a process of its own."""
    found: list[Outcome] = []
    for at in range(0, len(inputs), FEW):
        found += before.expand(inputs[at : at + FEW], **options)
    return found


GOES_BACK = [
    *("fill", "allocate", "overwrite", "map", "forget", "forget_and_look", "forget_and_write"),
    *("seek", "load", "open_and_close", "guard", "unmap", "protect", "free", "patch"),
    *("reallocate", "move_pages", "look_at_zeros", "read_in", "grow_heap", "map_and_unmap"),
]


@pytest.mark.parametrize("how", GOES_BACK)
def test_whatever_a_child_does_to_its_memory_the_next_begins_at_the_mark(serve: Serve, how: str) -> None:
    process = serve("tests.simulations.roaming:Roams")
    with process.connect() as server:
        main = server.branch("main")
        main.step(3)
        before = main.snapshot()
        inputs = [{"how": how}, {}] * 20
        right = cloned(before, inputs[:2], steps=2)
        alive, forks = len(cells(server)), server.stats().forks
        outcomes = before.expand(inputs, steps=2)
        # A process for each that plays or waits for its turn, and its twin.
        assert server.stats().forks - forks <= 2 * FEW
        for number, outcome in enumerate(outcomes):
            assert outcome.outputs == right[number % 2].outputs, number
        assert reasons(process) == []
        assert_settles(lambda: len(cells(server)), alive)


@pytest.mark.parametrize("how", ["fill", "forget", "move_pages", "unmap", "free"])
def test_nothing_need_be_kept_of_the_twin(serve: Serve, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setenv("SNAPSERV_TWIN_KEPT", "0")
    _compare(serve("tests.simulations.roaming:Roams"), how)


@pytest.mark.parametrize("how", ["map", "unmap", "guard"])
def test_areas_are_listed_as_text_where_the_kernel_cannot_be_asked_for_them(serve: Serve, how: str) -> None:
    _compare(serve("tests.simulations.roaming:Roams", prefix=(*REFUSE, "PROCMAP_QUERY", "--")), how)


@pytest.mark.skipif(not os.access("/proc/sys/vm/compact_memory", os.W_OK), reason="only root can compact memory")
def test_pages_that_the_kernel_moves_meanwhile_go_back_as_well(serve: Serve) -> None:
    process = serve("tests.simulations.roaming:Roams")
    with process.connect() as server:
        before = server.branch("main").snapshot()
        inputs = [{"how": "move_pages"}, {}, {"how": "fill"}, {}, {"how": "compact"}, {}, {"how": "move_pages"}, {}]
        right = cloned(before, inputs)
        for number, outcome in enumerate(before.expand(inputs * 4)):
            assert outcome.outputs == right[number % len(inputs)].outputs, number
        assert reasons(process) == []


def test_inputs_that_are_too_long_for_a_note_are_sent_once_more(serve: Serve) -> None:
    process = serve("tests.simulations.roaming:Roams")
    with process.connect() as server:
        before = server.branch("main").snapshot()
        (right,) = before.expand([{}])
        forks = server.stats().forks
        outcomes = before.expand([{"ballast": np.zeros(2 << 20, np.uint8)}] * 8, parallel=1)
        assert [outcome.outputs for outcome in outcomes] == [right.outputs] * 8
        assert reasons(process) == []
        assert server.stats().forks - forks == 2


STAYS = {
    "open": "files were opened or closed",
    "connect": "files were opened or closed",
    "swap": "files were opened or closed",
    "run_thread": "threads",
    "run_process": "processes were started",
    "move": "the working folder has changed",
    "handle": "signals",
    "handle_otherwise": "signals are handled otherwise",
    "append": "used otherwise",
    "lock": "files were locked",
    "pin": "signals, threads or rights",
    "be_nice": "scheduling",
    "be_a_batch": "scheduling",
    "slacken": "prctl(2)",
    "persona": "prctl(2)",
    "rename_host": "a namespace",
    "pend": "signals, threads or rights",
    "share": "files were opened or closed",
    "part": "files were opened or closed",
    "ask": "asynchronous input and output",
    "leave_a_child": "a process of its own runs",
    "pierce": "memory was unmapped",
    "wake_me": "a timer runs",
    "protect_text": "memory was mapped anew, or protected",
    "limit": "limits have changed",
}


@pytest.mark.parametrize("how", STAYS)
def test_what_the_kernel_holds_does_not_go_back_so_children_are_clones(serve: Serve, how: str) -> None:
    process = serve("tests.simulations.roaming:Roams")
    with process.connect() as server:
        before = server.branch("main").snapshot()
        inputs = [{"how": how}, {}] * 20
        alive = len(cells(server))  # before: what a child leaves behind is the server's until it is reaped
        right = cloned(before, inputs[:2])
        for number, outcome in enumerate(before.expand(inputs)):
            assert outcome.outputs == right[number % 2].outputs, number
        assert len(reasons(process)) == 1
        assert STAYS[how] in reasons(process)[0]
        assert_settles(lambda: len(cells(server)), alive)


def test_memory_that_was_written_and_protected_again_is_seen(serve: Serve) -> None:
    process = serve("tests.simulations.roaming:Compiles")
    with process.connect() as server:
        before = server.branch("main").snapshot()
        inputs = [{"how": "compile"}, {}] * 20
        right = cloned(before, inputs[:2])
        assert right[0].outputs != right[1].outputs
        for number, outcome in enumerate(before.expand(inputs)):
            assert outcome.outputs == right[number % 2].outputs, number
        assert "written, and then protected" in reasons(process)[0]


@pytest.mark.parametrize(
    ("holds", "why"), [("pipe", "leads to more than a file"), ("limit", "processor time is limited")]
)
def test_a_process_that_holds_more_than_files_is_not_even_marked(serve: Serve, holds: str, why: str) -> None:
    process = serve("tests.simulations.roaming:Roams", params={"holds": holds}, options=("--allow", "pipes"))
    with process.connect() as server:
        before = server.branch("main").snapshot()
        (right,) = before.expand([{}])
        assert [outcome.outputs for outcome in before.expand([{}] * 40)] == [right.outputs] * 40
        assert why in reasons(process)[0]


def test_a_filter_of_system_calls_more_than_there_was_is_seen(serve: Serve) -> None:
    process = serve("tests.simulations.roaming:Roams", prefix=(*REFUSE, "clone3", "--"))
    with process.connect() as server:
        before = server.branch("main").snapshot()
        inputs = [{"how": "filter"}, {}] * 20
        right = cloned(before, inputs[:2])
        assert right[0]["filters"] != right[1]["filters"]
        assert [outcome.outputs for outcome in before.expand(inputs)] == [one.outputs for one in right] * 20
        assert "signals, threads or rights" in reasons(process)[0]


@pytest.mark.skipif(bool(Ksm.why_not()), reason=Ksm.why_not())
def test_pages_that_the_kernel_has_merged_go_back_as_well(serve: Serve) -> None:
    process = serve("tests.simulations.roaming:Roams", params={"holds": "equal pages"})
    with one_at_a_time("ksm"), Ksm.make(memory.PAGE), process.connect() as server:
        before = server.branch("main").snapshot()
        inputs = [{"how": "merge"}, {}] * 100
        right = cloned(before, inputs[:2])

        def merged(pid: int) -> int:
            return int(Path(f"/proc/{pid}/ksm_merging_pages").read_text())

        assert_settles(lambda: all(merged(pid) >= 200 for pid in cells(server)), True)
        for number, outcome in enumerate(before.expand(inputs)):
            assert outcome.outputs == right[number % 2].outputs, number
        assert reasons(process) == []


def test_where_cells_are_forked_twice_they_are_taken_back_too(serve: Serve) -> None:
    _compare(serve("tests.simulations.roaming:Roams", prefix=(*REFUSE, "clone3", "--")))


def test_an_ordinary_user_is_told_no_page_numbers_so_children_are_clones(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TRUSTED_VARIABLE, "65534")
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can become nobody, by setpriv, and the others are that already")
    os.chown(short_path, 65534, 65534)
    process = start_server(short_path, "tests.simulations.roaming:Roams", prefix=as_nobody(), HOME=str(short_path))
    try:
        with process.connect() as server:
            before = server.branch("main").snapshot()
            (right,) = before.expand([{}])
            assert [outcome.outputs for outcome in before.expand([{}] * 20)] == [right.outputs] * 20
            assert "told only to root" in reasons(process)[0]
    finally:
        assert process.end() == 0, process.log.read_text()


def _compare(process: ServerProcess, how: str = "fill") -> None:
    with process.connect() as server:
        before = server.branch("main").snapshot()
        right = cloned(before, [{"how": how}, {}])
        forks = server.stats().forks
        for number, outcome in enumerate(before.expand([{"how": how}, {}] * 20)):
            assert outcome.outputs == right[number % 2].outputs, number
        assert reasons(process) == []
        assert server.stats().forks - forks <= 2 * FEW


def test_where_the_kernel_cannot_scan_pages_children_are_clones(serve: Serve) -> None:
    process = serve("tests.simulations.roaming:Roams", prefix=(*REFUSE, "PAGEMAP_SCAN", "--"))
    with process.connect() as server:
        before = server.branch("main").snapshot()
        assert [outcome.error for outcome in before.expand([{}] * 20)] == [None] * 20
        assert "PAGEMAP_SCAN" in reasons(process)[0]


@pytest.mark.parametrize("rng", ["same", "split", 5])
def test_children_get_the_streams_and_the_beginning_of_clones(serve: Serve, rng: Any) -> None:
    with serve("tests.simulations.roaming:Roams").connect() as server:
        main = server.branch("main")
        main.step(3)
        before = main.snapshot()
        (alone,) = before.expand([{}], rng=rng, steps=2, read=["sum", "drawn", "begun", "logged", "value"])
        outcomes = before.expand([{}] * 40, rng=rng, steps=2, read=["sum", "drawn", "begun", "logged", "value"])
        assert {outcome.step for outcome in outcomes} == {5}
        assert {(outcome["logged"], int(outcome["begun"])) for outcome in outcomes} == {(5, 2)}
        if rng == "split":
            assert len({outcome["sum"] for outcome in outcomes}) == 40
            assert len({outcome["drawn"] for outcome in outcomes}) == 40, "C's own too"
        else:
            assert {outcome["drawn"] for outcome in outcomes} == {alone["drawn"]}
            assert all(np.array_equal(outcome["value"], alone["value"]) for outcome in outcomes)


def test_a_child_that_fails_changes_no_other(serve: Serve) -> None:
    with serve("tests.simulations.roaming:Roams").connect() as server:
        before = server.branch("main").snapshot()
        alive, nodes = len(cells(server)), len(server.tree().nodes)
        (right,) = before.expand([{}])
        ways = ["segfault", "raise", "", *["fill", ""] * 3] * 8
        outcomes = before.expand([{"how": how} for how in ways])
        for how, outcome in zip(ways, outcomes, strict=True):
            if how in ("segfault", "raise"):
                assert isinstance(outcome.error, NodeDiedError if how == "segfault" else SimulationError)
            elif not how:
                assert outcome.outputs == right.outputs
        assert len(server.tree().nodes) == nodes
        assert_settles(lambda: len(cells(server)), alive)


def test_a_twin_that_is_killed_costs_time_and_nothing_else(serve: Serve) -> None:
    with serve("tests.simulations.roaming:Roams").connect() as server:
        before = server.branch("main").snapshot()
        known = set(cells(server))
        (right,) = before.expand([{"how": "dawdle"}])
        killed: list[int] = []
        over = threading.Event()

        def frozen() -> set[int]:
            found = set()
            for pid in set(cells(server)) - known:
                with contextlib.suppress(FileNotFoundError):
                    if Path(f"/proc/{pid}/comm").read_text() == "snap-frozen\n":
                        found.add(pid)
            return found

        def kill_twins() -> None:
            last: set[int] = set()
            while not over.wait(0.1):
                now = frozen()
                for pid in now & last:  # not a clone that has not said yet what it is
                    if len(killed) < 6:
                        os.kill(pid, signal.SIGKILL)
                        killed.append(pid)
                last = now

        killer = threading.Thread(target=kill_twins)
        killer.start()
        try:
            outcomes = before.expand([{"how": "dawdle"}] * 60)
        finally:
            over.set()
            killer.join()
        assert killed
        assert [outcome.outputs for outcome in outcomes] == [right.outputs] * 60
        assert_settles(lambda: set(cells(server)), known)


FOREIGN = {
    "gym:LunarLander-v3": [{"action": action} for action in range(4)],
    "gym:BipedalWalker-v3": [{"action": [force, -force, force / 2, 0.0]} for force in (-1.0, 0.3, 1.0)],
    "gym:CartPole-v1": [{"action": action} for action in range(2)],
    "gym:FrozenLake-v1": [{"action": action} for action in range(4)],
    "gym:Blackjack-v1": [{"action": action} for action in range(2)],
    "mesa:examples.schelling:Schelling": [{}],
    "simpy:examples.machine_shop:Shop": [{}],
}


@pytest.mark.parametrize("target", FOREIGN)
def test_children_of_other_peoples_simulators_are_what_clones_are_bit_for_bit(serve: Serve, target: str) -> None:
    process = serve(target)
    with process.connect() as server:
        main, chooses = server.branch("main"), np.random.default_rng(1)
        main.step(2, inputs=FOREIGN[target][0])
        before = main.snapshot()
        inputs = [
            [
                FOREIGN[target][chosen]
                for chosen in chooses.integers(0, len(FOREIGN[target]), chooses.integers(1, 25))
            ]
            for _ in range(40)
        ]
        forks = server.stats().forks
        together = before.expand(inputs)
        assert server.stats().forks - forks <= 2 * FEW
        for one, other in zip(together, cloned(before, inputs), strict=True):
            # Where it had finished before, both are refused.
            assert repr((one.error, one.step, one.outputs)) == repr((other.error, other.step, other.outputs))
        assert reasons(process) == []
