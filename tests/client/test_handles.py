"""What stands for something on a server is not copied by accident, and an environment is copied rightly."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from gymnasium.wrappers import TimeLimit
from snapserv_client import Server, aio
from snapserv_client.errors import BadRequestError
from snapserv_client.gym import SnapEnv, SnapVectorEnv

from ..conftest import ServerProcess
from .conftest import assert_equal

Serve = Callable[..., ServerProcess]
WAYS: dict[str, Callable[[Any], Any]] = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": pickle.dumps}


def refused(handle: Any, way: str) -> str:
    with pytest.raises(
        BadRequestError, match=f"a {type(handle).__name__} stands for what is on a server"
    ) as caught:
        WAYS[way](handle)
    return caught.value.hint


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_of_a_server_or_a_node_is_refused_with_what_to_do_instead(server: Server, way: str) -> None:
    nodes = len(server.tree().nodes)
    assert "connect" in refused(server, way)
    for node in (server.branch("main"), server.snapshot("root")):
        assert ("connect(endpoint).node(name)" if way == "pickle" else "branch()") in refused(node, way)
    assert len(server.tree().nodes) == nodes

    async def ask() -> None:
        async with await aio.connect(server.endpoint, timeout_s=10.0) as other:
            refused(other, way)
            refused(await other.branch("main"), way)

    asyncio.run(ask())


def test_a_deep_copy_of_an_environment_goes_on_by_itself(serve: Serve) -> None:
    with serve("gym:CartPole-v1").connect() as server:
        env = SnapEnv(server.branch("main"))
        env.reset(seed=1)
        env.action_space.seed(2)
        env.step(1)
        before = len(server.tree().nodes)
        twin = copy.deepcopy(env)
        assert twin.node.id != env.node.id
        for _ in range(5):
            action = env.action_space.sample()
            assert twin.action_space.sample() == action
            assert_equal(env.step(action), twin.step(action))
        env.step(0)
        assert env.node.info().step == twin.node.info().step + 1
        twin.close()
        assert len(server.tree().nodes) == before, "the copy's branch, and the snapshot that it was made of"
        assert "deepcopy" in refused(env, "copy")
        assert "SnapEnv(connect(" in refused(env, "pickle")


def test_a_deep_copy_of_a_wrapped_environment_and_of_a_vector_branches_what_is_within(serve: Serve) -> None:
    with serve("gym:CartPole-v1").connect() as server:
        wrapped = TimeLimit(SnapEnv(server.branch("main")), 3)
        wrapped.reset(seed=1)
        wrapped.step(1)
        twin = copy.deepcopy(wrapped)
        assert [each.step(0)[3] for each in (wrapped, wrapped, twin, twin)] == [False, True, False, True]
        twin.close()
        envs = SnapEnv(server.branch("main")).vector(2)
        envs.reset(seed=3)
        again = copy.deepcopy(envs)
        assert isinstance(again, SnapVectorEnv)
        assert_equal(envs.step([0, 1]), again.step([0, 1]))
        again.close()
        envs.close()
