"""Other people's simulators, served: SimPy, Mesa, plain objects, and an adapter as its documentation writes it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from snapserv_client import SnapservWarning, local
from snapserv_client.errors import (
    BadRequestError,
    NotFoundError,
    SimulationError,
    SnapservError,
    ThreadsRunningError,
    TooLargeError,
    UnsupportedError,
)

from snapserv.adapters import schemes as adapters
from snapserv.cell.loading import load_simulation

from ..conftest import ROOT, ServerProcess

Serve = Callable[..., ServerProcess]
TARGETS = [
    "simpy:examples.machine_shop:Shop",
    "mesa:examples.schelling:Schelling",
    "object:examples.queueing:Queue.advance",
]


def future(branch: Any, steps: int) -> list[Any]:
    """Return the outputs of the next steps, and how it ended where there are fewer."""
    found: list[Any] = []
    for _ in range(steps):
        try:
            found.append(branch.step().outputs)
        except BadRequestError as error:
            return [*found, error.message]
    return found


@pytest.mark.parametrize("target", TARGETS)
def test_a_branch_in_mid_flight_goes_on_as_the_run_that_was_never_branched(serve: Serve, target: str) -> None:
    with serve(target).connect() as server:
        main = server.branch("main")
        main.step(6)
        moment = main.snapshot()
        first, second = moment.branch(2)
        expected = future(main, 8)
        assert future(first, 8) == future(second, 8) == expected
        main.reset()
        main.step(6)
        assert future(main, 8) == expected, "and so does the whole run, done again"
        others = server.snapshot("root").branch(4, rng="split")
        assert len({repr((branch.step(2).outputs, branch.step(300).outputs)) for branch in others}) > 1


def test_a_simpy_model_with_running_generators_is_branched_and_driven_differently(serve: Serve) -> None:
    with serve("simpy:examples.machine_shop:Shop", params={"machines": 5, "seed": 3}).connect() as server:
        main = server.branch("main")
        main.step(until=997.5)
        moment = main.snapshot()
        short, long = moment.branch(2)
        assert short.step(3, delta=10.0).outputs["now"] == 1027.5
        assert long.step(until=2000.0).outputs["now"] == 2000.0
        assert sum(long.call("get", "parts")) > sum(short.call("get", "parts"))
        assert set(long.call("outputs")["repairer"]) == {"count", "capacity", "queue"}
        assert moment.verify().ok
        for branch in (short, long):
            assert branch.verify().ok
        with pytest.raises(BadRequestError, match="until 5"):
            long.step(until=5.0)
        with pytest.raises(BadRequestError):
            long.step(delta=-1.0)


def test_a_simpy_model_is_finished_when_nothing_is_to_happen_any_more(serve: Serve) -> None:
    with serve("simpy:tests.models:timeouts", params={"n": 3}).connect() as server:
        main = server.branch("main")
        assert main.step().outputs["events"] == 1, "the next timeout"
        main.step(50)
        assert (main.info().step, main.call("outputs")) == (4, {"now": 4.0, "events": 0})
        with pytest.raises(BadRequestError, match="finished"):
            main.step()
        assert main.info().faulted is None


def test_a_time_that_is_reached_is_not_gone_beyond_by_further_ticks(serve: Serve) -> None:
    with serve("simpy:examples.machine_shop:Shop").connect() as server:
        main = server.branch("main")
        result = main.step(2, until=80.0)
        assert (result.ticks, result.outputs["now"]) == (2, 80.0)
        assert main.step(delta=1.0).outputs["now"] == 81.0
        with pytest.raises(BadRequestError, match="does not go back"):
            main.step(until=80.0)


def test_a_mesa_model_reports_what_it_collects_and_stops(serve: Serve) -> None:
    with serve("mesa:examples.schelling:Schelling", params={"size": 8}).connect() as server:
        main = server.branch("main")
        result = main.step(1000)
        assert result.ticks < 1000, "everybody is content"
        assert result.outputs["content"] == result.outputs["agents"]
        assert len(main.call("collected")["content"]) == result.ticks
        assert set(main.call("agents", "kind")) == {0, 1}
        with pytest.raises(BadRequestError, match="finished"):
            main.step()
        (outcome,) = main.expand([{}])
        assert isinstance(outcome.error, BadRequestError)
        assert main.info().step == result.ticks
        with pytest.raises(NotFoundError, match="kindness"):
            main.call("agents", "kindness")


def test_an_object_has_its_methods_parameters_as_inputs(serve: Serve) -> None:
    with serve("object:examples.queueing:Queue.advance", params={"arrive": 1.0, "served": 1.0}).connect() as server:
        main = server.branch("main")
        assert main.step(3, counters=0).outputs == {"waiting": 3, "longest": 0}
        assert main.call("rush", 10) == 13
        assert main.step(counters=4).outputs["waiting"] == 10
        assert main.call("get", "minutes") == 4
        spec = server.spec()
        assert [method.name for method in spec.methods] == ["get", "rush", "set"]
        for wrong in ({"counters": "many"}, {"counter": 1}):
            with pytest.raises(BadRequestError, match="counter"):
                main.step(inputs=wrong)
        with pytest.raises(NotFoundError, match="minutes"):
            main.call("get", "minute")
        with pytest.raises(NotFoundError):
            main.call("advance")


@pytest.mark.parametrize("target", ["object:tests.models:Gauge", "object:tests.models:gauge"])
def test_an_object_is_stepped_until_it_says_that_it_is_done(serve: Serve, target: str) -> None:
    with serve(target).connect() as server:
        main = server.branch("main")
        result = main.step(10)
        assert result.ticks == 3
        assert result.outputs == {
            "level": 3,
            "huge": str(1 << 80),
            "when": np.datetime64("2026-01-02"),
            "complex": np.complex64(1j),
            "half": 0.5,
            "nested": [{"(1, 2)": str(1 << 70)}],
        }
        with pytest.raises(BadRequestError, match="Gauge is finished"):
            main.step()
        assert (main.call("twice", 4), main.call("named"), main.call("get", "fullness")) == (8, "Gauge", 1.0)
        with pytest.raises(BadRequestError, match="twice"):
            main.call("twice")
        with pytest.raises(NotFoundError, match="level, limit"):
            main.call("get", "levels")
        low, high = server.snapshot("root").expand([{"by": -1}, {"by": 5}], steps=2)
        assert (low.ticks, high.ticks) == (2, 1)


def test_either_of_finished_and_done_finishes_and_neither_hides_what_it_raises(serve: Serve) -> None:
    with serve("object:tests.models:Pair").connect() as server:
        assert server.branch("main").step(9).ticks == 2
        broken = server.create(broken=True)
        with pytest.raises(SimulationError, match="AttributeError"):
            broken.step(9)


def test_what_an_object_puts_out_is_the_same_in_a_replay(serve: Serve) -> None:
    with serve("object:tests.models:Pair").connect() as server:
        main = server.branch("main")
        outputs = main.step().outputs
        assert outputs["inner"] == {"deep": 1}
        assert outputs["me"] == "<tests.models.Pair object>"
        assert main.verify().ok
        assert main.call("get", "level") == 1
        (outcome,) = main.expand([{}], sum="level")
        assert outcome.totals == {"level": 2}


def test_what_is_too_large_to_send_is_said_of_the_outputs(serve: Serve) -> None:
    with serve("object:tests.models:Pair").connect() as server:
        main = server.branch("main")
        with pytest.raises(TooLargeError, match="header is"):
            main.step(large=True)
        assert (main.info().step, main.info().faulted) == (1, None)
        with pytest.raises(SimulationError, match="nobody runs"):
            main.step(later=True)


def test_defaults_that_a_dataclass_makes_are_each_branchs_own(serve: Serve) -> None:
    with serve("object:tests.models:Jar").connect() as server:
        assert server.branch("main").step().outputs == {"label": "jam", "size": "SMALL", "beans": [1, 2, 2]}
        other = server.create(name="other", label="tea", size=2, sizes=[1, 2], beans=[7])
        assert other.step().outputs == {"label": "tea", "size": "LARGE", "beans": [7, 1]}
        assert other.call("get", "sizes") == ["<Size.SMALL: 1>", "<Size.LARGE: 2>"]
        with pytest.raises(BadRequestError, match="size"):
            server.create(size=3)


@pytest.mark.parametrize(
    ("target", "kind", "words"),
    [
        ("object:examples.queueing:Queue", BadRequestError, "advance"),
        ("object:examples.queueing:Queu.advance", NotFoundError, "Queue"),
        ("object:examples.nowhere:Queue.advance", NotFoundError, "examples.nowhere"),
        ("object:examples.queueing", BadRequestError, "MODULE:NAME"),
        ("simpy:examples.machine_shop:FAILURE_EVERY", BadRequestError, "float"),
        ("mesa:examples.queueing:Queue", BadRequestError, "mesa.Model"),
        ("gym:", BadRequestError, "gym"),
        ("object:tests.models:unknown", BadRequestError, "unknown result"),
        ("object:tests.models:Boastful", BadRequestError, "'thrice'"),
        ("object:tests.models:Showing", BadRequestError, "'fullness'"),
        ("object:tests.models:Gauge.fullness", BadRequestError, "with one of: named, step, steps, twice, waits"),
        ("object:tests.models:Gauge.waits", BadRequestError, "Gauge.waits is a coroutine or a generator"),
        ("object:tests.models:Gauge.steps", BadRequestError, "Gauge.steps is a coroutine or a generator"),
        ("simpy:tests.models:process", BadRequestError, "a coroutine or a generator"),
        ("object:tests.models:Greedy", BadRequestError, "'setup', which is a part of every simulation"),
        ("object:builtins:dict.update", SimulationError, "no signature found"),
    ],
)
def test_a_target_that_is_wrong_says_what_is_there(target: str, kind: type[SnapservError], words: str) -> None:
    with pytest.raises(kind) as caught:
        load_simulation(target)
    assert words in str(caught.value)


def test_unknown_and_wrong_parameters_are_named(serve: Serve) -> None:
    with serve("simpy:examples.machine_shop:Shop").connect() as server:
        for params in ({"machine": 3}, {"machines": "three"}):
            with pytest.raises(BadRequestError, match="machine"):
                server.create(params=params)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = adapters.Adapter("simpy_missing", "simpy_missing", "simpy")
    monkeypatch.setitem(adapters.SCHEMES, "simpy", missing)
    with pytest.raises(UnsupportedError) as caught:
        load_simulation("simpy:examples.machine_shop:Shop")
    assert "pip install 'snapserv[simpy]'" in caught.value.hint


def test_the_adapter_of_the_documentation_works(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "adapters.md").read_text()
    (code,) = re.findall(r"```python\n(# adapter\.py\n.*?)```", page, re.DOTALL)
    assert len(code.splitlines()) <= 45
    (tmp_path / "adapter.py").write_text(code)
    with local(f"{tmp_path}/adapter.py:Sandpile") as server:
        main = server.branch("main")
        main.step(500)
        first, second = main.branch(2)
        assert first.step(100).outputs == second.step(100).outputs
        assert (first.read("grains") <= 3).all()


def test_what_draws_and_plays_sounds_branches(serve: Serve) -> None:
    """SDL starts a thread for its timer and one for each sound device: none of them is there at a fork."""
    with serve("object:tests.simulations.beeper:Beeper").connect() as server:
        main = server.branch("main")
        assert main.step(3).outputs == {"count": 3}
        assert not main.call("joysticks")
        twins = main.snapshot().branch(2)
        for each in (main, *twins):
            assert each.step(2).outputs == {"count": 5}
            assert each.call("frame") == [5, 0, 0]
            assert each.snapshot().branch().step().outputs == {"count": 6}
        assert main.verify().ok


def test_threads_of_the_first_tick_are_told_with_it_and_refused_at_the_next_snapshot() -> None:
    with local("object:tests.simulations.late_pool:Pool") as server:
        main = server.branch("main")
        before = main.snapshot()
        with pytest.warns(SnapservWarning, match=r"threads_running.*pool-worker") as told:
            assert main.step(3).outputs == {"count": 3}
        assert "the next snapshot will be refused: threads of your own must end" in str(told[0].message)
        with pytest.raises(ThreadsRunningError, match="pool-worker"):
            main.snapshot()
        assert main.step().outputs == {"count": 4}, "it goes on, and is told once"
        main.restore(before)
        assert main.snapshot().branch().call("get", "count") == 0
