"""What `diff` says of nodes: how much they differ, and never that they are the same where it cannot tell."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from snapserv_client import Server
from snapserv_client.errors import BadRequestError

from ..conftest import ServerProcess

Serve = Callable[..., ServerProcess]
MIB = 1 << 20


@pytest.fixture
def fieldless(serve: Serve) -> Iterator[Server]:
    with serve("tests.simulations.fieldless:Fieldless").connect() as server:
        yield server


def test_of_a_simulation_without_fields_it_says_what_it_has_seen(fieldless: Server) -> None:
    one, other = fieldless.branch("main").branch(2)
    untold = one.diff(other)
    assert (untold.same, untold.different) == (False, False)
    assert (untold.result.outputs, untold.result.same) == (None, None)
    assert "not all could be compared" in str(untold)
    one.step(3, say="a")
    other.step(2, say="a")
    by_step = one.diff(other)
    assert (by_step.different, by_step.result.step, by_step.result.other_step) == (True, 3, 2)
    assert "steps differ: 3 and 2" in str(by_step)
    other.step(1, say="b")
    by_output = one.diff(other)
    assert (by_output.different, by_output.result.outputs) == (True, False)
    assert "last outputs: they differ" in str(by_output)
    one.step(1, say="c")
    other.step(1, say="c")
    alike = one.diff(other)
    assert (alike.same, alike.different, alike.result.outputs) == (False, False, True)


def test_the_same_outputs_are_the_same_however_many_requests_they_took(fieldless: Server) -> None:
    one, other = fieldless.branch("main").branch(2)
    one.step(4, say="a")
    for _ in range(4):
        other.step(1, say="a")
    frozen = other.snapshot()
    assert one.diff(other).result.outputs is True
    assert one.diff(frozen).result.outputs is True
    assert frozen.diff(one).result.outputs is True
    other.step(1)
    assert one.diff(other).result.outputs is True, "it is about what was put out last"


def test_pages_of_other_memory_are_counted(fieldless: Server) -> None:
    one, other = fieldless.branch("main").branch(2)
    few = one.diff(other).result.other_pages
    assert few is not None
    other.step(1, keep=4 * MIB // 16)
    many = one.diff(other).result.other_pages
    assert many is not None
    assert many > few + 4 * MIB // os.sysconf("SC_PAGE_SIZE") // 2


def test_a_node_is_the_same_as_itself(fieldless: Server) -> None:
    for node in (fieldless.branch("main"), fieldless.snapshot("root")):
        found = node.diff(node)
        assert found.same
        assert found.result.other_pages == 0
        assert str(found).endswith("the same")


def test_comparing_leaves_nodes_as_they_are(fieldless: Server) -> None:
    main = fieldless.branch("main")
    main.step(2, say="a")
    before = main.snapshot("before")
    nodes = [(node.name, node.step) for node in fieldless.tree().nodes]
    for _ in range(2):
        assert not main.diff(before).different
        assert not before.diff(main).different
    assert [(node.name, node.step) for node in fieldless.tree().nodes] == nodes
    assert main.verify().ok
    assert len(main.actions()) == 1


def test_fields_that_hold_nothing_and_no_fields_at_all_are_never_the_same(serve: Serve) -> None:
    with serve("tests.simulations.fieldless:Many").connect() as server:
        one, other = server.branch("main").branch(2)
        assert one.diff(other).same
        for nothing in ([], ["empty"]):
            found = one.diff(other, nothing)
            assert (found.same, found.different) == (False, False)


def test_a_node_is_compared_with_its_parent_by_default(server: Server) -> None:
    main = server.branch("main")
    main.step(1)
    before = main.snapshot("before")
    main.step(2)
    found = main.diff()
    assert (found.b, found.different, found.result.step, found.result.other_step) == ("before", True, 3, 1)
    assert server.diff("before").b == "root"
    assert before.diff(main)["position"].changed == found["position"].changed
    with pytest.raises(BadRequestError, match="no parent"):
        server.diff("root")


def test_where_fields_are_equal_the_steps_must_be_too(serve: Serve) -> None:
    with serve("tests.simulations.fieldless:Many").connect() as server:
        main = server.branch("main")
        before = main.snapshot()
        assert main.diff(before).same
        main.step(1)
        assert main.diff(before).different
        assert main.diff(before, ["signed"]).same, "of the fields that were named"


def test_it_says_by_how_much_numbers_differ(serve: Serve) -> None:
    with serve("tests.simulations.fieldless:Many").connect() as server:
        one, other = server.branch("main").branch(2)
        extreme = np.iinfo(np.int64)
        one.write("signed", np.array([extreme.min, 5, -3]), slice(0, 3))
        other.write("signed", np.array([extreme.max, 1, -3]), slice(0, 3))
        one.write("small", 250, 0)
        other.write("real", np.array([1, np.nan, np.inf, -2], "f4"), (3, slice(0, 4)))
        one.write("real", np.array([0, 1, np.inf, -2], "f4"), (3, slice(0, 4)))
        other.write("half", np.array([60000], "f2"), slice(0, 1))
        one.write("half", np.array([-60000], "f2"), slice(0, 1))
        other.write("turned", np.array(3 + 4j), 1)
        other.write("flags", True, 2)
        other.write("pairs", np.array((1, 2), [("x", "f8"), ("n", "i4")]), 0)
        other.write("names", np.array(b"ab"), 0)
        found = one.diff(other)

        def told(name: str) -> tuple[Any, ...]:
            return found[name].changed, found[name].largest, found[name].mean, found[name].undefined

        assert told("signed") == (2, 2.0**64, pytest.approx((2.0**64 + 4) / 1000), 0)
        assert told("small") == (1, 250, 25, 0)
        assert told("real") == (2, 1, pytest.approx(1 / 999), 1)
        assert told("half") == (1, 120_000, 30_000, 0)
        assert told("turned") == (1, 5, 1.25, 0)
        assert told("flags") == (1, 1, 0.25, 0)
        assert told("pairs") == told("names") == (1, None, None, 0)
        assert told("empty") == (0, 0, 0, 0)
        assert "at most" in str(found)
        assert not found.same


def test_a_replay_of_which_nothing_can_be_compared_is_no_proof(fieldless: Server) -> None:
    silent, talking = fieldless.branch("main").branch(2)
    assert silent.verify().ok, "nothing was done, and so there is nothing to compare"
    silent.step(3)
    found = silent.verify()
    assert (found.ok, found.result.step) == (False, None)
    assert "nothing was compared" in str(found)
    talking.step(3, say="a")
    assert talking.verify().ok
