"""Going back in place: the arena's marks, and a branch's."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from snapserv_client import Server
from snapserv_client.errors import BadRequestError, FrozenError

from snapserv.ext import memory
from snapserv.memory.arena import Arena
from snapserv.memory.backings import NAMES, probe

from ..conftest import ServerProcess
from ..processes import forked
from ..refuse import REFUSE

PAGE = memory.PAGE
MIB = 1 << 20
Serve = Callable[..., ServerProcess]

pages = st.lists(st.integers(0, 4 * 512 - 1), max_size=30)


@settings(max_examples=60, deadline=None)
@given(pages, pages, pages, st.booleans())
def test_every_byte_goes_back_whatever_was_private_before_and_after(
    before: list[int], between: list[int], after: list[int], twice: bool
) -> None:
    arena = Arena(segment_bytes=4 * MIB)
    field = arena.allocate("field", np.uint8, (2 * 4 * MIB - 100,))
    field[::PAGE] = np.arange(len(field[::PAGE])) % 251
    arena.seal()
    write(field, before, 1)
    first, first_content = arena.mark(), field.copy()
    write(field, between, 2)
    second, second_content = arena.mark(), field.copy()
    write(field, after, 3)
    arena.rewind(second)
    assert np.array_equal(field, second_content)
    if twice:
        write(field, between, 4)
    arena.rewind(first)
    assert np.array_equal(field, first_content)
    write(field, after, 5)
    arena.rewind(second)
    assert np.array_equal(field, second_content)
    arena.close()


def write(field: np.ndarray[Any, Any], chosen: list[int], value: int) -> None:
    for page in chosen:
        field[page * PAGE + value : page * PAGE + value + 10] = value


@pytest.mark.parametrize("backing", NAMES)
def test_on_every_backing(backing: str) -> None:
    found = next((each for each in probe() if each.name == backing), None)
    if found is None or not found.available:
        pytest.skip(f"{backing}: {found.reason if found else 'unknown'}")

    def work() -> None:
        arena = Arena(backing=backing, segment_bytes=4 * MIB)
        field = arena.allocate("field", np.uint8, (6 * MIB,))
        field[:] = 1
        arena.seal()
        field[5] = 2
        mark = arena.mark()
        content = field.copy()
        field[:] = 3
        arena.rewind(mark)
        assert np.array_equal(field, content)

    forked(work)


def test_only_what_was_written_is_put_back() -> None:
    def work() -> None:
        arena = Arena()
        field = arena.allocate("field", np.uint8, (64 * MIB,))
        field[:] = 1
        arena.seal()
        field[: 100 * PAGE : PAGE] = 2
        mark = arena.mark()
        assert arena.rewind(mark) == 0
        field[50 * PAGE] = 9  # private already: copied back
        field[1000 * PAGE :: 1024 * PAGE] = 9  # not private: dropped
        written = 1 + len(range(1000 * PAGE, 64 * MIB, 1024 * PAGE))
        assert arena.rewind(mark) == written
        assert arena.private_pages().count == 100
        assert arena.rewind(mark) == 0

    forked(work)


def test_a_mark_survives_a_clone_on_both_sides() -> None:
    def work() -> None:
        arena = Arena()
        field = arena.allocate("field", np.uint8, (4 * MIB,))
        arena.seal()
        field[0] = 1
        mark = arena.mark()
        field[0], field[PAGE] = 2, 2

        def in_a_clone() -> tuple[int, int, int]:
            field[2 * PAGE] = 5
            arena.rewind(mark)
            return int(field[0]), int(field[PAGE]), int(field[2 * PAGE])

        assert forked(in_a_clone) == (1, 0, 0)
        assert (field[0], field[PAGE]) == (2, 2)
        arena.rewind(mark)
        assert (field[0], field[PAGE]) == (1, 0)

    forked(work)


def test_marks_of_other_arenas_and_before_sealing_are_refused() -> None:
    one, other = Arena(), Arena()
    for arena in (one, other):
        arena.allocate("field", np.uint8, (PAGE,))
    with pytest.raises(BadRequestError):
        one.mark()
    one.seal()
    other.seal()
    mark = one.mark()
    with pytest.raises(BadRequestError):
        other.rewind(mark)
    assert one.marked
    del mark
    assert not one.marked


# ------------------------------------------------------------------------------------------------- on a server


def test_a_branch_goes_back_in_place_as_often_as_it_likes(serve: Serve) -> None:
    with serve("tests.simulations.rewinding:Rewindable").connect() as client:
        main = client.branch("main")
        main.step(3)
        pid, at_mark = main.info().pid, main.call("everything")
        marked = main.mark()
        assert marked.step == 3
        futures = []
        for ticks in (5, 5, 1):
            main.step(ticks)
            futures.append(main.call("everything"))
            gone = main.rewind()
            assert gone.step == main.info().step == 3
            assert gone.pages > 0
            assert main.call("everything") == at_mark
        assert futures[0] == futures[1] != futures[2], "the same random numbers come again"
        assert main.info().pid == pid, "no new process"
        assert main.snapshot().branch().step().step == 4


@pytest.mark.parametrize("prefix", [(), (*REFUSE, "process_madvise", "--")], ids=["at once", "one by one"])
def test_going_back_gives_what_restore_gives(serve: Serve, prefix: tuple[str, ...]) -> None:
    with serve("tests.simulations.rewinding:Rewindable", prefix=prefix).connect() as client:
        main = client.branch("main")
        main.step(7)
        before = main.snapshot("before")
        main.mark()
        main.step(20)
        main.rewind()
        assert main.diff(before).same
        other = before.branch()
        assert main.step(4).outputs == other.step(4).outputs
        assert main.diff(other).same


def test_branches_inherit_the_mark_and_restore_forgets_a_later_one(serve: Serve) -> None:
    with serve("tests.simulations.rewinding:Rewindable").connect() as client:
        main = client.branch("main")
        unmarked = main.snapshot("unmarked")
        main.step(2)
        main.mark()
        main.step(2)
        branch = main.branch(name="child")
        assert branch.rewind().step == 2
        assert main.info().step == 4
        main.restore(unmarked)
        with pytest.raises(BadRequestError, match="no mark"):
            main.rewind()
        branch.mark(remove=True)
        with pytest.raises(BadRequestError, match="no mark"):
            branch.rewind()


def test_state_that_would_stay_as_it_is_is_named_and_refused(server: Server) -> None:
    main = server.branch("main")
    main.step(2)
    with pytest.raises(BadRequestError, match="history") as caught:
        main.mark()
    assert "restore" in caught.value.hint
    assert caught.value.details["attributes"] == ["history"]
    with pytest.raises(FrozenError):
        server.snapshot("root")._run(__import__("snapserv_client.requests").requests.mark("root", remove=False))


def test_an_attribute_that_appears_after_the_mark_is_named(serve: Serve) -> None:
    with serve("tests.simulations.rewinding:Rewindable").connect() as client:
        main = client.branch("main")
        main.mark()
        main.step(1)
        main.call("surprise")
        before = main.call("everything")
        with pytest.raises(BadRequestError, match="surprised"):
            main.rewind()
        assert main.call("everything") == before, "nothing has changed"


def test_a_simulation_goes_back_inside_of_a_step(serve: Serve) -> None:
    with serve("tests.simulations.rewinding:LooksAhead").connect() as client:
        outputs = client.branch("main").step(3).outputs
        assert outputs == {"best": 9, "value": 3}


def test_random_generators_of_modules_go_back_too() -> None:
    from snapserv.cell.rollback import BranchMark

    from ..simulations.rewinding import Rewindable

    simulation = Rewindable.build()
    simulation.arena.seal()
    random.seed(3)
    np.random.seed(4)
    mark = BranchMark(simulation, 0)
    drawn = random.random(), np.random.random(), simulation.rng.random()
    mark.rewind()
    assert (random.random(), np.random.random(), simulation.rng.random()) == drawn
