"""A child or a replay that makes no progress is given up, and ends: nobody waits for ever."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from snapserv_client.errors import RequestTimeoutError

from ..conftest import ServerProcess

Serve = Callable[..., ServerProcess]
SOON = ("--stalled-after", "0.5")


def test_children_that_wait_for_what_was_their_originals_are_given_up(serve: Serve) -> None:
    with serve("tests.simulations.holding:Waits", options=SOON).connect() as server:
        main = server.branch("main")
        main.step(2)
        outcomes = main.snapshot().expand([{}] * 3)
        assert [outcome.ok for outcome in outcomes] == [False] * 3
        for outcome in outcomes:
            assert isinstance(outcome.error, RequestTimeoutError)
            assert "no tick was completed within 0.5 s" in outcome.error.message
        assert len(server.tree().nodes) == 3


def test_a_verification_and_a_replay_that_wait_are_given_up(serve: Serve) -> None:
    with serve("tests.simulations.holding:Waits", options=SOON).connect() as server:
        main = server.branch("main")
        main.step(2)
        actions = list(main.actions())
        with pytest.raises(RequestTimeoutError, match="no tick was completed"):
            server.replay(actions)
        with pytest.raises(RequestTimeoutError, match="no tick was completed"):
            main.verify()


def test_who_says_how_long_a_child_may_take_is_believed(serve: Serve) -> None:
    with serve("tests.simulations.timing:Slow", params={"tick_s": 1.2}, options=SOON).connect() as server:
        before = server.branch("main").snapshot()
        assert [outcome.ok for outcome in before.expand([{}], timeout_s=30.0)] == [True]
        assert [outcome.ok for outcome in before.expand([{}])] == [False]
