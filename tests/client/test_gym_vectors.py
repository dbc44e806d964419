"""Branches as a vector of environments, which does what Gymnasium's own does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from snapserv_client.errors import BadRequestError, SnapservError
from snapserv_client.gym import SnapEnv, SnapVectorEnv

from ..conftest import ServerProcess
from .conftest import assert_equal

Serve = Callable[..., ServerProcess]


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Blackjack-v1"])
def test_a_vector_of_branches_does_what_gymnasiums_own_does(serve: Serve, env_id: str, mode: AutoresetMode) -> None:
    expected = SyncVectorEnv([lambda: gymnasium.make(env_id)] * 3, autoreset_mode=mode)
    with serve(f"gym:{env_id}").connect() as server:
        found = SnapEnv(server.branch("main")).vector(3, autoreset_mode=mode)
        assert isinstance(found, SnapVectorEnv)
        assert found.observation_space == expected.observation_space
        assert found.action_space == expected.action_space
        assert_equal(found.reset(seed=4), expected.reset(seed=4))
        expected.action_space.seed(1)
        for _ in range(60):
            actions = expected.action_space.sample()
            a, b = found.step(actions), expected.step(actions)
            assert_equal(a, b)
            over = b[2] | b[3]
            if mode == AutoresetMode.DISABLED and over.any():
                again = [vector.reset(seed=9, options={"reset_mask": over}) for vector in (found, expected)]
                assert_equal(*again)
        nodes = len(server.tree().nodes)
        found.close()
        assert len(server.tree().nodes) == nodes - 4, "the branches, and the snapshot that they were made of"
    expected.close()


def test_environments_leave_no_node_behind(serve: Serve) -> None:
    with serve("gym:CartPole-v1").connect() as server:
        env = SnapEnv(server.branch("main"))
        before = len(server.tree().nodes)
        first, second = env.branch(2)
        deeper = first.vector(2)
        first.close()
        first.close()
        assert second.step(0)[1] == 1.0
        deeper.close()
        second.close()
        assert len(server.tree().nodes) == before
        third, fourth = env.branch(2)
        server.snapshot(third.node.log()[-2].id).drop()
        third.close()
        fourth.close()
        assert len(server.tree().nodes) == before
        with pytest.raises(BadRequestError):
            env.branch(0)
        with pytest.raises(ValueError, match="sometime"):
            env.vector(2, autoreset_mode="sometime")
        assert len(server.tree().nodes) == before


def test_a_vector_begins_where_its_branches_are(serve: Serve) -> None:
    with serve("gym:CartPole-v1").connect() as server:
        env = SnapEnv(server.branch("main"))
        observation, _ = env.reset(seed=3)
        vector = env.vector(2)
        fresh, _ = vector.reset(seed=8, options={"reset_mask": np.array([False, True])})
        assert np.array_equal(fresh[0], observation)
        vector.close()
        while not any(env.step(0)[2:4]):
            pass
        vector = env.vector(2)
        _, rewards, terminated, truncated, _ = vector.step(np.array([0, 1]))
        assert not np.any([rewards, terminated, truncated]), "both began another episode"
        assert vector.step(np.array([0, 1]))[1].all()
        vector.close()
        ended = env.vector(2, autoreset_mode=AutoresetMode.DISABLED)
        with pytest.raises(BadRequestError, match=r"\[0, 1\] have ended"):
            ended.step(np.array([0, 1]))
        ended.close()


def test_what_an_environment_does_alone_its_vector_knows(serve: Serve) -> None:
    params = {"kwargs": {"max_episode_steps": 3}}
    with serve("gym:CartPole-v1", params=params).connect() as server:
        env = SnapEnv(server.branch("main"))
        with pytest.raises(BadRequestError, match="twice"):
            SnapVectorEnv([env, env])
        vector = env.vector(2)
        vector.reset(seed=0)
        moment = vector.envs[0].snapshot()
        expected = vector.step(np.array([0, 1]))
        while not vector.step(np.array([0, 1]))[3].any():
            pass
        vector.envs[0].restore(moment)
        observations, rewards, _, _, _ = vector.step(np.array([0, 1]))
        assert np.array_equal(observations[0], expected[0][0]), "a step from the restored moment"
        assert rewards.tolist() == [1.0, 0.0], "and the other one begins again"
        vector.envs[0].step(0)
        vector.envs[0].step(0)
        assert vector.step(np.array([0, 1]))[1].tolist() == [0.0, 1.0]
        vector.close()


def test_an_action_that_is_refused_moves_no_environment_of_a_vector(serve: Serve) -> None:
    with serve("gym:CartPole-v1").connect() as server:
        vector = SnapEnv(server.branch("main")).vector(3)
        with pytest.raises(BadRequestError, match="not in Discrete"):
            vector.step(np.array([0, 1, 7]))
        assert [env.node.info().step for env in vector.envs] == [0, 0, 0]
        vector.close()


@pytest.mark.parametrize(("mode", "kind"), [("ansi", str), ("rgb_array_list", list), ("rgb_array", np.ndarray)])
def test_what_is_rendered_is_what_the_environment_would_return(serve: Serve, mode: str, kind: type) -> None:
    params = {"kwargs": {"render_mode": mode}}
    env_id = "CartPole-v1" if mode == "rgb_array_list" else "FrozenLake-v1"
    with (
        serve(f"gym:{env_id}", params=params).connect() as server,
        gymnasium.make(env_id, **params["kwargs"]) as env,
    ):
        env.reset(seed=0)
        branch = SnapEnv(server.branch("main"))
        assert branch.render_mode == mode
        found: Any = branch.render()
        expected: Any = env.render()
        assert isinstance(found, kind)
        assert_equal(found, expected)


def test_a_vector_refuses_what_does_not_fit(serve: Serve) -> None:
    with serve("gym:CartPole-v1").connect() as server:
        vector = SnapEnv(server.branch("main")).vector(2)
        vector.reset(seed=1)
        for wrong in ([0], [0, 0, 0]):
            with pytest.raises(SnapservError):
                vector.step(np.array(wrong))
        with pytest.raises(BadRequestError, match="seeds"):
            vector.reset(seed=[1, 2, 3])
        with pytest.raises(BadRequestError, match="mask"):
            vector.reset(options={"reset_mask": np.array([True])})
        assert len(vector.render()) == 2
        vector.close()
