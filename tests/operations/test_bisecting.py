"""Finding the first step at which something holds: git bisect for a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from snapserv_client import Branch, Server, field, holds, when
from snapserv_client.errors import BadRequestError, NotFoundError
from snapserv_client.protocol import StepAction

from ..conftest import ServerProcess

Serve = Callable[..., ServerProcess]
LEAK = "tests.simulations.travelling:Leak"


@pytest.fixture
def path(serve: Serve) -> Iterator[Server]:
    with serve("tests.simulations.travelling:Path").connect() as client:
        yield client


def names(server: Server) -> list[str]:
    return [node.name for node in server.tree().nodes]


@pytest.mark.parametrize("at", [1, 723_456, 1_000_000])
def test_one_tick_of_a_million_is_found_in_twenty_two_returns(serve: Serve, at: int) -> None:
    with serve(LEAK, params={"at": at}).connect() as server:
        main = server.branch("main")
        main.step(1_000_000)
        before = names(server)
        began = time.monotonic()
        found = main.bisect(0, 1_000_000, when("amount") < 1000)
        took = time.monotonic() - began
        assert (found.step, found.parted) == (at, None)
        assert found.returns <= 22, took
        assert isinstance(found.action, StepAction)
        assert (found.number, found.action.ticks) == (0, 1_000_000)
        assert names(server) == before, "nothing is left of it"
        assert main.info().step == 1_000_000


def test_each_return_begins_where_it_did_not_hold_yet(path: Server) -> None:
    main = path.branch("main")
    main.step(1024)
    began: list[int] = []

    def test(node: Branch) -> bool:
        parent = node.parent()
        assert parent is not None  # the moment itself, but for the root
        above = parent.parent()
        began.append(0 if above is None else above.last.step)
        return node.last.step >= 1000

    assert main.bisect(0, 1024, test).step == 1000
    assert began == [0, 0, 0, 512, 768, 896, 960, 992, 992, 992, 996, 998]


def test_it_finds_what_until_would_have_stopped_at(path: Server) -> None:
    main = path.branch("main")
    main.step(300, push=0.2)
    main.autosnap(every_steps=50)
    main.step(200, push=0.2)
    for condition in (holds("is_far"), when(field("at").max()) > 40.0, when("sum") > 100.0):
        stops = path.snapshot("root").branch()
        first = stops.step(500, push=0.2, until=condition)
        if not first.stopped:
            continue
        later = stops.step(40, push=0.2, until=~condition)
        if later.stopped:
            continue  # it does not keep holding
        found = main.bisect(0, min(500, first.step + 40), condition)
        assert found.step == first.step
        assert str(found).startswith(f"main · step {first.step} is the first one")
    seen: list[int] = []

    def test(node: Branch) -> bool:
        seen.append(node.info().step)
        node.step(3)
        return bool(node.read("at").sum() > 60)

    found = main.bisect(0, 500, test)
    assert found.returns == len(seen) <= 11
    assert found.action is not None


def test_it_is_found_between_two_nodes_of_one_line(path: Server) -> None:
    main = path.branch("main")
    main.step(10)
    good = main.snapshot("good")
    main.step(5)
    main.write("at", 1000.0)
    main.step(7)
    bad = main.snapshot("bad")
    aside = good.branch(name="aside")
    aside.step(3)
    for one, other in ((good, bad), ("good", "bad"), (good, main)):
        found = path.bisect(one, other, when(field("at").min()) > 500.0)
        assert found.step == 16, "a write is seen after the tick that follows it"
    assert path.bisect("good", "bad", lambda node: node.read("at").min() > 500).step == 15, "or where it was made"
    with pytest.raises(NotFoundError, match="'bad' is not in the past of aside"):
        path.bisect("bad", aside, when(field("at").min()) > 500.0)
    assert sorted(names(path)) == ["aside", "bad", "good", "main", "root"]


def test_ends_that_are_none_are_refused(path: Server) -> None:
    main = path.branch("main")
    main.step(20)
    never, always = when("sum") > 1e9, when("sum") > -1e9
    with pytest.raises(BadRequestError, match="does not hold at the bad end, step 20") as raised:
        main.bisect(3, 20, never)
    assert raised.value.details == {"end": "bad", "step": 20}
    with pytest.raises(BadRequestError, match="holds already at the good end, step 3") as raised:
        main.bisect(3, 20, always)
    assert raised.value.details == {"end": "good", "step": 3}
    with pytest.raises(BadRequestError, match="holds already at the good end, step 0"):
        main.bisect(0, 20, when(field("at").max()) > -1.0)
    assert main.bisect(0, 20, always).step == 1, "before the first tick nothing is put out"
    with pytest.raises(BadRequestError, match="is not before"):
        main.bisect(7, 7, always)
    with pytest.raises(NotFoundError, match="step 21"):
        main.bisect(0, 21, always)
    with pytest.raises(BadRequestError, match="'som' is no output"):
        main.bisect(0, 20, when("som") > 1)
    with pytest.raises(NotFoundError):
        main.bisect(0, 20, when(field("nowhere").max()) > 1)
    with pytest.raises(BadRequestError, match="nothing to look for"):
        main.bisect(0, 20)
    assert names(path) == ["root", "main"]


def test_a_search_that_fails_leaves_nothing(path: Server) -> None:
    main = path.branch("main")
    main.step(64)
    asked: list[int] = []

    def test(node: Branch) -> bool:
        asked.append(node.last.step)
        if len(asked) == 5:
            raise KeyboardInterrupt
        return node.last.step >= 50

    with pytest.raises(KeyboardInterrupt):
        main.bisect(0, 64, test)
    assert names(path) == ["root", "main"]


def test_it_says_where_the_simulation_does_not_do_the_same_twice(serve: Serve) -> None:
    with serve("tests.simulations.chance:Dice", params={"fair_from": 20}).connect() as server:
        main = server.branch("main")
        for _ in range(40):
            main.step()
        found = main.bisect(0, 40, when("throw") > 5)
        assert found.step == 20
        assert found.parted == 20
        assert "does not do the same thing twice" in str(found)
