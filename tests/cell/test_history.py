"""Histories: what was done to a node is known, can be done again elsewhere, and leads to the same state."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from snapserv_client import Server, aio, requests
from snapserv_client.errors import (
    BadRequestError,
    NameTakenError,
    NodeDiedError,
    SimulationError,
    SnapservError,
    StepInterruptedError,
    TooLargeError,
)
from snapserv_client.protocol import Action, BeginAction, CallAction, StepAction, WriteAction

from snapserv.cli.app import run
from snapserv.history import MOST_MARKS, STEP, WRITE, History, Trail
from snapserv.verifying import Script

from ..conftest import ServerProcess, assert_settles, statistics

Serve = Callable[..., ServerProcess]
WILDFIRE = "snapserv.examples.wildfire:Wildfire"


def told(actions: Any) -> list[str]:
    """Return actions in short: kind, step, ticks or what was asked, and how often."""
    short = []
    for action in actions:
        match action:
            case StepAction():
                what = f"step {action.ticks}{' raised' if action.raised else ''}"
            case WriteAction():
                what = f"write {action.field}"
            case CallAction():
                what = f"call {action.method}{' raised' if action.raised else ''}"
            case _:
                what = "begin"
        short.append(f"{action.step}: {what} x{action.repeat}")
    return short


# ----------------------------------------------------------------------------------------------- what is recorded


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


# -------------------------------------------------------------------------------------------------------- replay


def test_a_node_is_rebuilt_on_another_server(server: Server, serve: Serve) -> None:
    main = server.branch("main")
    main.step(3, drift=0.5)
    main.write("position", np.linspace(0, 1, 1000))
    (branch,) = main.snapshot("s").branch(1, rng="split")
    branch.step(4)
    with serve("tests.simulations.walk:Walk").connect() as elsewhere:
        made = elsewhere.replay(branch.actions(), name="made")
        assert made.info().step == 7
        assert np.array_equal(made.read("position"), branch.read("position"))
        hashes = [[field.hash for field in node.verify().fields] for node in (branch, made)]
        assert hashes[0] == hashes[1]
        half = elsewhere.replay(branch.actions()[:1]).snapshot("half")
        rest = elsewhere.replay(branch.actions()[1:], start=half)
        assert rest.diff(made).same


def test_an_action_that_fails_is_named_and_nothing_is_left(server: Server) -> None:
    main = server.branch("main")
    before = statistics(_server_pid(server))
    main.step(2)
    actions: list[Any] = [*main.actions(), {"kind": "write", "field": "position", "value": "text"}]
    with pytest.raises(BadRequestError, match=r"action 1 \(write\)") as caught:
        server.replay(actions, name="made")
    assert caught.value.details["index"] == 1
    with pytest.raises(SimulationError, match=r"action 1 \(step\): it raised when"):
        server.replay([actions[0], StepAction(ticks=1, raised=True)], name="made")
    with pytest.raises(SnapservError) as missing:
        server.replay([*actions[:1] * 2, {"kind": "call", "method": "hidden"}], name="made")
    assert (missing.value.code, missing.value.details["index"]) == ("not_found", 2)
    with pytest.raises(NameTakenError):
        server.replay(actions[:1], name="main")
    for wrong in ([{"kind": "nothing"}], [{"kind": "step"}], [{"kind": "step", "ticks": -1}], [1]):
        with pytest.raises(BadRequestError):
            server.replay(wrong)
    with pytest.raises(BadRequestError, match="live branch"):
        server.replay([], start="main")
    with pytest.raises(TooLargeError, match="replay a part"):
        server.replay([StepAction(ticks=1, inputs={"drift": float(n)}) for n in range(20_000)])
    assert [node.name for node in server.tree()] == ["root", "main"]
    assert_settles(lambda: statistics(_server_pid(server))["children"], before["children"])


def _server_pid(server: Server) -> int:
    assert server.hello is not None
    return server.hello.pid


def test_an_action_that_kills_is_named_as_well(serve: Serve) -> None:
    with serve("tests.simulations.trouble:Trouble").connect() as server:
        with pytest.raises(NodeDiedError, match=r"action 1 \(call\)") as caught:
            server.replay([StepAction(ticks=3), CallAction(method="fail", args=["segfault"])])
        assert (caught.value.details["signal"], caught.value.details["step"]) == ("SIGSEGV", 3)
        assert [node.name for node in server.tree()] == ["root", "main"]


def test_a_long_replay_delays_nobody_and_can_be_interrupted(server: Server) -> None:
    raised: list[SnapservError] = []
    interrupt = requests.interrupt("main", request=2)

    async def both() -> None:
        async with await aio.connect(server.endpoint, timeout_s=10) as client:
            running = asyncio.ensure_future(client.replay([StepAction(ticks=1, repeat=10**9)], name="long"))
            await asyncio.sleep(0.05)
            assert await client.ping() < 1
            assert (await (await client.branch("main")).step()).step == 1
            assert await client._run(interrupt)
            try:
                await running
            except SnapservError as error:
                raised.append(error)

    asyncio.run(both())
    assert [error.code for error in raised] == ["interrupted"]
    assert [node.name for node in server.tree()] == ["root", "main"]


# -------------------------------------------------------------------------------------------------------- verify


def test_wildfire_is_verified_from_the_root_and_from_any_ancestor(serve: Serve) -> None:
    with serve(WILDFIRE, params={"rows": 512, "cols": 512}).connect() as server:
        main = server.branch("main")
        main.step(50, wind=(3.0, 0.0))
        early = main.snapshot("early")
        main.step(50)
        late = main.snapshot("late")
        (branch,) = late.branch(1, rng="split")
        branch.step(20, wind=(0.0, -8.0))
        for node, ticks in ((early, 50), (late, 100), (main, 100), (branch, 120), (server.node("root"), 0)):
            found = node.verify()
            assert found, found
            assert found.result.ticks == ticks
        assert branch.verify(since=early).result.ticks == 70
        assert branch.verify(since="late").result.ticks == 20
        assert "verified" in str(branch.verify(since=late))
        assert [node.name for node in server.tree()] == ["root", "main", "early", "late", branch.name]


def test_a_simulation_without_fields_is_verified_by_what_it_puts_out(serve: Serve) -> None:
    with serve("tests.simulations.chance:Dice").connect() as server:
        main = server.branch("main")
        for _ in range(20):
            main.step(1)
        main.step(5, sides=20)
        found = main.verify()
        assert found
        assert found.fields == []
        assert found.result.ticks == 25


@pytest.mark.parametrize("at_once", [True, False])
def test_the_first_step_that_cannot_be_repeated_is_named(serve: Serve, at_once: bool) -> None:
    with serve("tests.simulations.chance:Dice", params={"fair_from": 7}).connect() as server:
        main = server.branch("main")
        main.step(6)
        assert main.verify()
        main.reset()
        for ticks in [10] if at_once else [1] * 10:
            main.step(ticks)
        found = main.verify()
        assert not found
        assert (found.result.after, found.step, found.result.parted) == (6, 7, 7)
        assert found.deterministic is False
        assert "not deterministic: two replays part at step 7" in str(found)


def test_a_field_that_differs_is_named_with_the_step_although_no_output_tells(serve: Serve) -> None:
    with serve("tests.simulations.timing:Clock", params={"notes_from": 150}).connect() as server:
        main = server.branch("main")
        main.step(100)
        main.snapshot("good")
        assert main.verify()
        main.step(100)
        main.snapshot("bad")
        main.step(1000)
        found = main.verify()
        assert found.differing == ["noted"]
        assert found.result.outputs
        assert (found.result.after, found.step, found.result.parted) == (149, 150, 150)
        assert found.deterministic is False
        assert not server.node("bad").verify(since="good")


def test_a_node_that_was_changed_by_no_action_is_told_from_chance(serve: Serve) -> None:
    """Two replays agree, and the node is another: snapshots on the way say between which steps that came to be."""
    with serve("tests.simulations.timing:Clock", params={"notes_from": 10**9}).connect() as server:
        main = server.branch("main")
        for number in range(4):
            main.step(10)
            main.snapshot(f"s{number}")
        with open(f"/proc/{main.info().pid}/mem", "r+b", buffering=0) as memory:
            memory.seek(_address(main.info().pid))
            memory.write((41).to_bytes(8, "little"))
        main.step(10)
        found = main.verify()
        assert found.differing == ["count"]
        assert found.deterministic is True
        assert (found.result.after, found.step) == (40, 50)
        assert server.node("s3").verify()


def test_a_replay_that_fails_where_the_node_did_not_is_a_difference(serve: Serve, tmp_path: Path) -> None:
    forbidden = tmp_path / "forbidden"
    params = {"notes_from": 10**9, "forbidden": str(forbidden)}
    with serve("tests.simulations.timing:Clock", params=params).connect() as server:
        main = server.branch("main")
        main.step(5)
        main.step(10)
        main.step(3)
        forbidden.touch()
        found = main.verify()
        assert not found
        assert "action 1 (step): Clock.step raised FileExistsError" in found.result.error
        assert (found.result.action, found.step) == (1, 15)
        assert found.deterministic is True
        assert "the replay ended early" in str(found)


def test_a_verification_that_is_given_up_or_cut_off_leaves_nothing(serve: Serve) -> None:
    process = serve("tests.simulations.walk:Walk")

    async def given_up() -> None:
        async with await aio.connect(process.endpoint, timeout_s=10) as client:
            main = await client.branch("main")
            for _ in range(4):
                await main.step(30_000)
            before = statistics(process.pid)
            verify = requests.verify("main", None)
            running = asyncio.ensure_future(client._run(verify))
            while statistics(process.pid)["children"] == before["children"]:
                await asyncio.sleep(0.01)
            number = client._connection._last_id
            assert await client._run(requests.interrupt("main", request=number))
            with pytest.raises(StepInterruptedError):
                await running
            assert_settles(lambda: statistics(process.pid)["children"], before["children"])
            asyncio.ensure_future(client._run(verify))  # noqa: RUF006 - the server ends before it does
            while statistics(process.pid)["children"] == before["children"]:
                await asyncio.sleep(0.01)

    asyncio.run(given_up())
    assert process.end() == 0


def _address(pid: int) -> int:
    """Return where the first field lies: at the start of the first private mapping of a file that is writable."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        words = line.split(maxsplit=5)
        if words[1] == "rw-p" and len(words) > 5 and ("memfd:snapserv" in words[5] or words[5].startswith("/#")):
            return int(words[0].split("-")[0], 16)
    pytest.skip("the arena has no file")


