"""A rewind of what is tangled up with the simulation: it goes on as a branch would, or is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from snapserv_client.errors import BadRequestError

from snapserv.cell.rollback import BranchMark
from snapserv.simulation import streams
from snapserv.simulation.base import Simulation

from ..conftest import ServerProcess
from ..simulations.entangled import Entangled, InSlots, Named

Serve = Callable[..., ServerProcess]

GOES_BACK = {
    *("agent", "two_agents", "field", "view_of_a_field", "own_method", "own_draw", "global_draw", "another_draw"),
    *("python_draw", "draw_and_generator", "bound_builtin", "iterator", "closure", "closure_over_the_model"),
    *("function_with_attributes", "number_with_attributes", "record", "slots", "frozen", "struct", "enumeration"),
    *("views_of_one_array", "array_of_objects", "deque", "set_of_numbers", "weak_reference_to_the_model"),
}
REFUSED = {
    "closure_over_a_list": "variables that change",
    "enumeration_of_lists": "enumeration with state",
    "set_that_shrank": "order",
    "set_of_objects": "order follows their addresses",
    "weak_reference": "weak reference to a Agent",
    "generator": "cannot be copied",
}
PLAINLY = {
    *("own_method", "own_draw", "global_draw", "closure", "closure_over_the_model"),
    *("function_with_attributes", "number_with_attributes"),
}
"""What needs no name: it goes back by itself, or is put back."""


@pytest.fixture(autouse=True)
def _streams() -> Iterator[None]:
    streams.reseed(5)
    yield
    streams.reseed(0)


def ticks(simulation: Simulation, count: int = 3) -> list[Any]:
    return [simulation.step(None) for _ in range(count)]


@pytest.mark.parametrize("kind", sorted(GOES_BACK))
def test_what_is_named_goes_on_as_it_would_have(kind: str) -> None:
    undisturbed = Named.build(kind=kind)
    ticks(undisturbed, 2)
    wanted = ticks(undisturbed)
    streams.reseed(5)
    simulation = Named.build(kind=kind)
    simulation.arena.seal()
    ticks(simulation, 2)
    before = simulation.grid.copy()
    mark = BranchMark(simulation, 2)
    for _ in range(3):
        assert ticks(simulation) == wanted
        mark.rewind()
        assert simulation.grid.tolist() == before.tolist()
    assert ticks(simulation) == wanted
    simulation.arena.close()


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_go_on_otherwise_is_refused_by_name(kind: str) -> None:
    simulation = Named.build(kind=kind)
    simulation.arena.seal()
    with pytest.raises(BadRequestError, match=REFUSED[kind]) as caught:
        BranchMark(simulation, 0)
    assert caught.value.details["attributes"] == ["tick"]
    assert "restore" in caught.value.hint


@pytest.mark.parametrize("kind", sorted({*GOES_BACK, *REFUSED, "class"}))
def test_what_is_not_named_goes_back_or_is_refused(kind: str) -> None:
    simulation = Entangled.build(kind=kind)
    simulation.arena.seal()
    ticks(simulation, 1)
    if kind not in PLAINLY:
        with pytest.raises(BadRequestError) as caught:
            BranchMark(simulation, 1)
        assert caught.value.details["attributes"] == ["tick"]
        return
    mark = BranchMark(simulation, 1)
    first = ticks(simulation)
    mark.rewind()
    assert ticks(simulation) == first


def test_what_agents_know_of_their_model_is_the_model() -> None:
    simulation = Named.build(kind="agent")
    simulation.arena.seal()
    mark = BranchMark(simulation, 0)
    mark.rewind()
    assert simulation.tick.__self__.model is simulation
    grid = Named.build(kind="field")
    grid.arena.seal()
    mark = BranchMark(grid, 0)
    mark.rewind()
    assert grid.tick.args[0] is grid.grid
    assert grid.tick.args[1] is grid.rng


def test_state_in_a_class_is_named_when_it_has_changed() -> None:
    class Counting(Simulation):
        calls = 0
        seen: list[int] = []  # noqa: RUF012
        constant = ("a", 1)

        def step(self, inputs: Any) -> None:
            if inputs == "count":
                type(self).calls += 1
            elif inputs == "see":
                self.seen.append(1)

    simulation = Counting.build()
    simulation.arena.seal()
    for what, name in (("count", "Counting.calls"), ("see", "Counting.seen")):
        mark = BranchMark(simulation, 0)
        simulation.step("nothing")
        mark.rewind()
        simulation.step(what)
        with pytest.raises(BadRequestError, match=name):
            mark.rewind()


def test_state_in_slots_is_seen() -> None:
    simulation = InSlots.build()
    simulation.arena.seal()
    with pytest.raises(BadRequestError, match="queue"):
        BranchMark(simulation, 0)


def test_on_a_server_it_goes_on_exactly_as_a_branch(serve: Serve) -> None:
    with serve("tests.simulations.entangled:Named", params={"kind": "two_agents"}).connect() as server:
        main = server.branch("main")
        main.step(5)
        other = main.snapshot().branch()
        wanted = [other.step(1).outputs for _ in range(3)]
        main.mark()
        for _ in range(2):
            assert [main.step(1).outputs for _ in range(3)] == wanted
            main.rewind()
        main.step(3)
        assert main.diff(other).same
