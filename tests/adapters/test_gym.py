"""Environments of Gymnasium as simulations, and a branch as an environment again."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from snapserv_client import Best, Branch, Server, SnapservWarning, local
from snapserv_client.errors import BadRequestError, NotFoundError, SimulationError, SnapservError
from snapserv_client.gym import SnapEnv

from ..conftest import ServerProcess

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # SWIG's; as errors they crash the import
    importlib.import_module("Box2D")

Serve = Callable[..., ServerProcess]
ENVIRONMENTS = ["CartPole-v1", "LunarLander-v3", "BipedalWalker-v3", "FrozenLake-v1", "Blackjack-v1"]


@pytest.fixture
def lander(serve: Serve) -> Iterator[Server]:
    with serve("gym:LunarLander-v3").connect() as server:
        yield server


def flat(value: Any) -> list[Any]:
    """Return a value's numbers, to compare bit for bit."""
    if isinstance(value, tuple | list):
        return [part for each in value for part in flat(each)]
    return np.asarray(value).reshape(-1).tolist()


def run_on(env: gymnasium.Env[Any, Any], actions: list[Any]) -> list[Any]:
    """Return all that comes of actions, until the episode ends."""
    seen = []
    for action in actions:
        observation, reward, terminated, truncated, _ = env.step(action)
        seen.append((flat(observation), reward, terminated, truncated))
        if terminated or truncated:
            break
    return seen


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
def test_a_branch_passes_gymnasiums_own_check(serve: Serve, env_id: str) -> None:
    with serve(f"gym:{env_id}").connect() as server, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_env(SnapEnv(server.branch("main")))


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
def test_a_branch_goes_on_bit_for_bit_as_the_run_that_was_never_branched(serve: Serve, env_id: str) -> None:
    alone = gymnasium.make(env_id)
    alone.reset(seed=11)
    alone.action_space.seed(11)
    actions = [alone.action_space.sample() for _ in range(60)]
    expected = run_on(alone, actions)
    alone.close()
    with serve(f"gym:{env_id}").connect() as server:
        env = SnapEnv(server.branch("main"))
        for step in (0, len(expected) // 3, len(expected) // 2):
            env.node.reset()  # not only the episode: BipedalWalker's second one differs from its first, by itself
            env.reset(seed=11)
            assert run_on(env, actions[:step]) == expected[:step]
            first, second = env.branch(2)
            assert run_on(first, actions[step:]) == expected[step:]
            assert run_on(second, actions[step:]) == expected[step:]
            assert run_on(env, actions[step:]) == expected[step:], "and the original goes on as ever"
            first.close()
            second.close()


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
def test_siblings_agree_with_the_same_stream_and_differ_with_split_ones(serve: Serve, env_id: str) -> None:
    with serve(f"gym:{env_id}").connect() as server:
        env = SnapEnv(server.branch("main"))
        env.action_space.seed(1)
        action = env.action_space.sample()
        for rng, least in (("same", 1), ("split", 2)):
            futures = []
            for sibling in env.branch(8, rng=rng):  # type: ignore[arg-type]
                seen: list[Any] = []
                for episode in range(6):
                    if episode:
                        seen.append(flat(sibling.reset()[0]))
                    seen.append(run_on(sibling, [action] * 5))
                futures.append(repr(seen))
                sibling.close()
            assert len(set(futures)) == 1 if rng == "same" else len(set(futures)) >= least


def test_restoring_gives_the_moment_and_its_observation(lander: Server) -> None:
    env = SnapEnv(lander.branch("main"))
    env.reset(seed=5)
    for _ in range(10):
        last = env.step(2)[0]
    moment = env.snapshot("moment")
    expected = run_on(env, [1] * 20)
    observation, _ = env.restore(moment)
    assert np.array_equal(observation, last)
    assert run_on(env, [1] * 20) == expected


def test_frames_come_through_and_the_branch_can_still_be_forked(lander: Server) -> None:
    alone = gymnasium.make("LunarLander-v3", render_mode="rgb_array")
    env = SnapEnv(lander.create(params={"kwargs": {"render_mode": "rgb_array"}}))
    for each in (alone, env):
        each.reset(seed=3)
        run_on(each, [2] * 30)
    assert np.array_equal(env.render(), alone.render())  # type: ignore[arg-type]
    env = SnapEnv(lander.branch("main"))
    (copy,) = env.branch()
    assert np.array_equal(copy.render(), env.render())
    frames = env.node.expand([{"action": action} for action in range(4)], steps=5, read=["render", "reward"])
    assert len({frame["render"].tobytes() for frame in frames}) > 1
    assert frames[0]["render"].shape == (400, 600, 3)
    alone.close()


def test_policies_roll_out_in_the_children_and_winners_are_kept(lander: Server) -> None:
    main = lander.branch("main")
    outcomes = main.expand(
        [[{"action": action}] for action in range(4)] * 2,
        policy="random_action", policy_steps=1000, rng="split", sum=["reward"], keep=Best(2, "reward"),
    )  # fmt: skip
    assert all(outcome.ok and outcome.finished for outcome in outcomes)
    kept = [outcome for outcome in outcomes if outcome.node is not None]
    assert sorted(outcome["reward"] for outcome in kept) == sorted(outcome["reward"] for outcome in outcomes)[-2:]


def test_actions_by_chance_are_the_seeds(serve: Serve) -> None:
    with serve("gym:CartPole-v1", params={"seed": 5}).connect() as server:
        before = server.branch("main").snapshot()
        rollout: dict[str, Any] = {"policy": "random_action", "policy_steps": 12}
        same = before.expand([[]] * 12, keep="all", **rollout)
        assert len({repr(outcome.outputs) for outcome in same}) == 1
        assert len({repr(outcome.outputs) for outcome in before.expand([[]] * 4, rng="split", **rollout)}) == 4
        assert same[0].node is not None
        assert same[0].node.verify().ok


def test_spaces_that_a_wrapper_hides_are_the_branchs_too(serve: Serve) -> None:
    wrappers = [{"name": "RescaleAction", "min_action": -2, "max_action": 2}, "FlattenObservation"]
    with serve("gym:tests.models:Drawing-v0", params={"wrappers": wrappers}).connect() as server:
        before = server.branch("main").snapshot()
        for rng, many in (("same", 1), ("split", 4), (5, 1)):
            outcomes = before.expand([{"action": [0, 0]}] * 4, rng=rng)  # type: ignore[arg-type]
            assert len({repr(outcome.outputs) for outcome in outcomes}) == many, rng


def test_an_observation_outside_of_its_space_is_the_environments_fault(serve: Serve) -> None:
    with serve(
        "gym:tests.models:Drawing-v0", params={"kwargs": {"blind": True, "disable_env_checker": True}}
    ).connect() as server:
        main = server.branch("main")
        with pytest.raises(SimulationError, match="what it observed"):
            main.step(action=[0, 0])
        assert main.info().faulted is not None, "it has moved"


def test_a_wrong_seed_is_refused_before_anything_happens(serve: Serve) -> None:
    with serve("gym:CartPole-v1").connect() as server:
        main = server.branch("main")
        for seed in ("x", 1.5, -1):
            with pytest.raises(BadRequestError, match="seed"):
                main.call("reset", seed=seed)
        assert main.info().faulted is None


@pytest.mark.parametrize("wrappers", [[], ["AddRenderObservation"]])
def test_what_draws_in_every_step_can_be_forked(serve: Serve, wrappers: list[str]) -> None:
    params = {"kwargs": {"render_mode": "rgb_array"}, "wrappers": wrappers}
    with serve("gym:CartPole-v1", params=params).connect() as server:
        main = server.branch("main")
        main.step(3, inputs={"action": 1})
        main.call("reset")
        outcomes = main.snapshot().expand([{"action": action} for action in (0, 1)] * 8)
        assert [outcome.error for outcome in outcomes] == [None] * 16


def test_the_episodes_end_ends_the_ticks_and_no_step_goes_on_in_the_next(lander: Server) -> None:
    main = lander.branch("main")
    result = main.step(1000, action=0)
    assert result.ticks < 1000
    assert result.outputs["terminated"] is True
    with pytest.raises(BadRequestError, match="finished"):
        main.step(action=0)
    assert main.info().state == "idle"
    main.call("reset", seed=1)
    assert main.step(action=0).ticks == 1


@pytest.mark.parametrize("action", [None, 4, -1, "left", [0, 1], 1.5, 2**63])
def test_an_action_outside_of_its_space_is_refused(lander: Server, action: Any) -> None:
    main = lander.branch("main")
    with pytest.raises(SnapservError) as caught:
        main.step(action=action)
    assert caught.value.code == "bad_request"
    assert main.step(action=0).ticks == 1


def test_what_numpy_makes_by_itself_is_an_action_and_a_seed_below_0_none(serve: Serve) -> None:
    with serve("gym:BipedalWalker-v3").connect() as server:
        main = server.branch("main")
        with pytest.raises(BadRequestError, match="below 0"):
            main.call("reset", seed=-1)
        before = main.snapshot()
        wide = before.branch().step(action=np.array([0.1, -0.2, 0.3, 0.4]))
        assert repr(before.branch().step(action=[0.1, -0.2, 0.3, 0.4]).outputs) == repr(wide.outputs)


def test_parameters_make_another_environment(serve: Serve) -> None:
    with serve("gym:CartPole-v1").connect() as server:
        lake = server.create(params={"env_id": "FrozenLake-v1", "kwargs": {"is_slippery": False}, "seed": 2})
        assert lake.call("describe")["env_id"] == "FrozenLake-v1"
        short = server.create(params={"wrappers": [{"name": "TimeLimit", "max_episode_steps": 3}]})
        assert short.step(10, action=0).ticks == 3
        for params, kind, words in (
            ({"env_id": "CartPool-v1"}, NotFoundError, "CartPole-v1"),
            ({"env_id": "CartPole-v77"}, NotFoundError, "CartPole"),
            ({"env_id": "os:CartPole-v1"}, BadRequestError, "module"),
            ({"wrappers": ["TimeLimits"]}, NotFoundError, "TimeLimit"),
            ({"wrappers": [{"name": "RecordVideo", "video_folder": "/tmp"}]}, BadRequestError, "writes files"),
            ({"wrappers": ["Autoreset"]}, BadRequestError, "call reset"),
            ({"seed": -3}, BadRequestError, "seed"),
            ({"env_id": "FrozenLake-v1", "kwargs": {"map_name": "9x9"}}, BadRequestError, "9x9"),
            ({"wrappers": ["TimeLimit"]}, BadRequestError, "max_episode_steps"),
            ({"kwargs": {"nonsense": 1}}, BadRequestError, "nonsense"),
            ({"env_id": "LunarLander-v2"}, NotFoundError, "did you mean LunarLander-v3"),
            ({"env_id": "ALE/Pong-v5"}, NotFoundError, "install the package that registers ALE/"),
            ({"env_id": "LunarLander-v3", "kwargs": {"gravity": 5}}, BadRequestError, "gravity"),
        ):
            with pytest.raises(kind) as caught:
                server.create(params=params)
            assert words in str(caught.value), params


def test_what_is_no_environment_says_so(server: Server) -> None:
    main = server.branch("main")
    with pytest.raises(BadRequestError, match="no environment"):
        SnapEnv(main)
    with pytest.raises(BadRequestError, match="no branch"):
        SnapEnv(main.snapshot())  # type: ignore[arg-type]  # which is what is tried
    gone = main.branch()
    gone.drop()
    with pytest.raises(NotFoundError):
        SnapEnv(gone)


def test_a_private_server_is_an_environment_in_two_lines() -> None:
    with local("gym:CartPole-v1") as server:
        env = SnapEnv(server.branch("main"))
        assert env.reset(seed=1)[0].shape == (4,)


@pytest.fixture
def odd_environments(tmp_path: Path) -> Path:
    """Return a folder with environments that have what those of other packages have: MO-Gymnasium, ALE and NLE."""
    (tmp_path / "odd_environments.py").write_text("""
import gymnasium, numpy as np
from gymnasium import spaces

class Base(gymnasium.Env):
    action_space = spaces.Discrete(2)
    observation_space = spaces.Box(0, 1, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

class Objectives(Base):
    def step(self, action):
        return np.zeros(1, np.float32), np.array([1.0, -float(action)]), False, False, {}

class Engine:
    def getFloat(self, name):
        return {"repeat_action_probability": 0.25}[name]

class Sticky(Base):
    ale = Engine()

    def step(self, action):
        return np.zeros(1, np.float32), 0.0, False, False, {}

class Dungeon:
    seeds = None

    def set_initial_seeds(self, core, disp, reseed):
        self.seeds = (core, disp, reseed)

class Hack(Base):
    def __init__(self):
        self.nethack = Dungeon()

    def reset(self, *, seed=None, options=None):
        first, _ = super().reset(seed=seed)
        return first, {"seeds": self.nethack.seeds}

    def step(self, action):
        return np.zeros(1, np.float32), 0.0, False, False, {}

class Remade(Base):
    def reset(self, *, seed=None, options=None):
        self.action_space = spaces.Discrete(1_000_000)
        return super().reset(seed=seed)

for kind in (Objectives, Sticky, Hack, Remade):
    gymnasium.register(f"{kind.__name__}-v0", kind, disable_env_checker=True)
""")
    return tmp_path


def test_a_reward_for_each_objective_comes_through(odd_environments: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(odd_environments)
    with local("gym:odd_environments:Objectives-v0") as server:
        assert server.branch("main").step(action=1).outputs["reward"].tolist() == [1.0, -1.0]


def test_what_no_seed_reaches_is_said(odd_environments: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(odd_environments)
    with (
        local("gym:odd_environments:Sticky-v0") as server,
        pytest.warns(SnapservWarning, match="rng_partly_unchanged.*which actions ALE repeats"),
    ):
        server.branch("main").branch(rng="split")


def test_an_engine_that_reset_does_not_seed_is_seeded(
    odd_environments: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(odd_environments)
    with local("gym:odd_environments:Hack-v0", seed=5) as server:
        main = server.branch("main")
        assert main.call("observe")["info"]["seeds"] == [5, 5, False]
        assert main.call("reset", seed=6)["info"]["seeds"] == [6, 6, False]


def test_spaces_that_each_reset_makes_anew_draw_by_the_seed_and_are_the_branchs_own(
    odd_environments: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(odd_environments)

    def drawn(branch: Branch) -> list[int]:
        actions = []
        for _ in range(2):
            actions.append(branch.call("random_action")["action"])
            branch.call("reset")
        return actions

    with (
        local("gym:odd_environments:Remade-v0", seed=5) as server,
        local("gym:odd_environments:Remade-v0", seed=5) as other,
    ):
        main = server.branch("main")
        before = main.snapshot()
        first = drawn(main)
        assert drawn(other.branch("main")) == first == drawn(before.branch())
        split, again = before.branch(2, rng="split")
        assert len({*first, *drawn(split), *drawn(again)}) == 6, "in every episode, and in every branch, others"
        assert main.verify().ok
