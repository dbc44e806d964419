"""Going back to a step of one's own past: exactly, with what was recorded, and with nothing lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from snapserv_client import Branch, Server, SnapservWarning, aio, when
from snapserv_client.errors import (
    BadRequestError,
    FaultedError,
    FrozenError,
    NameTakenError,
    NodeDiedError,
    NotFoundError,
    RecordingMismatchError,
    SimulationError,
    StepInterruptedError,
)
from snapserv_client.protocol import GotoResult

from ..conftest import ServerProcess
from .conftest import elsewhere
from .lives import Lives

Serve = Callable[..., ServerProcess]
PATH = "tests.simulations.travelling:Path"


@pytest.fixture
def path(serve: Serve) -> Iterator[Server]:
    with serve(PATH).connect() as client:
        yield client


@pytest.fixture
def hooked(serve: Serve) -> Iterator[Server]:
    with serve("tests.simulations.travelling:Hooked").connect() as client:
        yield client


def names(server: Server) -> list[str]:
    return [node.name for node in server.tree().nodes]


def test_a_branch_goes_back_to_any_tick_of_an_action_and_goes_on_as_it_did(path: Server) -> None:
    main, by_ticks = path.snapshot("root").branch(2)
    done = main.step(1000, push=0.5)
    states = [by_ticks.read("at")]
    for _ in range(300):
        by_ticks.step(push=0.5)
        states.append(by_ticks.read("at"))
    for step in (300, 299, 17, 1, 0):
        gone = main.goto(step)
        assert (gone.moved, gone.since, gone.ticks) == (True, "root", step)
        assert gone.node.step == main.info().step == main.last.step == step
        np.testing.assert_array_equal(main.read("at"), states[step])
        main.step(2, push=0.5)
        np.testing.assert_array_equal(main.read("at"), states[step + 2] if step < 299 else main.read("at"))
        main.restore(gone.left.name if gone.left is not None else "root")
        assert main.info().step == 1000
    main.goto(300)
    assert main.step(700, push=0.5).outputs["sum"] == done.outputs["sum"]
    assert main.verify().ok


def test_what_led_to_its_step_is_told_and_what_is_known_of_it(hooked: Server) -> None:
    main = hooked.branch("main")
    main.step(10, push=1.0)
    main.step(5, push=2.0)
    main.step(100)
    gone = main.goto(15)
    assert (gone.agreed, gone.parted) == (15, None)
    assert gone.action == 2, "the first is that it was branched"
    assert main.action(gone.action).ticks == 5
    assert gone.outputs["sum"] == pytest.approx(float(main.read("at").sum()))
    assert main.back(3).agreed == 10, "an action that is cut is known up to its beginning"
    assert main.info().step == 12


def test_everything_that_was_done_is_done_again_and_only_what_came_before_the_next_tick(hooked: Server) -> None:

    def live(branch: Branch, look: Callable[[], None]) -> None:
        branch.write("at", [1.0, 2.0, 3.0, 4.0])
        look()
        for _ in range(3):
            branch.step(push=1.5)
            look()
        branch.call("turn", 0.5)
        branch.write("at", 7.0, slice(1, 3))
        look()
        for push in (0.0, 1.0, 0.0):
            branch.step(push=push)
            look()

    one, other = hooked.snapshot("root").branch(2, rng=7)
    states: dict[int, Any] = {}
    live(one, lambda: states.update({one.info().step: one.read("at")}))
    live(other, lambda: None)
    for step in reversed(range(7)):
        other.goto(step)
        np.testing.assert_array_equal(other.read("at"), states[step], err_msg=str(step))
    assert other.verify().ok


def test_seeds_hooks_restores_and_expansions_are_part_of_the_past(hooked: Server) -> None:
    main = hooked.branch("main")
    main.step(4)
    start = main.snapshot("four")
    best = start.expand([{"push": 1.0}, {"push": 3.0}], steps=5, keep="all", rng="split")[1].node
    assert isinstance(best, Branch)
    best.step(3)
    split = best.branch(name="split", rng="split")
    split.step(5, push=2.0)
    before, after = split.read("at"), split.step(5).outputs["sum"]
    gone = split.goto(17)
    np.testing.assert_array_equal(split.read("at"), before)
    assert split.step(5).outputs["sum"] == after
    gone = split.goto(6)
    assert gone.since == "four", "the one that it was expanded from"
    split.restore("four", rng=3)
    split.step(2)
    state = split.read("at")
    split.step(2)
    split.goto(6)
    np.testing.assert_array_equal(split.read("at"), state)
    split.goto(4)
    assert split.step(2).outputs["sum"] == pytest.approx(float(state.sum())), "with the stream that it was given"
    early = hooked.snapshot("root").branch()
    early.step(3)
    split.goto(3)
    np.testing.assert_array_equal(split.read("at"), early.read("at"))


def test_the_nearest_snapshot_is_where_it_begins(path: Server) -> None:
    main = path.branch("main")
    main.autosnap(every_steps=100, keep=16)
    main.step(1050)
    for step, since in ((1049, "auto-1000"), (1000, "auto-1000"), (730, "auto-700"), (99, "root")):
        gone = main.goto(step)
        assert gone.since == since
        assert gone.ticks < 100
        assert gone.agreed >= step - 100
    assert "auto-1050" in names(path), "what it was at first is kept"
    main.step(102)
    assert "auto-200-2" in names(path) or "auto-200" in names(path)


def test_a_snapshot_that_is_no_past_of_it_is_passed_over(path: Server) -> None:
    main = path.branch("main")
    main.step(5)
    main.mark()
    main.step(5)
    main.snapshot("ahead")
    main.rewind()
    main.step(6, push=4.0)
    state = main.read("at")
    main.step(1)
    gone = main.goto(11)
    assert gone.since == "root"
    np.testing.assert_array_equal(main.read("at"), state)


def test_what_it_was_is_kept_once_and_can_be_gone_back_to(path: Server) -> None:
    main = path.branch("main")
    main.step(50)
    state = main.read("at")
    left = main.goto(40).left
    assert left is not None
    assert (left.kind, left.step, left.automatic) == ("snapshot", 50, True)
    again = main.goto(30)
    assert again.left is not None
    assert again.left.id == left.id, "nothing was done since"
    main.step(1, push=9.0)
    other = main.goto(20).left
    assert other is not None
    assert (other.id != left.id, other.step) == (True, 31)
    main.restore(left.id)
    np.testing.assert_array_equal(main.read("at"), state)
    there = main.goto(10).left
    assert there is not None
    assert there.id == left.id, "a snapshot of that moment does"
    main.step(5)
    before = names(path)
    assert main.goto(2, keep=False).left is None
    assert names(path) == before


def test_a_step_that_is_not_in_the_past_is_refused_and_where_it_stands_nothing_changes(path: Server) -> None:
    main = path.branch("main")
    main.step(10)
    pid = main.info().pid
    with pytest.raises(NotFoundError, match="step 11 is not in the past of main, which goes from 0 to 10"):
        main.goto(11)
    with pytest.raises(NotFoundError):
        main.back(11)
    with pytest.raises(BadRequestError):
        main.goto(-1)
    gone = main.goto(10)
    assert (gone.moved, gone.ticks, gone.left) == (False, 0, None)
    assert not main.back(0).moved
    assert main.info().pid == pid
    with pytest.raises(FrozenError):
        Branch.goto(path.snapshot("root"), 0)  # type: ignore[arg-type]
    assert main.back(10).node.step == 0
    assert not main.goto(0).moved


def test_a_branch_is_made_at_a_step_of_a_node_which_stays(path: Server) -> None:
    main = path.branch("main")
    main.step(30, push=1.0)
    end = main.snapshot("end")
    made = end.branch_at(12, "twelve")
    live = main.branch_at(30, "thirty")
    assert (made.last.step, made.last.name, live.last.step) == (12, "twelve", 30)
    np.testing.assert_array_equal(live.read("at"), end.read("at"))
    made.step(18, push=1.0)
    np.testing.assert_array_equal(made.read("at"), end.read("at"))
    assert (main.info().step, end.info().step) == (30, 30)
    with pytest.raises(NameTakenError):
        end.branch_at(3, "twelve")
    with end.branch_at(5) as passing:
        assert passing.info().step == 5
    assert passing.name not in names(path)


def test_it_goes_to_before_what_raised(path: Server) -> None:
    main = path.branch("main")
    main.step(5)
    clean = main.read("at")
    for _ in range(2):
        with pytest.raises(SimulationError):
            main.step(3, fail=True)
        main.clear()
    main.snapshot("raised")
    main.step(4, push=1.0)
    main.goto(5)
    np.testing.assert_array_equal(main.read("at"), clean)
    with pytest.raises(SimulationError):
        main.step(fail=True)
    with pytest.raises(FaultedError):
        main.step()
    gone = main.goto(5)
    assert gone.moved
    assert gone.left is not None
    assert gone.left.state == "faulted"
    np.testing.assert_array_equal(main.read("at"), clean)
    with pytest.raises(SimulationError):
        main.call("break_down")
    main.clear()
    main.step(2)
    main.goto(6)
    with pytest.raises(SimulationError):
        main.step(fail=True)
    main.goto(5)
    np.testing.assert_array_equal(main.read("at"), clean)
    main.step(1)
    assert not main.info().faulted


def test_what_was_recorded_is_there_again_and_what_stands_goes_on(path: Server) -> None:
    main, other = path.snapshot("root").branch(2)
    main.step(10, record="sum")
    main.snapshot("ten")
    main.record("max(at)", every=4)
    main.step(20, record=["sum", "at"], every=2)
    main.step(7)
    main.step(3, record="sum")
    whole = main.records()
    for step in (38, 31, 25, 10, 3):
        main.goto(step)
        found = main.records()
        kept = whole.steps <= step
        assert found.steps.tolist() == whole.steps[kept].tolist()
        for name in found:
            np.testing.assert_array_equal(found[name], whole[name][kept])
    main.step(9)
    assert main.records(after=3).steps.tolist() == [4, 8, 12], "the order stands"
    other.step(3)
    other.record()
    other.goto(1)
    assert other.records().steps.tolist() == []


def test_steps_that_stopped_by_themselves_are_done_as_they_were(serve: Serve) -> None:
    with serve(PATH, params={"finished_at": 30}).connect() as server:
        main = server.branch("main")
        assert main.step(10, until=when("sum") > -1e9).ticks == 1
        assert main.step(100_000).ticks == 29
        state = main.read("at")
        made = main.branch_at(30)
        np.testing.assert_array_equal(made.read("at"), state)
        main.goto(29)
        assert main.step(5).ticks == 1
        np.testing.assert_array_equal(main.read("at"), state)


def test_a_simulation_that_does_not_do_the_same_twice_says_from_where_on(serve: Serve) -> None:
    with serve("tests.simulations.chance:Dice", params={"fair_from": 20}).connect() as server:
        main = server.branch("main")
        for _ in range(40):
            main.step(record="throw")
        with pytest.warns(SnapservWarning, match="not_the_same") as told:
            gone = main.goto(35)
        assert (gone.agreed, gone.parted) == (19, 20)
        assert told[0].filename == __file__
        assert main.records().steps.tolist() == [*range(1, 20)], "what is known to be of this past"
        assert main.goto(12).parted is None


def test_what_cannot_be_done_again_is_refused_and_nothing_changes(serve: Serve, tmp_path: Path) -> None:
    weather = tmp_path / "weather"
    weather.write_text("1")
    with serve("tests.simulations.replaying:Looping", params={"weather": str(weather)}).connect() as server:
        main = server.branch("main")
        main.step(10)
        state = main.read("position")
        weather.write_text("rain")
        before = names(server)
        with pytest.raises(RecordingMismatchError, match="cannot be done again from root") as raised:
            main.goto(5)
        assert raised.value.details["differs"] == ["actions"]
        assert main.info().step == 10
        np.testing.assert_array_equal(main.read("position"), state)
        assert names(server) == before
        weather.write_text("1")
        assert main.goto(5).moved


def test_a_branch_that_has_died_has_no_past_that_could_be_asked(serve: Serve) -> None:
    with serve("tests.simulations.trouble:Trouble").connect() as server:
        main = server.branch("main")
        main.step(10)
        with pytest.raises(NodeDiedError):
            main.step(how="abort", at=11)
        with pytest.raises(NodeDiedError, match="restore or reset"):
            main.goto(5)


@pytest.fixture
def lives(short_path: Path) -> Iterator[Lives]:
    found = Lives(short_path)
    yield found
    found.close()


def test_it_begins_from_what_is_in_the_store_alone(lives: Lives) -> None:
    with lives.begin(PATH) as client:
        main = client.branch("main")
        main.step(10, push=1.0)
        main.snapshot("ten").save()
        main.step(10, push=1.0, record="sum")
        main.snapshot("twenty").save()
        sums = main.records()["sum"]
    lives.kill_all()
    with lives.begin() as client:
        main = client.branch("main")
        assert {node.name: node.state for node in client.tree().nodes}["ten"] == "stored"
        gone = main.goto(15)
        assert (gone.since, gone.agreed) == ("ten", 10)
        assert main.records()["sum"].tolist() == sums[:5].tolist()
        assert float(main.read("at").sum()) == pytest.approx(sums[4])


def test_a_server_that_is_killed_leaves_a_branch_that_went_back_where_it_went(serve: Serve, lives: Lives) -> None:
    with lives.begin(PATH, options=("--orphan-grace", "30")) as client:
        main = client.branch("main")
        main.step(20)
        main.goto(7)
        state = main.read("at")
    lives.kill_server()
    with lives.rise() as client:
        main = client.branch("main")
        assert main.info().step == 7
        np.testing.assert_array_equal(main.read("at"), state)
        assert main.goto(3).moved


def test_a_return_is_interrupted_and_the_branch_stands_where_it_stood(serve: Serve) -> None:
    process = serve("tests.simulations.walk:Walk")
    with process.connect() as server:
        main, other = server.branch("main"), server.snapshot("root").branch()
        main.step(100_000)
        state, before, passing = main.read("position"), names(server), other.name

        def stop(client: Server) -> None:
            time.sleep(0.3)
            began = time.monotonic()
            client.branch(passing).step(10)
            assert time.monotonic() - began < 1, "nobody else waits for it"
            assert client.branch("main").interrupt()

        stopped = pytest.raises(StepInterruptedError, match="main stands at step 100,000 as before")
        with elsewhere(process, stop) as raised, stopped:
            main.goto(99_999)
        assert not raised
        assert main.info().step == 100_000
        np.testing.assert_array_equal(main.read("position"), state)
        assert names(server) == before
        assert other.info().step == 10
        heard: list[tuple[int, int]] = []
        main.goto(50_000, progress=lambda done, total: heard.append((done, total)))
        assert heard
        assert all(done <= total == 50_000 for done, total in heard)


def test_who_gives_up_waiting_stops_it(serve: Serve) -> None:
    process = serve("tests.simulations.walk:Walk")

    async def give_up() -> None:
        async with await aio.connect(process.endpoint) as server:
            main = await server.branch("main")
            await main.step(100_000)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await main.goto(99_000)
            assert (await main.info()).step == 100_000
            assert (await main.goto(10)).node.step == 10
            assert (await main.back(4)).node.step == 6
            found = await main.bisect(0, None, when("count") >= 4)
            assert found.step == 4

            async def test(node: aio.Branch) -> bool:
                return bool((await node.read("count")) >= 5)

            assert (await main.bisect(0, None, test)).step == 5

    asyncio.run(give_up())


def test_two_clients_take_turns(path: Server) -> None:
    async def both() -> list[GotoResult]:
        async with await aio.connect(path.endpoint) as one, await aio.connect(path.endpoint) as other:
            mine, yours = await one.branch("main"), await other.branch("main")
            await mine.step(1000)
            return list(await asyncio.gather(*(each.back(100) for each in (mine, yours, mine, yours))))

    found = asyncio.run(both())
    assert sorted(each.node.step for each in found) == [600, 700, 800, 900]
    assert path.branch("main").info().step == 600


SIMULATIONS = {
    "fire": ("snapserv.examples.wildfire:Wildfire", {"rows": 64, "cols": 64}, {"wind": [2.0, 1.0]}),
    "shop": ("simpy:snapserv.examples.machine_shop:Shop", {}, {}),
    "lander": ("gym:LunarLander-v3", {}, {"action": 2}),
}


@pytest.mark.parametrize("which", SIMULATIONS)
def test_real_simulations_go_back(serve: Serve, which: str) -> None:
    target, params, inputs = SIMULATIONS[which]
    with serve(target, params=params).connect() as server:
        main, by_ticks = server.snapshot("root").branch(2)
        if which == "lander":
            for each in (main, by_ticks):
                each.call("reset", seed=3)
        main.step(20, inputs=inputs)
        main.step(13, inputs=inputs)
        told = [by_ticks.step(inputs=inputs).outputs for _ in range(25)]
        gone = main.goto(24)
        assert (gone.agreed, gone.parted) == (20, None)
        assert_same(gone.outputs, told[23])
        assert_same(main.step(inputs=inputs).outputs, told[24])
        assert_same(main.goto(20).outputs, told[19])


def assert_same(one: Any, other: Any) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_equal(one[name], other[name])
