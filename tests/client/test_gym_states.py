"""An environment goes back with all the wrappers around it, and nothing of it stays in the tree."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import gymnasium
import pytest
from gymnasium.wrappers import (
    FrameStackObservation,
    NormalizeObservation,
    RecordEpisodeStatistics,
    TimeAwareObservation,
    TimeLimit,
)
from snapserv_client import Server
from snapserv_client.errors import BadRequestError, NotFoundError
from snapserv_client.gym import SnapEnv, clone_state, restore_state

from ..conftest import ServerProcess
from .conftest import assert_equal

Serve = Callable[..., ServerProcess]
Env = gymnasium.Env[Any, Any]


def wrapped(env: Env) -> Env:
    """Return an environment in wrappers that each keep something."""
    counted = RecordEpisodeStatistics(TimeAwareObservation(TimeLimit(env, 8)))
    return FrameStackObservation(NormalizeObservation(counted), 3)


def played(env: Env, actions: list[int]) -> list[Any]:
    """Do actions; return all that came of them but how long they took."""
    found = []
    for action in actions:
        *step, info = env.step(action)
        episode = {name: value for name, value in info.get("episode", {}).items() if name != "t"}
        found.append([*step, {**info, "episode": episode}])
    return found


def tree(server: Server) -> set[str]:
    return {node.name for node in server.tree()}


def test_a_stack_of_wrappers_goes_back_whole(serve: Serve) -> None:
    with serve("gym:CartPole-v1").connect() as server:
        env = wrapped(SnapEnv(server.branch("main")))
        env.reset(seed=1)
        played(env, [0, 1, 1])
        state = clone_state(env)
        expected = played(env, [0, 1, 0, 1, 0])
        assert expected[-1][3], "the limit of 8 steps"
        assert expected[-1][4]["episode"]["l"] == 8
        for _ in range(2):
            observation, _ = restore_state(env, state)
            assert observation.shape == (4,), "as the branch has it"
            assert_equal(played(env, [0, 1, 0, 1, 0]), expected)
        env.close()
        assert tree(server) == {"root", "main"}


def test_without_the_wrappers_their_counts_would_be_wrong(serve: Serve) -> None:
    """This is why: what is told of loudly on the page is so."""
    with serve("gym:CartPole-v1").connect() as server:
        inner = SnapEnv(server.branch("main"))
        env = TimeLimit(inner, 4)
        env.reset(seed=1)
        moment, state = inner.snapshot(), clone_state(env)
        played(env, [0, 1, 0])
        inner.restore(moment)
        assert env.step(0)[3], "it counts the steps that were taken back"
        restore_state(env, state)
        assert [env.step(0)[3] for _ in range(4)] == [False, False, False, True]
        moment.drop()
        env.close()


def test_a_state_fits_a_twin_and_no_other_stack(serve: Serve) -> None:
    with serve("gym:CartPole-v1").connect() as server:
        env = TimeLimit(SnapEnv(server.branch("main")), 5)
        env.reset(seed=1)
        (inner,) = env.unwrapped.branch()  # type: ignore[attr-defined]
        twin = TimeLimit(inner, 5)
        played(env, [1, 1])
        state = clone_state(env)
        assert "TimeLimit" in repr(state)
        restore_state(twin, state)
        assert_equal(played(twin, [0, 0, 0]), played(env, [0, 0, 0]))
        step = inner.node.info().step
        for other in (inner, RecordEpisodeStatistics(twin), TimeAwareObservation(inner)):
            with pytest.raises(BadRequestError, match="other wrappers now"):
                restore_state(other, state)
        with pytest.raises(BadRequestError, match="other wrappers now"):
            inner.restore_state(state)
        assert inner.node.info().step == step, "nothing has changed"
        plain = inner.clone_state()
        played(inner, [0])
        inner.restore_state(plain)
        assert inner.node.info().step == step
        with pytest.raises(BadRequestError, match="around no SnapEnv"):
            clone_state(gymnasium.make("CartPole-v1"))
        twin.close()
        env.close()
        with pytest.raises(NotFoundError):
            restore_state(env, state)
        assert tree(server) == {"root", "main"}


class Locked(gymnasium.Wrapper[Any, Any, Any, Any]):
    """It holds what cannot be copied."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.lock = threading.Lock()


def test_what_cannot_be_copied_is_refused_before_anything_happens(serve: Serve) -> None:
    with serve("gym:CartPole-v1").connect() as server:
        env = Locked(SnapEnv(server.branch("main")))
        with pytest.raises(BadRequestError, match="what Locked holds cannot be copied"):
            clone_state(env)
        assert tree(server) == {"root", "main"}
        env.close()


def test_states_that_nobody_has_any_more_leave_no_snapshot(serve: Serve) -> None:
    with serve("gym:CartPole-v1").connect() as server:
        env = TimeLimit(SnapEnv(server.branch("main")), 500)
        env.reset(seed=1)
        kept = clone_state(env)
        for _ in range(20):
            clone_state(env)
            gc.collect()
        assert len(tree(server)) <= 4, "root, main, what is kept and the last one"
        restore_state(env, kept)
        env.close()
        assert tree(server) == {"root", "main"}


def test_nothing_of_a_branched_environment_stays_whatever_happened_to_it(serve: Serve) -> None:
    with serve("gym:CartPole-v1").connect() as server:
        env = SnapEnv(server.branch("main"))
        first, second, third = env.branch(3)
        first.clone_state()
        second.node.drop()
        assert third.node.parent() is not None
        for each in (first, second, third):
            each.close()
            each.close()
        assert tree(server) == {"root", "main"}
        (alone,) = env.branch()
        source = alone.node.parent()
        assert source is not None
        source.drop()
        alone.close()
        assert tree(server) == {"root", "main"}
        vector = env.vector(3)
        vector.envs[1].node.drop()
        vector.close()
        assert tree(server) == {"root", "main"}


def test_an_environment_says_what_it_is(serve: Serve) -> None:
    with serve(
        "gym:CartPole-v1", params={"wrappers": [{"name": "TimeLimit", "max_episode_steps": 50}]}
    ).connect() as server:
        env = SnapEnv(server.branch("main"))
        assert env.spec is not None
        assert env.spec.id == "CartPole-v1"
        assert env.spec.max_episode_steps == 50, "as it is served"
        assert env.spec.reward_threshold == 475.0
        outer = TimeLimit(env, 20)
        assert outer.spec is not None
        assert outer.spec.max_episode_steps == 20
        env.reset(seed=1)
        env.step(0)
        assert repr(env) == "<SnapEnv CartPole-v1 · main · step 1>"
        assert repr(outer) == "<TimeLimit<SnapEnv CartPole-v1 · main · step 1>>"
        vector = env.vector(2)
        assert vector.spec == env.spec
        assert "2" in repr(vector)
        vector.reset(seed=1)
        vector.step([0, 1])
        assert "step 2" in repr(vector.envs[0])
        vector.close()
        env.close()
