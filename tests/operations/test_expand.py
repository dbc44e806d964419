"""Expanding: a child for each input, in one round trip; what fails is one child's affair, and nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from snapserv_client import Best, Outcome, Server, aio
from snapserv_client.errors import (
    BadRequestError,
    NodeDiedError,
    NotFoundError,
    RequestTimeoutError,
    SimulationError,
    SnapservError,
    StepInterruptedError,
)

from ..conftest import ServerProcess, assert_settles, session_processes

Serve = Callable[..., ServerProcess]


def cells(server: Server) -> int:
    assert server.hello is not None
    return len(session_processes(server.hello.pid))


def test_each_child_is_what_branching_and_stepping_would_have_given(server: Server) -> None:
    main = server.branch("main")
    main.step(3)
    before = main.snapshot()
    nodes = len(server.tree().nodes)
    outcomes = before.expand([{"drift": float(drift)} for drift in range(6)], steps=4, read=["position", "mean"])
    assert [outcome.index for outcome in outcomes] == list(range(6))
    assert len(server.tree().nodes) == nodes, "no child is a node"
    for drift, outcome in enumerate(outcomes):
        branch = before.branch()
        result = branch.step(4, drift=float(drift))
        assert outcome.step == result.step == 7
        assert outcome.ticks == 4
        assert outcome.outputs == {"mean": result.outputs["mean"]}, "what is asked, and nothing else"
        assert np.array_equal(outcome["position"], branch.read("position"))
        branch.drop()


def test_a_live_branch_is_expanded_from_where_it_stands_and_goes_on(server: Server) -> None:
    main = server.branch("main")
    main.step(2)
    nodes = len(server.tree().nodes)
    (outcome,) = main.expand([{}])
    assert outcome.step == 3
    assert main.info().step == 2
    assert main.step(1).outputs == outcome.outputs
    assert len(server.tree().nodes) == nodes, "the snapshot that was taken for it is gone"


def test_sequences_are_played_and_sums_are_of_every_tick(server: Server) -> None:
    main = server.branch("main")
    first, second = main.expand([[{"drift": 1.0}, {"drift": 2.0}], {"drift": 1.0}], steps=2, sum=["count", "mean"])
    assert (first.ticks, second.ticks) == (4, 2)
    assert first.totals["count"] == 1 + 2 + 3 + 4
    branch, means = main.branch(), []
    for drift in (1.0, 1.0, 2.0, 2.0):
        means.append(branch.step(drift=drift).outputs["mean"])
    assert first["mean"] == sum(means), "a sum is found before the last output of the same name"
    assert first.outputs["mean"] == means[-1]


def test_random_streams_are_the_same_or_split_or_seeded(server: Server) -> None:
    main = server.branch("main")
    same = main.expand([{}] * 4)
    assert len({outcome["mean"] for outcome in same}) == 1
    split = main.expand([{}] * 4, rng="split")
    assert len({outcome["mean"] for outcome in split}) == 4
    seeded = [outcome["mean"] for outcome in main.expand([{}] * 2, rng=5)]
    assert seeded[0] == seeded[1] == main.branch(rng=5).step().outputs["mean"]


def test_winners_are_kept_as_branches_or_snapshots(server: Server) -> None:
    main = server.branch("main")
    before = main.snapshot()
    inputs = [{"drift": float(drift)} for drift in (3, 1, 4, 1, 5, 9, 2, 6)]
    outcomes = before.expand(inputs, keep=Best(3, "mean"))
    assert [outcome.index for outcome in outcomes if outcome.node is not None] == [4, 5, 7]
    for outcome in outcomes:
        if outcome.node is not None:
            assert outcome.node.step(drift=0.0).step == 2
            assert outcome.node.log()[-2].id == before.id
    lowest = before.expand(inputs, keep=Best(1, "mean", largest=False), keep_as="snapshot")
    (kept,) = [outcome for outcome in lowest if outcome.node is not None]
    assert kept.index in (1, 3)
    assert kept.node.info().kind == "snapshot"
    assert kept.node.branch().step(drift=0.0).step == 2
    everyone = main.expand(inputs, keep="all")
    assert all(outcome.node is not None for outcome in everyone)
    assert len({outcome.node.log()[-2].id for outcome in everyone}) == 1, "of the snapshot that was taken for it"


def test_a_policy_of_the_simulation_chooses_in_the_child(serve: Serve) -> None:
    with serve("tests.simulations.expanding:Steered").connect() as server:
        main = server.branch("main")
        (outcome,) = main.expand([{"turn": 1}], steps=2, policy="wander", policy_steps=5, rng=3, sum=["turned"])
        assert outcome.ticks == 7
        twin = main.branch(rng=3)
        turns = [1, 1] + [twin.call("wander")["turn"] for _ in range(5)]
        assert outcome["turned"] == sum(turns)
        with pytest.raises(NotFoundError, match="wander"):
            main.expand([{}], policy="wonder", policy_steps=1)
        with pytest.raises(BadRequestError, match="policy"):
            main.expand([{}], policy_steps=1)
        (bad,) = main.expand([{}], policy="no_inputs", policy_steps=1)
        assert isinstance(bad.error, BadRequestError)


def test_what_is_wrong_in_a_child_is_blamed_on_whom_it_was(serve: Serve) -> None:
    with serve("tests.simulations.expanding:Steered").connect() as server:
        main = server.branch("main")
        for options, kind, words in (
            (
                {"policy": "broken_policy", "policy_steps": 1},
                SimulationError,
                "Steered.broken_policy raised ValueError",
            ),
            ({"policy": "further", "policy_steps": 1}, BadRequestError, "further: missing"),
            ({"read": ["further"]}, BadRequestError, "further: missing"),
            ({"sum": ["said"]}, BadRequestError, "'said' does not add up"),
            ({"sum": ["unsaid"]}, BadRequestError, "'unsaid' is no field, output"),
        ):
            (outcome,) = main.expand([{"turn": 1}], **options)
            assert type(outcome.error) is kind
            assert words in str(outcome.error)
        for ask in (main.branch, main.restore, main.reset, main.expand):
            given: Any = {"expand": [[{}]], "restore": ["root"]}.get(ask.__name__, [])
            with pytest.raises(BadRequestError, match="rng"):
                ask(*given, rng=-1)
        assert main.info().faulted is None


def test_the_best_are_those_of_an_output_that_is_not_asked_for(serve: Serve) -> None:
    with serve("tests.simulations.expanding:Steered").connect() as server:
        outcomes = server.branch("main").expand(
            [{"turn": turn} for turn in (3, 9, 5)], read=["wander"], keep=Best(1, "turned")
        )
        assert [outcome.node is not None for outcome in outcomes] == [False, True, False]
        assert all(outcome.outputs.keys() == {"wander"} for outcome in outcomes)


def test_a_finished_simulation_is_stepped_no_further(serve: Serve) -> None:
    with serve("tests.simulations.expanding:Steered").connect() as server:
        main = server.branch("main")
        short, long = main.expand([{"turn": 40}, {"turn": 1}], steps=10)
        assert (short.ticks, short.finished) == (3, True)
        assert (long.ticks, long.finished) == (10, False)
        assert main.step(10, turn=40).ticks == 3
        with pytest.raises(BadRequestError, match="Steered is finished"):
            main.step()
        refused, read = main.expand([{}, []], read=["turned"])
        assert isinstance(refused.error, BadRequestError)
        assert int(read["turned"]) == 120, "nothing is stepped, and it can be read"


def test_a_child_that_fails_is_one_outcome_and_its_siblings_go_on(serve: Serve) -> None:
    with serve("tests.simulations.trouble:Trouble").connect() as server:
        main = server.branch("main")
        before = main.snapshot()
        alive = cells(server)
        ways = ["", "segfault", "raise", "", "kill", "abort", "exit", "nonsense"]
        outcomes = before.expand([{"how": how, "at": 3} for how in ways], steps=5, read=["count"])
        by = dict(zip(ways[1:], outcomes[1:], strict=True))
        assert [outcome.ok for outcome in outcomes] == [True, False, False, True, False, False, False, True]
        for how, signal in (("segfault", "SIGSEGV"), ("kill", "SIGKILL"), ("abort", "SIGABRT")):
            error = by[how].error
            assert isinstance(error, NodeDiedError)
            assert error.details["signal"] == signal
            assert error.details["step"] == 2
        assert isinstance(by["raise"].error, SimulationError)
        assert by["raise"].error.details["ticks"] == 2
        assert isinstance(by["exit"].error, NodeDiedError)
        with pytest.raises(SimulationError):
            by["raise"]["count"]
        assert int(outcomes[0]["count"]) == 5
        assert_settles(lambda: cells(server), alive)
        assert before.branch().step().step == 1, "the snapshot is unharmed"


def test_five_of_sixteen_crash_and_eleven_do_not(serve: Serve) -> None:
    with serve("tests.simulations.trouble:Trouble").connect() as server:
        before = server.branch("main").snapshot()
        inputs = [{"how": "segfault" if number % 3 == 1 else "", "at": 2} for number in range(16)]
        outcomes = before.expand(inputs, steps=4)
        assert [outcome.ok for outcome in outcomes] == [number % 3 != 1 for number in range(16)]
        crashed = [outcome.error for outcome in outcomes if outcome.error is not None]
        assert len(crashed) == 5
        assert {(error.code, error.details["signal"]) for error in crashed} == {("node_died", "SIGSEGV")}
        assert server.ping() < 1
        assert all(outcome.ok for outcome in before.expand([{}] * 4))


def test_a_child_that_hangs_is_ended_in_time(serve: Serve) -> None:
    with serve("tests.simulations.trouble:Trouble").connect() as server:
        main = server.branch("main")
        hung, fine = main.expand([{"how": "hang", "at": 1}, {}], timeout_s=0.5)
        assert isinstance(hung.error, RequestTimeoutError)
        assert fine.ok


def test_what_cannot_be_is_refused_before_anything_is_forked(server: Server) -> None:
    main = server.branch("main")
    forks = server.stats().forks
    with pytest.raises(BadRequestError):
        main.expand([])
    with pytest.raises(BadRequestError, match="empty"):
        main.expand([[]])
    wrong: Any
    for wrong in ({"drift": 1.0}, [1], [None], ["text"], ({} for _ in range(2))):
        with pytest.raises(BadRequestError, match="for each child"):
            main.expand(wrong)
    with pytest.raises(BadRequestError, match="by"):
        main.expand([{}], keep=Best(1, ""))
    assert server.stats().forks == forks


def test_wrong_inputs_and_names_are_the_childs_errors(server: Server) -> None:
    wrong, right = server.branch("main").expand([{"drft": 1.0}, {}])
    assert isinstance(wrong.error, BadRequestError)
    assert "drift" in wrong.error.hint
    assert right.ok
    for options in ({"read": ["nothing"]}, {"sum": ["nothing"]}, {"keep": Best(1, "nothing")}):
        (outcome,) = server.branch("main").expand([{}], **options)  # type: ignore[arg-type]
        assert isinstance(outcome.error, BadRequestError), options
        assert outcome.node is None


def test_outcomes_come_as_they_are_there(server: Server, endpoint: str) -> None:
    seen: list[Outcome] = []
    outcomes = server.branch("main").expand([{}] * 5, on_outcome=seen.append)
    assert sorted(outcome.index for outcome in seen) == [0, 1, 2, 3, 4]
    assert len(outcomes) == 5

    async def main() -> None:
        async with await aio.connect(endpoint, timeout_s=10) as client:
            branch = await client.branch("main")
            found = [outcome async for outcome in branch.expand_as_completed([{}] * 5, keep=Best(1, "mean"))]
            assert sorted(outcome.index for outcome in found) == [0, 1, 2, 3, 4]
            (kept,) = [outcome.node for outcome in found if outcome.node is not None]
            assert (await kept.step()).step == 2
            assert len(await branch.expand([{}, {}])) == 2

    asyncio.run(main())


def test_leaving_early_ends_the_children_that_are_left(serve: Serve) -> None:
    process = serve("tests.simulations.trouble:Trouble")
    with process.connect() as server:
        alive = cells(server)

        async def main() -> None:
            async with await aio.connect(process.endpoint, timeout_s=10) as client:
                branch = await client.branch("main")
                inputs: list[Any] = [{}, *[{"how": "sleep", "at": 1}] * 5]
                # All at once: the one that ends must not wait for room behind those that never do.
                together = branch.expand_as_completed(inputs, parallel=len(inputs))
                async with contextlib.aclosing(together) as outcomes:
                    async for outcome in outcomes:
                        assert outcome.index == 0
                        break
                task = asyncio.create_task(branch.expand(inputs))
                await asyncio.sleep(0.2)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        asyncio.run(main())
        assert_settles(lambda: cells(server), alive)
        assert server.branch("main").step().step == 1


def test_a_snapshot_that_is_dropped_by_force_ends_its_expansion(serve: Serve) -> None:
    process = serve("tests.simulations.trouble:Trouble")
    with process.connect() as server:
        alive = cells(server)
        before = server.branch("main").snapshot()
        raised: list[SnapservError] = []

        def expand() -> None:
            with process.connect() as other:
                try:
                    other.snapshot(before.name).expand([{"how": "sleep", "at": 1}] * 3)
                except SnapservError as error:
                    raised.append(error)

        worker = threading.Thread(target=expand)
        worker.start()
        assert_settles(lambda: cells(server), alive + 4)  # the snapshot and its children
        before.drop(force=True)
        worker.join(20)
        assert not worker.is_alive()
        assert isinstance(raised[0], StepInterruptedError)
        assert_settles(lambda: cells(server), alive)


def test_children_run_in_parallel_and_no_more_than_asked(serve: Serve) -> None:
    with serve("tests.simulations.expanding:Crowd").connect() as server:
        main = server.branch("main")
        for parallel in (1, 3):
            outcomes = main.expand([{}] * 9, parallel=parallel)
            assert max(outcome["together"] for outcome in outcomes) <= parallel


def test_a_thousand_children_leave_nothing(server: Server) -> None:
    main = server.branch("main")
    alive, before = cells(server), server.stats()
    assert all(outcome.ok for outcome in main.expand([{}] * 1000, read=["count"]))
    assert_settles(lambda: cells(server), alive)
    # The server may be measuring memory, with a file open.
    assert_settles(lambda: server.stats().descriptors <= before.descriptors, True)
    assert server.stats().threads == before.threads


@pytest.mark.parametrize("largest", [True, False])
def test_what_is_no_number_is_never_the_best(serve: Serve, largest: bool) -> None:
    with serve("tests.simulations.expanding:Scored").connect() as server:
        before = server.branch("main").snapshot()
        outcomes = before.expand([{}, {"score": 1.0}, {"score": 2.0}], keep=Best(2, "score", largest=largest))
        assert [outcome.node is not None for outcome in outcomes] == [False, True, True]
