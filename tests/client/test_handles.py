"""What stands for something on a server is not copied by accident, and an environment is copied rightly."""

from __future__ import annotations

import asyncio
import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gymnasium.wrappers import TimeLimit
from snapserv_client import Branch, Server, aio
from snapserv_client.errors import BadRequestError, NotFoundError
from snapserv_client.gym import SnapEnv, SnapVectorEnv
from snapserv_client.sync import pickled

from ..conftest import ROOT, ServerProcess, start_server
from .conftest import assert_equal

Serve = Callable[..., ServerProcess]
WAYS: dict[str, Callable[[Any], Any]] = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": pickle.dumps}


def refused(handle: Any, way: str) -> str:
    with pytest.raises(
        BadRequestError, match=f"a {type(handle).__name__} stands for what is on a server"
    ) as caught:
        WAYS[way](handle)
    return caught.value.hint


@pytest.mark.parametrize("way", ["copy", "deepcopy"])
def test_a_copy_of_a_server_or_a_node_is_refused_with_what_to_do_instead(server: Server, way: str) -> None:
    nodes = len(server.tree().nodes)
    assert "connect" in refused(server, way)
    for node in (server.branch("main"), server.snapshot("root")):
        assert "branch()" in refused(node, way)
    assert len(server.tree().nodes) == nodes


@pytest.mark.parametrize("way", WAYS)
def test_nothing_of_the_asyncio_client_is_copied_or_pickled(server: Server, way: str) -> None:
    async def ask() -> None:
        async with await aio.connect(server.endpoint, timeout_s=10.0) as other:
            refused(other, way)
            refused(await other.branch("main"), way)

    asyncio.run(ask())


def advance(node: Branch, ticks: int) -> tuple[int, int]:
    """Step a branch in another process; return where it is then, and how many connections it took."""
    for _ in range(ticks):
        node.step()
    return node.info().step, len(pickled._known)


def play(env: SnapEnv, actions: list[int]) -> list[Any]:
    """Do actions in another process."""
    return [env.step(action)[:3] for action in actions]


def elsewhere(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a fresh process, which gets its arguments as a pool's or Ray's does: pickled."""
    script = (
        "import pickle, sys; f, a = pickle.load(sys.stdin.buffer); sys.stdout.buffer.write(pickle.dumps(f(*a)))"
    )
    sent = pickle.dumps((function, arguments))
    done = subprocess.run([sys.executable, "-c", script], input=sent, stdout=subprocess.PIPE, cwd=ROOT, check=True)
    return pickle.loads(done.stdout)


def test_nodes_are_pickled_as_where_they_are(server: Server) -> None:
    main = server.branch("main")
    branch = main.snapshot().branch()
    assert elsewhere(advance, branch, 3) == (3, 1)
    assert branch.info().step == 3
    again = pickle.loads(pickle.dumps([server, main, server.snapshot("root")]))
    assert [again[0].endpoint, again[1].id, again[2].name] == [server.endpoint, main.id, "root"]
    assert again[1]._server is again[2]._server is again[0], "one connection"
    gone = pickle.dumps(branch)
    branch.drop()
    with pytest.raises(NotFoundError):
        pickle.loads(gone)
    again[0].close()


def test_a_node_is_not_taken_for_another_servers(short_path: Path) -> None:
    process = start_server(short_path, "tests.simulations.walk:Walk")
    with process.connect() as server:
        written = pickle.dumps(server.branch("main"))
    assert process.end() == 0
    process = start_server(short_path, "tests.simulations.walk:Walk")
    with pytest.raises(NotFoundError, match="another server"):
        pickle.loads(written)
    assert process.end() == 0


def test_an_environment_is_stepped_in_another_process(serve: Serve) -> None:
    with serve("gym:CartPole-v1").connect() as server:
        env = SnapEnv(server.branch("main"))
        env.reset(seed=1)
        (twin,) = env.branch()
        actions = [0, 1, 1, 0]
        assert_equal(elsewhere(play, env, actions), [twin.step(action)[:3] for action in actions])
        assert env.node.info().step == 4, "it is the same branch"
        vector = env.vector(2)
        again = pickle.loads(pickle.dumps(vector))
        assert [each.node.id for each in again.envs] == [each.node.id for each in vector.envs]
        nodes = len(server.tree().nodes)
        again.close()
        assert len(server.tree().nodes) == nodes, "whoever made the branches drops them"
        vector.close()
        twin.close()


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
