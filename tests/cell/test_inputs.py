"""Inputs are what was sent, at every tick, however many ticks there are and whatever earlier ones did to theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from snapserv_client.errors import SimulationError
from snapserv_client.protocol import StepAction

from snapserv.simulation.inputs import EachTick, fresh, has_parts

from ..conftest import ServerProcess
from ..simulations.consuming import Consuming, Part

Serve = Callable[..., ServerProcess]

GIVEN: dict[str, Any] = {
    "nothing but plain values": {"plain": 5},
    "a list of maps": {"queue": [{"n": 4}, {"n": 1}]},
    "a map of lists": {"table": {"a": [1, 2], "b": [3]}},
    "a part that is a struct": {"part": {"left": 9}},
    "a small array": {"array": np.ones(3)},
    "a large array": {"array": np.ones(30_000)},
    "all of it": {"plain": 2, "queue": [{"n": 1}], "table": {"a": [1]}, "array": np.arange(4000)},
}


@pytest.mark.parametrize("what", GIVEN)
def test_every_tick_gets_them_as_they_were_sent(serve: Serve, what: str) -> None:
    with serve("tests.simulations.consuming:Consuming").connect() as server:
        main, given = server.branch("main"), GIVEN[what]
        root = server.snapshot("root")
        one_by_one = root.branch(name="singly")
        for _ in range(6):
            one_by_one.step(1, inputs=given)
        wanted = float(one_by_one.read("seen"))
        main.step(6, inputs=given)
        assert float(main.read("seen")) == wanted, "in one request"
        for every in (2, 4):
            pieces = root.branch(name=f"every-{every}")
            pieces.autosnap(every_steps=every)
            pieces.step(6, inputs=given)
            assert float(pieces.read("seen")) == wanted, "in pieces"
            assert pieces.verify().ok
        for node in (main, one_by_one):
            assert node.verify().ok
            assert float(server.replay(node.actions()).read("seen")) == wanted, "done again"
        assert [action.repeat for action in one_by_one.actions()] == [6]
        (child, other) = root.expand([[given, given], given], steps=3, keep="all")
        assert child.node is not None
        assert other.node is not None
        assert child["seen"] == wanted, "in an expansion"
        assert child.node.verify().ok
        assert other.node.step(3, inputs=given).outputs == {"seen": wanted}


def test_a_policy_s_choice_is_recorded_as_it_was_made(serve: Serve) -> None:
    with serve("tests.simulations.consuming:Consuming").connect() as server:
        (child,) = server.snapshot("root").expand([[]], policy="order", policy_steps=3, keep="all")
        assert child.node is not None
        chosen = [action.inputs["table"] for action in child.node.actions() if isinstance(action, StepAction)]
        assert [len(each["orders"]) for each in chosen] == [4, 5, 6]
        assert child.node.verify().ok
        assert child.node.call("order")["table"]["orders"] == [5, 4, 3, 3, 4, 5, 6], "its own list is not touched"


@pytest.mark.parametrize("size", [3, 30_000])
def test_who_writes_into_an_array_that_was_sent_is_told_so(serve: Serve, size: int) -> None:
    with serve("tests.simulations.consuming:Scribbling").connect() as server:
        with pytest.raises(SimulationError, match="read-only"):
            server.branch("main").step(2, array=np.ones(size))
        fresh_one = server.snapshot("root").branch()
        with pytest.raises(SimulationError, match="read-only"):
            fresh_one.call("scribble", np.ones(size))


def test_a_call_that_uses_its_arguments_up_can_be_done_again(serve: Serve) -> None:
    with serve("tests.simulations.consuming:Consuming").connect() as server:
        main = server.branch("main")
        assert [main.call("take_all", [1, 2, 3]) for _ in range(3)] == [6, 6, 6]
        assert [action.repeat for action in main.actions()] == [3]
        assert main.verify().ok
        assert float(server.replay(main.actions()).read("seen")) == 18


def test_plain_inputs_are_one_object_for_all_ticks_until_somebody_assigns_to_it() -> None:
    simulation = Consuming.build()

    class Plainly(Consuming):
        class Inputs(msgspec.Struct):
            plain: int = 0
            pair: tuple[int, int] = (1, 2)

    given = EachTick(Plainly.build(), {"plain": 3}, 3)
    first: Any = given.take()
    assert not given.stale
    first.plain = 7
    assert given.stale
    second: Any = given.take()
    assert (second.plain, second is first, given.stale) == (3, False, [])
    with_parts = EachTick(simulation, {"queue": [1]}, 3)
    assert with_parts.take() is not with_parts.take()
    assert with_parts.stale, "the next tick needs others whatever this one does"


def test_what_can_be_changed_is_told_from_what_cannot() -> None:
    class Frozen(msgspec.Struct, frozen=True):
        parts: Any = ()

    class Holder(msgspec.Struct):
        value: Any

    plain: list[Any] = [1, 1.5, "a", b"a", None, True, (1, (2, "b")), frozenset({1}), Frozen((1, 2))]
    parts: list[Any] = [[], {}, set(), bytearray(), np.ones(1), Part(), ([],), Frozen([1]), object()]
    assert [has_parts(Holder(each)) for each in plain] == [False] * len(plain)
    assert [has_parts(Holder(each)) for each in parts] == [True] * len(parts)


def test_what_was_sent_is_never_handed_out_itself() -> None:
    sent: dict[str, Any] = {"a": [1, {"b": np.zeros(3)}], "c": (np.ones(2), [])}
    given = fresh(sent)
    given["a"][1].clear()
    given["a"].clear()
    given["c"][1].append(1)
    assert sent["c"][1] == []
    with pytest.raises(ValueError, match="read-only"):
        given["c"][0][0] = 5
    assert isinstance(sent["a"][1]["b"], np.ndarray)
    assert sent["c"][0].flags.writeable