def test_what_is_no_past_of_a_node_is_refused(serve: Serve) -> None:
    with serve("tests.simulations.rewinding:Rewindable").connect() as server:
        main = server.branch("main")
        main.step()
        main.mark()
        main.step()
        lost = main.snapshot("lost")
        main.rewind()
        main.step(2)
        with pytest.raises(BadRequestError, match="rewound to before lost"):
            main.verify(since=lost)
        assert main.verify()
        with pytest.raises(BadRequestError, match="no ancestor"):
            server.node("root").verify(since=lost)
        with pytest.raises(BadRequestError, match="live branch"):
            main.verify(since=main.id)


def test_a_dead_node_or_ancestor_is_a_typed_error_and_the_rest_goes_on(serve: Serve) -> None:
    with serve("tests.simulations.trouble:Trouble").connect() as server:
        main = server.branch("main")
        main.step(2)
        taken = main.snapshot("taken")
        os.kill(server.node("root").info().pid, signal.SIGKILL)
        assert_settles(lambda: server.node("root").info().state, "dead")
        with pytest.raises(NodeDiedError):
            main.verify()
        assert main.verify(since=taken).ok
        assert told(taken.actions()) == ["0: step 2 x1"]


def test_while_a_node_is_verified_others_and_the_node_itself_go_on(server: Server) -> None:
    async def both() -> Any:
        async with await aio.connect(server.endpoint, timeout_s=10) as client:
            main = await client.branch("main")
            for _ in range(3):
                await main.step(20_000)
            running = asyncio.ensure_future(main.verify())
            after = await main.step()
            was_running = not running.done()
            actions = await main.actions()
            return await running, after.step, was_running, actions

    found, step, was_running, actions = asyncio.run(both())
    assert found.ok
    assert was_running
    assert step == 60_001
    assert told(actions) == ["0: step 20000 x3", "60000: step 1 x1"]


