"""A run keeps a bounded ladder of places to go back to, and nobody's own snapshots are ever among what goes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snapserv_client import Branch, Server, aio
from snapserv_client.errors import (
    BadRequestError,
    FrozenError,
    NodeDiedError,
    SimulationError,
    SnapservWarning,
    StepInterruptedError,
)

from snapserv.operations.retention import stretch, superfluous

from ..conftest import ServerProcess, assert_settles

Serve = Callable[..., ServerProcess]


@pytest.fixture
def process(serve: Serve) -> ServerProcess:
    return serve("tests.simulations.trouble:Trouble")


@pytest.fixture
def trouble(process: ServerProcess) -> Iterator[Server]:
    with process.connect() as server:
        yield server


def automatic(server: Server) -> list[str]:
    return [node.name for node in server.tree() if node.automatic]


def steps(server: Server) -> list[int]:
    return sorted(node.step for node in server.tree() if node.automatic)


# ------------------------------------------------------------------------------------------------------- the ladder


@given(length=st.integers(1, 2000), keep=st.integers(1, 40))
def test_a_ladder_is_bounded_and_the_way_back_grows_in_proportion_to_its_age(length: int, keep: int) -> None:
    """At any time of a run, whatever is kept of it, and for every past moment."""
    kept: list[int] = []
    for newest in range(1, length + 1):
        kept.append(newest)
        gone = superfluous(kept, keep)
        assert len(gone) <= 1
        kept = [place for place in kept if place not in gone]
        assert len(kept) == min(newest, keep)
        assert kept[-1] == newest
        limit = stretch(newest, keep)
        for older, newer in zip([0, *kept], kept, strict=False):
            # The worst moment between two places is the last one before the newer: its age is that one's and 1.
            assert newer - older - 1 <= limit * (newest - newer + 1)


@given(places=st.sets(st.integers(1, 10**6), min_size=1), keep=st.integers(1, 50))
def test_whatever_a_ladder_was_it_is_thinned_to_what_may_stay(places: set[int], keep: int) -> None:
    gone = superfluous(places, keep)
    assert set(gone) <= places
    assert len(places) - len(gone) == min(len(places), keep)
    assert max(places) not in gone


def test_a_long_run_keeps_recent_places_dense_and_old_ones_sparse() -> None:
    kept: list[int] = []
    for newest in range(1, 100_001):
        kept.append(newest)
        for gone in superfluous(kept, 32):
            kept.remove(gone)
    gaps = [newer - older for older, newer in zip([0, *kept], kept, strict=False)]
    assert gaps[-1] == 1
    assert gaps[0] > 1000
    ages = [100_000 - place + 1 for place in kept]
    assert max(gap / age for gap, age in zip(gaps, ages, strict=True)) <= stretch(100_000, 32) < 1.1


# -------------------------------------------------------------------------------------------------- taken by steps


def test_one_long_step_leaves_snapshots_on_its_way(trouble: Server) -> None:
    main = trouble.branch("main")
    rule = main.autosnap(every_steps=100, keep=8)
    assert rule is not None
    assert (rule.every_steps, rule.every_s, rule.keep, rule.error) == (100, None, 8, "")
    assert main.info().autosnap == rule
    assert main.step(350).step == 350
    assert automatic(trouble) == ["auto-100", "auto-200", "auto-300"]
    assert [node.name for node in main.log()] == ["root", "auto-100", "auto-200", "auto-300", "main"]
    main.step(49)
    assert len(automatic(trouble)) == 3
    assert main.step(1).step == 400
    assert automatic(trouble)[-1] == "auto-400"
    main.restore("auto-200")
    assert int(main.read("count")) == main.info().step == 200
    assert trouble.node("auto-300").verify().ok


def test_a_cut_step_is_one_request_to_its_client(serve: Serve) -> None:
    """Outputs, ticks and state are as of a step that was not cut, and progress counts all of it."""
    with serve("tests.simulations.walk:Walk").connect() as server:
        main, plain = server.branch("main"), server.branch("main").branch(name="plain")
        main.autosnap(every_steps=1000, keep=2)
        reports: list[tuple[int, int]] = []
        result = main.step(20_500, drift=0.25, progress=lambda done, total: reports.append((done, total)))
        expected = plain.step(20_500, drift=0.25)
        assert (result.step, result.ticks, result.outputs) == (20_500, 20_500, expected.outputs)
        assert result.elapsed_us > 0
        assert {total for _, total in reports} == {20_500}
        assert [done for done, _ in reports] == sorted(done for done, _ in reports)
        assert reports[-1][0] > 1000
        assert main.diff(plain).same
        assert main.verify().ok


def test_a_cut_step_is_interrupted_as_one(process: ServerProcess, trouble: Server) -> None:
    main = trouble.branch("main")
    main.autosnap(every_steps=5, keep=3)
    stopped: list[StepInterruptedError] = []

    def step() -> None:
        with process.connect() as own:
            try:
                own.branch("main").step(10**9)
            except StepInterruptedError as error:
                stopped.append(error)

    thread = threading.Thread(target=step)
    thread.start()
    assert_settles(lambda: main.info().step > 20, True)
    assert main.interrupt()
    thread.join(20)
    (error,) = stopped
    here = main.info().step
    assert error.details["step"] == error.details["ticks"] == here
    assert f"{here:,} of 1,000,000,000" in error.message
    assert main.info().state == "idle"


def test_what_fails_in_a_cut_step_says_how_far_all_of_it_came(trouble: Server) -> None:
    main = trouble.branch("main")
    main.autosnap(every_steps=10)
    with pytest.raises(SimulationError) as caught:
        main.step(100, how="raise", at=38)
    assert (caught.value.details["step"], caught.value.details["ticks"]) == (37, 37)
    assert steps(trouble) == [10, 20, 30]
    main.restore("auto-30")
    with pytest.raises(NodeDiedError) as died:
        main.step(100, how="segfault", at=55)
    assert died.value.details["step"] == 54
    main.restore("auto-50")
    assert main.step(5).step == 55


def test_a_simulation_that_is_finished_at_a_cut_is_stepped_no_further(serve: Serve) -> None:
    with serve("tests.simulations.expanding:Steered").connect() as server:
        main = server.branch("main")
        main.autosnap(every_steps=5)
        result = main.step(50, turn=20)
        assert (result.step, result.ticks, result.outputs["turned"]) == (5, 5, 20)
        assert [action.ticks for action in main.actions()] == [5]  # type: ignore[union-attr]
        main.reset()
        assert main.step(50, turn=50).ticks == 2
        assert steps(server) == [5]


def test_an_atomic_step_is_not_cut_and_is_snapshotted_at_its_end(trouble: Server) -> None:
    main = trouble.branch("main")
    main.autosnap(every_steps=10)
    main.step(25, atomic=True)
    assert automatic(trouble) == ["auto-25"]
    with pytest.raises(NodeDiedError, match="rolled back to step 25"):
        main.step(100, how="segfault", at=99, atomic=True)
    assert automatic(trouble) == ["auto-25"]
    main.step(4, atomic=True)
    assert automatic(trouble) == ["auto-25"]
    main.step(1)
    assert automatic(trouble) == ["auto-25", "auto-30"]


# ------------------------------------------------------------------------------------------------- taken by seconds


def test_a_step_that_takes_long_is_snapshotted_by_the_clock(trouble: Server) -> None:
    main = trouble.branch("main")
    rule = main.autosnap(every_s=0.05, keep=3)
    assert rule is not None
    assert (rule.every_steps, rule.every_s) == (None, 0.05)

    def taken(_: int, __: int) -> None:
        if len(automatic(trouble)) == 3:
            main.interrupt()

    with pytest.raises(StepInterruptedError):
        main.step(10**12, progress=taken)
    assert len(automatic(trouble)) == 3
    main.call("touch", 0, 1, 1)
    assert_settles(lambda: len(automatic(trouble)), 3)


# ------------------------------------------------------------------------------------------------------- thinned


def test_a_long_run_keeps_so_many_and_what_is_pinned_or_tagged_or_ones_own_stays(trouble: Server) -> None:
    main = trouble.branch("main")
    main.autosnap(every_steps=1, keep=5)
    main.step(10)
    own = main.snapshot("auto-own")
    assert_settles(lambda: len(automatic(trouble)), 5)
    pinned, tagged = automatic(trouble)[:2]
    trouble.node(pinned).pin()
    trouble.node(tagged).tag("before-it-went-wrong")
    child = trouble.snapshot(automatic(trouble)[2]).branch(name="child")
    began = child.info().step
    main.step(200)
    assert_settles(lambda: len(automatic(trouble)), 7)
    assert {pinned, tagged} <= set(automatic(trouble))
    assert own.info().step == 10
    assert child.step().step == began + 1
    kept = steps(trouble)
    assert kept[-1] == 210
    assert main.verify().ok
    trouble.node(pinned).pin(False)
    main.step(1)
    assert_settles(lambda: len(automatic(trouble)), 6)


def test_fewer_stay_at_once_and_none_are_taken_where_a_rule_changes(trouble: Server) -> None:
    main = trouble.branch("main")
    main.autosnap(every_steps=2)
    main.step(20)
    assert len(automatic(trouble)) == 10
    rule = main.autosnap(keep=4)
    assert rule is not None
    assert (rule.every_steps, rule.keep) == (2, 4)
    assert_settles(lambda: len(automatic(trouble)), 4)
    assert main.autosnap() == rule
    assert main.autosnap(off=True) is None
    main.step(20)
    assert len(automatic(trouble)) == 4


def test_what_a_branch_went_back_beyond_goes_first(trouble: Server) -> None:
    main = trouble.branch("main")
    main.autosnap(every_steps=10, keep=4)
    main.step(40)
    main.restore("auto-20")
    main.step(10)
    assert_settles(lambda: automatic(trouble), ["auto-10", "auto-20", "auto-40", f"auto-30-{main.id}"])
    main.step(10)
    names = [f"auto-30-{main.id}", f"auto-40-{main.id}"]
    assert_settles(lambda: automatic(trouble), ["auto-10", "auto-20", *names])
    assert main.verify().ok


def test_a_branch_takes_its_automatic_snapshots_along_when_it_is_dropped(trouble: Server) -> None:
    main = trouble.branch("main")
    other = main.branch(name="other")
    other.autosnap(every_steps=5)
    other.step(20)
    main.autosnap(every_steps=5)
    main.step(5)
    assert automatic(trouble) == ["auto-5", "auto-10", "auto-15", "auto-20", f"auto-5-{main.id}"]
    trouble.node("auto-10").pin()
    child = trouble.snapshot("auto-20").branch(name="child")
    other.drop()
    assert_settles(lambda: automatic(trouble), ["auto-10", f"auto-5-{main.id}"])
    assert child.step().step == 21


def test_one_that_is_in_use_goes_when_that_is_done(process: ServerProcess, trouble: Server) -> None:
    main = trouble.branch("main")
    main.autosnap(every_steps=1, keep=1)
    main.step()
    done: list[int] = []

    def expand() -> None:
        with process.connect() as own:
            outcomes = own.snapshot("auto-1").expand([{"how": "sleep", "at": 2}], timeout_s=1.0)
            done.extend(outcome.index for outcome in outcomes)

    thread = threading.Thread(target=expand)
    thread.start()
    assert_settles(lambda: trouble.node("auto-1").info().state, "busy")
    main.step(2)
    assert_settles(lambda: automatic(trouble), ["auto-1", "auto-3"])
    thread.join(20)
    assert done == [0]
    assert_settles(lambda: automatic(trouble), ["auto-3"])


def test_a_dead_one_makes_room(trouble: Server) -> None:
    main = trouble.branch("main")
    main.autosnap(every_steps=10, keep=3)
    main.step(30)
    newest = trouble.node("auto-30")
    os.kill(newest.info().pid, signal.SIGKILL)
    assert_settles(lambda: newest.info().state, "dead")
    main.step(10)
    assert_settles(lambda: automatic(trouble), ["auto-10", "auto-20", "auto-40"])


# ------------------------------------------------------------------------------------------------------ the rest


def test_one_that_cannot_be_taken_fails_no_step_and_is_told(trouble: Server) -> None:
    main = trouble.branch("main")
    main.autosnap(every_steps=2)
    main.call("fail", "threads")
    with pytest.warns(SnapservWarning, match="threads_running"):
        assert main.step(5).step == 5
    rule = main.info().autosnap
    assert rule is not None
    assert "2 threads" in rule.error
    assert automatic(trouble) == []
    main.reset()
    main.step(5)
    assert automatic(trouble) == ["auto-2", "auto-4"]
    rule = main.info().autosnap
    assert rule is not None
    assert rule.error == ""


def test_a_rule_is_checked(trouble: Server) -> None:
    main = trouble.branch("main")
    with pytest.raises(BadRequestError, match="exclude each other"):
        main.autosnap(every_steps=1, every_s=1.0)
    with pytest.raises(BadRequestError, match="exclude each other"):
        main.autosnap(every_steps=1, off=True)
    with pytest.raises(BadRequestError, match="no snapshots are taken"):
        main.autosnap(keep=3)
    with pytest.raises(BadRequestError):
        main.autosnap(every_steps=0)
    with pytest.raises(BadRequestError):
        main.autosnap(every_s=float("inf"))
    assert main.autosnap() is None
    assert main.autosnap(off=True) is None
    with pytest.raises(FrozenError):
        Branch(trouble, trouble.snapshot("root").info()).autosnap(every_steps=1)


@pytest.mark.parametrize(("every", "rule"), [("10", (10, None)), ("30s", (None, 30.0)), ("0.5s", (None, 0.5))])
def test_a_server_can_be_told_to_do_it_for_the_main_branch_of_each_tree(
    serve: Serve, every: str, rule: tuple[int | None, float | None]
) -> None:
    options = ("--autosnap", every, "--autosnap-keep", "3")
    with serve("tests.simulations.trouble:Trouble", options=options).connect() as server:
        for main in (server.branch("main"), server.create(name="t")):
            found = main.autosnap()
            assert found is not None
            assert (found.every_steps, found.every_s, found.keep) == (*rule, 3)
        assert server.branch("main").branch().autosnap() is None


def test_automatic_snapshots_with_asyncio(process: ServerProcess) -> None:
    import asyncio

    async def run() -> list[str]:
        async with await aio.connect(process.endpoint) as server:
            main = await server.branch("main")
            await main.autosnap(every_steps=3)
            await main.step(7)
            return [node.name for node in await server.tree() if node.automatic]

    assert asyncio.run(run()) == ["auto-3", "auto-6"]
