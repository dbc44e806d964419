"""A fault is not built upon unasked."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from snapserv_client import Server
from snapserv_client.errors import BadRequestError, FaultedError, NodeDiedError, SimulationError

from ..conftest import ServerProcess, assert_settles
from .conftest import elsewhere, fault


def test_a_branch_that_raised_is_faulted_until_it_is_put_back_or_cleared(trouble: Server) -> None:
    main = trouble.branch("main")
    start = main.snapshot("start")
    ways: list[Callable[[], object]] = [main.reset, main.clear, lambda: main.restore(start)]
    for way in ways:
        main.reset()
        fault(main)
        assert main.info().state == "faulted"
        assert "told to raise" in (main.info().faulted or "")
        with pytest.raises(FaultedError) as caught:
            main.step()
        assert "told to raise" in caught.value.details["message"]
        assert (caught.value.details["step"], caught.value.fault) == (3, "simulation")
        way()
        assert (main.info().state, main.info().faulted) == ("idle", None)
        main.step()
    main.reset()
    main.mark()
    fault(main)
    main.rewind()
    assert main.step().step == 1


def test_nothing_is_built_upon_a_fault_but_it_can_be_looked_into(trouble: Server) -> None:
    main = trouble.branch("main")
    fault(main)
    attempts: list[Callable[[], object]] = [
        main.step,
        lambda: main.step(atomic=True),
        lambda: main.write("count", 0),
        lambda: main.call("touch", 0, 1, 1),
        main.mark,
        lambda: main.expand([{}]),
    ]
    for attempt in attempts:
        with pytest.raises(FaultedError):
            attempt()
    assert int(main.read("count")) == 3
    kept = main.snapshot("kept")
    look = kept.branch(name="look")
    twin = main.branch(name="twin")
    assert kept.diff(look).same
    assert main.pages().node == "main"
    assert [node.info().state for node in (kept, look, twin)] == ["faulted"] * 3
    for faulted in (lambda: kept.expand([{}]), look.step, twin.step):
        with pytest.raises(FaultedError):
            faulted()
    look.clear()
    assert look.step().step == 4
    assert (twin.info().state, kept.info().state) == ("faulted", "faulted")
    other = trouble.snapshot("root").branch(name="other")
    other.restore(kept)
    with pytest.raises(FaultedError):
        other.step()
    with pytest.raises(FaultedError):
        trouble.replay([], start=kept)


def test_bad_requests_and_interrupts_are_no_faults(process: ServerProcess, trouble: Server) -> None:
    main = trouble.branch("main")
    for wrong in (
        lambda: main.step(nothing=1),
        lambda: main.step(at="text"),
        lambda: main.call("touch", 1),
        lambda: main.call("touch", 1, 2, 3, 4),
        lambda: main.call("touch", 1, 2, last=3, colour=4),
        lambda: main.write("count", "text"),
    ):
        with pytest.raises(BadRequestError):
            wrong()
    with elsewhere(process, lambda own: own.branch("main").step(10**12)) as raised:
        assert_settles(lambda: main.info().step > 0, True)
        main.interrupt()
    assert [error.code for error in raised] == ["interrupted"]
    assert main.info().state == "idle"
    main.clear()


def test_a_faulted_branch_that_dies_is_dead_and_no_longer_faulted(trouble: Server) -> None:
    main = trouble.branch("main")
    fault(main)
    os.kill(main.info().pid, signal.SIGKILL)
    assert_settles(lambda: main.info().state, "dead")
    for use in (main.step, main.clear):
        with pytest.raises(NodeDiedError):
            use()
    main.reset()
    assert main.info().state == "idle"


def test_requests_that_were_sent_together_stop_at_the_fault(trouble: Server) -> None:
    """Whoever pipelines steps does not have the later ones run upon what the first one left."""
    from snapserv_client import requests

    main = trouble.branch("main")
    steps = [requests.step(main.id, 2, {"how": "raise", "at": 2}, progress=False) for _ in range(3)]
    with pytest.raises(SimulationError):
        main.run_together(steps)
    assert main.info().step == 1
    assert main.info().state == "faulted"