# ----------------------------------------------------------------------------------------------------- for people


def test_the_command_line_lists_replays_and_verifies(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("SNAPSERV_ENDPOINT", server.endpoint)
    main = server.branch("main")
    main.step(3, drift=2.0)
    main.write("position", np.arange(4.0), (slice(0, 4),))

    def typed(*words: str, status: int = 0) -> str:
        capsys.readouterr()
        assert run(list(words)) == status
        return capsys.readouterr().out

    listed = typed("log", "main", "--actions", "--json")
    assert [action["kind"] for action in json.loads(listed)] == ["step", "write"]
    assert "step(3, drift=2.0)" in typed("log", "main", "--actions")
    file = tmp_path / "actions.json"
    file.write_text(listed)
    assert json.loads(typed("replay", str(file), "--name", "again", "--json"))["step"] == 3
    assert server.diff("main", "again").same
    assert json.loads(typed("verify", "again", "--json"))["ok"] is True
    assert "verified" in typed("verify", "main")
    file.write_text("{}")
    assert "no list of actions" in typed("replay", str(file), "--json", status=2)
    assert "no JSON" in typed("replay", __file__, "--json", status=2)
    assert "cannot read" in typed("replay", str(tmp_path / "none"), "--json", status=2)


def test_actions_and_verdicts_say_what_they_are(server: Server) -> None:
    main = server.branch("main")
    main.step(3, drift=2.0)
    main.call("echo", np.zeros(10))
    looks = str(main.actions())
    assert "main · 2 actions · 3 ticks" in looks
    assert "call(echo, <float64 [10]>)" in looks
    assert "<pre>" in main.verify()._repr_html_()
    assert main.actions()[0] == main.actions()[:1][0]
    assert msgspec.to_builtins(main.actions()[0])["kind"] == "step"
