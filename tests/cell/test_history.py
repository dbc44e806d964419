"""Histories: what was done to a node is known, each node has its own, and it takes little room."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from snapserv_client import Server, local
from snapserv_client.errors import BadRequestError, SimulationError, StepInterruptedError, TooLargeError
from snapserv_client.protocol import Action, BeginAction, CallAction, StepAction, WriteAction

from snapserv.cell.history import MOST_MARKS, STEP, WRITE, History, Trail
from snapserv.operations.verifying import Script

from ..actions import told
from ..conftest import ServerProcess, assert_settles

Serve = Callable[..., ServerProcess]


def test_a_history_is_what_was_asked_and_each_node_has_its_own(server: Server) -> None:
    main = server.branch("main")
    for _ in range(3):
        main.step(2, drift=1.0)
    main.step(5)
    main.write("position", np.arange(3.0), (slice(0, 3),))
    main.call("echo", value={"a": [1, 2.5]})
    taken = main.snapshot("taken")
    main.step()
    left, right = taken.branch(2, rng="split")
    left.step(7)
    past = ["0: step 2 x3", "6: step 5 x1", "11: write position x1", "11: call echo x1"]
    assert told(taken.actions()) == past
    assert told(main.actions()) == [*past, "11: step 1 x1"]
    assert told(left.actions()) == [*past, "11: begin x1", "11: step 7 x1"]
    assert told(right.actions()) == [*past, "11: begin x1"]
    step, _, write, call = taken.actions()
    assert isinstance(step, StepAction)
    assert isinstance(write, WriteAction)
    assert isinstance(call, CallAction)
    assert step.inputs == {"drift": 1.0}
    assert write.value.tolist() == [0.0, 1.0, 2.0]
    assert write.region == [(0, 3, None)]
    assert (call.args, call.kwargs) == ([], {"value": {"a": [1, 2.5]}})
    seeds = [branch.actions()[4] for branch in (left, right)]
    assert all(isinstance(seed, BeginAction) and seed.seed for seed in seeds)
    assert seeds[0] != seeds[1]
    assert server.node("root").actions().items == []


def test_a_restored_branch_has_the_snapshots_history_and_a_rewound_one_forgets(server: Server) -> None:
    main = server.branch("main")
    main.step(2)
    taken = main.snapshot("taken")
    main.step(3)
    main.restore(taken, rng=9)
    assert told(main.actions()) == ["0: step 2 x1", "2: begin x1"]
    main.reset()
    assert main.actions().items == []
    main.call("total")


def test_a_rewind_forgets_what_was_done_since_the_mark(serve: Serve) -> None:
    with serve("tests.simulations.rewinding:Rewindable").connect() as server:
        main = server.branch("main")
        main.step(2)
        main.step(1)
        main.mark()
        for _ in range(3):
            main.step(1)
            main.step(4)
            main.rewind()
            assert told(main.actions()) == ["0: step 2 x1", "2: step 1 x1"]
        late = main.snapshot("late")
        main.step(2)
        assert main.verify().ok
        assert late.verify().ok
        main.rewind()
        assert main.verify().ok


def test_steps_that_raise_or_are_interrupted_are_recorded_by_the_ticks_that_they_did(serve: Serve) -> None:
    with serve("tests.simulations.trouble:Trouble").connect() as server:
        main = server.branch("main")
        main.step(2)
        with pytest.raises(SimulationError):
            main.step(5, how="raise", at=5)
        main.clear()
        with pytest.raises(SimulationError):
            main.call("fail", "raise")
        main.clear()
        with pytest.raises(BadRequestError):
            main.step(1, nothing=1)
        with pytest.raises(BadRequestError):
            main.write("count", "text")
        interrupter = threading.Thread(target=_interrupt, args=(server.endpoint,))
        interrupter.start()
        with pytest.raises(StepInterruptedError) as stopped:
            main.step(10**9)
        interrupter.join()
        done = stopped.value.details["ticks"]
        assert told(main.actions()) == [
            "0: step 2 x1",
            "2: step 2 raised x1",
            "4: call fail raised x1",
            f"4: step {done} x1",
        ]
        assert main.verify().ok
        again = server.replay(main.actions(), name="again")
        assert again.diff(main).same
        assert told(again.actions()) == told(main.actions())


def _interrupt(endpoint: str) -> None:
    from snapserv_client import connect

    with connect(endpoint, timeout_s=10) as server:
        assert_settles(lambda: server.branch("main").info().step > 10, True)
        assert_settles(lambda: server.branch("main").interrupt(), True)


def test_a_branching_of_an_author_who_wants_to_know_is_an_action(serve: Serve) -> None:
    with serve("tests.simulations.branching:Branching").connect() as server:
        main = server.branch("main")
        main.step()
        one, two = main.branch(2, rng="split")
        one.step(2)
        assert told(one.actions()) == ["0: begin x1", "0: step 1 x1", "1: begin x1", "1: step 2 x1"]
        again = server.replay(one.actions())
        assert again.call("seeds_so_far") == one.call("seeds_so_far")
        assert again.read("value") == one.read("value")
        assert one.verify().ok
        assert two.verify(since=one.log()[-2].id).ok
        two.call("fail_next")
        assert two.verify().ok


def test_children_that_an_expansion_keeps_know_how_they_were_played(serve: Serve) -> None:
    with serve("tests.simulations.expanding:Steered").connect() as server:
        main = server.branch("main")
        main.step(2, turn=3)
        played = main.expand(
            [{"turn": 1}, [{"turn": 40}, {"turn": 50}]],
            steps=2,
            policy="wander",
            policy_steps=3,
            keep="all",
            rng="split",
        )
        one, other = (outcome.node for outcome in played)
        past = ["0: step 2 x1", "2: begin x1"]
        ticks = [f"{step}: {what}" for step in (4, 5, 6) for what in ("call wander x1", "step 1 x1")]
        assert told(one.actions()) == [*past, "2: step 2 x1", *ticks]
        assert told(other.actions()) == [*past, "2: step 2 x1", "4: step 1 x1"]  # a hundred is enough
        for node in (one, other):
            assert node.verify(), node.verify()
            assert node.verify(since=node.log()[-2].id)


def test_asking_a_snapshot_runs_none_of_the_authors_code(serve: Serve, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    journal.touch()
    with serve("tests.simulations.branching:Hooked", params={"journal": str(journal)}).connect() as server:
        main = server.branch("main")
        main.step(3)
        taken = main.snapshot("taken")
        before = journal.read_text()
        assert told(taken.actions()) == ["0: begin x1", "0: step 3 x1"]
        assert main.verify(since=taken)
        assert journal.read_text() == before
        assert taken.verify()
        words = [line.split() for line in journal.read_text().removeprefix(before).splitlines()]
        assert [what for what, _ in words] == ["branch", "drop"]
        assert words[0][1] == words[1][1]


def test_ten_thousand_equal_steps_take_a_few_bytes() -> None:
    history = History()
    for _ in range(10_000):
        history.add(STEP, history.pack({"drift": 1.0}), ticks=1, told={"mean": 0.5})
    (run,) = [*history._runs, history._last]
    assert len(run) < 32
    assert len(history.trail.marks) < MOST_MARKS * 8
    assert history.page(0)["actions"] == [
        {"kind": "step", "ticks": 1, "inputs": {"drift": 1.0}, "raised": False, "step": 0, "repeat": 10_000}
    ]
    history = History()
    for number in range(10_000):
        history.add(STEP, history.pack({"drift": number / 7}), ticks=1)
    assert sum(map(sys.getsizeof, history._runs)) < 10_000 * 70


def test_a_history_is_listed_a_page_at_a_time() -> None:
    history = History()
    large = np.arange(1 << 21, dtype="f8")
    asked = [*({"n": number % 1000, "text": "x" * (number % 50)} for number in range(12_000)), {"n": 5}, {"n": 5}]
    for inputs in asked:
        history.add(STEP, history.pack(inputs), ticks=2)
    for number in range(20):
        history.add(WRITE, history.pack(("field", None, large + number)))
    listed, start, pages = [], 0, 0
    while start is not None:
        page = history.page(start)
        listed += page["actions"]
        start = page["next"]
        pages += 1
    assert pages > 3
    assert [action["inputs"] for action in listed[:12_001]] == asked[:-1]
    assert [action["step"] for action in listed[:12_001]] == list(range(0, 24_002, 2))
    assert listed[12_000]["repeat"] == 2
    assert [float(action["value"][0]) for action in listed[12_001:]] == list(range(20))
    assert history.page(12_001)["actions"][0]["repeat"] == 1
    assert history.page(12_001)["actions"][0]["step"] == 24_002


def test_an_action_that_no_reply_can_hold_is_a_typed_error() -> None:
    history = History()
    history.add(STEP, history.pack({"text": "x" * 900_000}))
    with pytest.raises(TooLargeError, match="list what follows from 1 on"):
        history.page(0)
    assert history.page(1) == {"actions": [], "next": None}


@given(
    st.lists(st.sampled_from("abc"), max_size=20), st.integers(0, 20), st.lists(st.sampled_from("abc"), max_size=9)
)
def test_a_history_is_known_to_begin_with_another_one(before: list[str], cut: int, after: list[str]) -> None:
    def done(names: list[str]) -> History:
        history = History()
        for name in names:
            history.add(STEP, history.pack(name), ticks=1, told=name)
        return history

    past, whole = done(before[:cut]), done(before + after)
    count = past.trail.count
    assert whole.digests([count]) == past.digests([count])
    assert past.digests([count + 1]) == [None]
    moment = past.moment()
    for name in after:
        past.add(STEP, past.pack(name), ticks=1, told=name)
    past.rewind(moment)
    again = done(before[:cut])
    assert past.page(0) == again.page(0)
    assert past.trail.running == again.trail.running


def test_a_trail_stays_small_and_its_marks_are_what_the_running_hash_was() -> None:
    trail, seen = Trail(), []
    for number in range(5 * MOST_MARKS + 3):
        trail.add(bytes([number % 251]))
        seen.append(trail.running)
    assert len(trail.marks) < 8 * MOST_MARKS
    marks = np.frombuffer(bytes(trail.marks), "i8").tolist()
    assert marks == seen[trail.stride - 1 :: trail.stride]


ACTIONS = st.lists(
    st.one_of(
        st.builds(StepAction, ticks=st.integers(1, 5), repeat=st.integers(1, 4)),
        st.builds(StepAction, ticks=st.integers(0, 5), raised=st.just(True), repeat=st.integers(1, 3)),
        st.builds(CallAction, method=st.just("m"), repeat=st.integers(1, 4)),
    ),
    max_size=6,
)


@settings(max_examples=200)
@given(ACTIONS, st.lists(st.integers(0, 60), max_size=5))
def test_a_script_done_in_parts_is_the_script_done_at_once(actions: list[Action], cuts: list[int]) -> None:
    def beats(parts: Any) -> list[str]:
        done = []
        for action in parts:
            one = ["m"] if isinstance(action, CallAction) else ["t"] * action.ticks + ["!"] * action.raised
            done += one * action.repeat
        return done

    script = Script(actions)
    stops = [0, *sorted(min(cut, script.beats) for cut in cuts), script.beats]
    parts = [part for low, high in itertools.pairwise(stops) for part in script.part(low, high)]
    assert beats(parts) == beats(actions)
    assert len(beats(actions)) == script.beats
    assert script.beat(script.count) == script.beats


def test_what_a_step_returns_may_be_what_its_next_step_changes() -> None:
    """The trail is of what was put out, and not of what became of it: in a replay as in the first run."""
    with local("object:tests.simulations.views:Screen") as server:
        main = server.branch("main")
        for _ in range(5):
            main.step()
        assert main.verify().ok, main.verify()
