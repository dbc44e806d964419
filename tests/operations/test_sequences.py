"""A sequence of inputs in one request: what each tick put out, and a history of steps."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from snapserv_client import Server, aio, when
from snapserv_client.errors import BadRequestError, SimulationError, StepInterruptedError, TooLargeError

from ..conftest import ServerProcess

Serve = Callable[..., ServerProcess]


@pytest.fixture
def path(serve: Serve) -> Iterator[Server]:
    with serve("tests.simulations.travelling:Path").connect() as client:
        yield client


def test_a_sequence_is_what_its_steps_are_one_by_one(path: Server) -> None:
    one, many = path.snapshot("root").branch(2)
    inputs = [{"push": float(number // 3)} for number in range(20)]
    said = [one.step(inputs=each).outputs for each in inputs]
    done = many.run(inputs, record="sum", every=5)
    assert (done.step, done.ticks, done.stopped) == (20, 20, None)
    assert done.outputs["sum"].tolist() == [each["sum"] for each in said]
    np.testing.assert_array_equal(done.outputs["at"], np.stack([each["at"] for each in said]))
    assert done.records.steps.tolist() == [5, 10, 15, 20]
    assert [*many.actions()] == [*one.actions()], "three equal ones in a row are one action, three times"
    assert many.verify().ok
    many.goto(13)
    one.goto(13)
    np.testing.assert_array_equal(many.read("at"), one.read("at"))
    assert many.records().steps.tolist() == [5, 10]


def test_a_sequence_ends_where_a_condition_holds_or_the_simulation_is_finished(serve: Serve) -> None:
    with serve("tests.simulations.travelling:Path", params={"finished_at": 12}).connect() as server:
        main = server.branch("main")
        done = main.run([{"push": 9.0}] * 50, until=when("sum") >= 150, snapshot="far")
        assert done.stopped is True
        assert done.snapshot is not None
        assert (done.snapshot.step, len(done.outputs["sum"])) == (done.step, done.ticks)
        done = main.run([{}] * 50)
        assert (done.step, len(done.outputs["sum"])) == (12, done.ticks)
        with pytest.raises(BadRequestError, match="finished"):
            main.run([{}])


def test_automatic_snapshots_cut_a_sequence_and_nobody_sees_it(path: Server) -> None:
    main, plain = path.snapshot("root").branch(2)
    main.autosnap(every_steps=4)
    inputs = [{"push": float(number)} for number in range(18)]
    done, wanted = main.run(inputs, record="sum"), plain.run(inputs, record="sum")
    for name in ("sum", "at"):
        np.testing.assert_array_equal(done.outputs[name], wanted.outputs[name])
    np.testing.assert_array_equal(done.records["sum"], wanted.records["sum"])
    assert "auto-16" in [node.name for node in path.tree().nodes]


def test_what_does_not_fit_is_refused_before_the_first_tick(path: Server) -> None:
    main = path.branch("main")
    refused: list[Any] = [[{}, {"pull": 1}], [{}, {"push": "x"}], [], {"push": 1}, [{}, 3]]
    for inputs in refused:
        with pytest.raises(BadRequestError):
            main.run(inputs)
    with pytest.raises(TooLargeError):
        main.run([{"push": 0.123456789, "fail": False}] * 65_000)
    assert main.info().step == 0
    assert len(main.actions()) == 0


def test_a_tick_that_raises_is_the_last_one_and_atomic_ones_leave_nothing(path: Server) -> None:
    main = path.branch("main")
    inputs = [{}, {}, {"fail": True}, {}]
    with pytest.raises(SimulationError) as raised:
        main.run(inputs, atomic=True)
    assert raised.value.details["rolled_back_to"] == 0
    assert main.info().step == 0
    with pytest.raises(SimulationError) as raised:
        main.run(inputs)
    assert (raised.value.details["step"], raised.value.details["ticks"]) == (2, 2)
    assert main.info().faulted
    assert main.action(raised.value.details["action"]).raised  # type: ignore[union-attr]
    main.clear()
    main.run([{}, {}])
    assert main.verify().ok


def test_a_sequence_is_interrupted_between_two_ticks(serve: Serve) -> None:
    process = serve("tests.simulations.walk:Walk")
    with process.connect() as server, process.connect() as other:
        main = server.branch("main")
        raised: list[StepInterruptedError] = []

        def run() -> None:
            with process.connect() as own:
                try:
                    own.branch("main").run([{"drift": 0.5}] * 50_000)
                except StepInterruptedError as error:
                    raised.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        deadline = time.monotonic() + 10
        while not other.branch("main").info().step and time.monotonic() < deadline:
            time.sleep(0.01)
        assert other.branch("main").interrupt()
        thread.join(10)
        step = main.info().step
        assert 0 < step < 50_000
        assert raised[0].details["step"] == raised[0].details["ticks"] == step
        assert main.actions().ticks == step
        assert main.verify().ok


def test_environments_say_what_each_action_led_to(serve: Serve) -> None:
    with serve("gym:CartPole-v1").connect() as server:
        main, other = server.branch("main"), server.snapshot("root").branch()
        actions = [{"action": number % 2} for number in range(9)]
        done = main.run(actions)
        said = [other.step(inputs=each).outputs for each in actions]
        assert done.outputs["reward"].shape == (9,)
        assert done.outputs["observation"].shape == (9, 4)
        np.testing.assert_array_equal(done.outputs["observation"], np.stack([each["observation"] for each in said]))


def test_the_asyncio_client_runs_them_too(path: Server) -> None:
    async def run() -> None:
        async with await aio.connect(path.endpoint) as server:
            main = await server.branch("main")
            done = await main.run([{"push": 1.0}, {}])
            assert (done.step, done.outputs["sum"].shape) == (2, (2,))

    asyncio.run(run())
