"""Gymnasium, both sides: environments as simulations, and branches as environments."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from snapserv_client import Best, Server, local, wire
from snapserv_client.errors import BadRequestError, NotFoundError, SimulationError, SnapservError
from snapserv_client.gym import SnapEnv, SnapVectorEnv
from snapserv_client.spaces import action_from_wire, space_from_wire, space_to_wire, value_from_wire, value_to_wire

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


# ---------------------------------------------------------------------------------------------------- environments


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
        policy="random_action", policy_steps=300, rng="split", sum=["reward"], keep=Best(2, "reward"),
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


# -------------------------------------------------------------------------------------------------------- vectors


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


def assert_equal(found: Any, expected: Any) -> None:
    """Assert that nested results are equal, bit for bit."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_equal(found[key], expected[key])
    elif isinstance(expected, tuple | list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_equal(one, other)
    elif isinstance(expected, np.ndarray) and expected.dtype == object:
        assert_equal(list(found), list(expected))
    else:
        assert np.array_equal(found, expected), (found, expected)


# --------------------------------------------------------------------------------------------------------- spaces

SPACES = [
    spaces.Box(-1.0, np.float32(np.inf), (2, 3), np.float32),
    spaces.Box(np.array([0, 5]), np.array([3, 9]), dtype=np.int16),
    spaces.Discrete(5, start=-2),
    spaces.MultiDiscrete([[2, 3], [4, 5]], start=np.array([[1, 0], [0, 1]])),
    spaces.MultiBinary(4),
    spaces.MultiBinary([2, 3]),
    spaces.Text(8, min_length=2, charset="abc"),
    spaces.Tuple([spaces.Discrete(2), spaces.Tuple([spaces.Box(0, 1, (2,))])]),
    spaces.Dict({"b": spaces.Discrete(3), "a": spaces.Dict({"x": spaces.Box(0, 1, ())})}),
    spaces.OneOf([spaces.Discrete(3), spaces.Box(0, 1, (2,))]),
    spaces.Sequence(spaces.Discrete(4)),
    spaces.Sequence(spaces.Box(0, 1, (2,)), stack=True),
    spaces.Graph(spaces.Box(0, 1, (2,)), spaces.Discrete(3)),
    spaces.Graph(spaces.Box(0, 1, (2,)), None),
]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: f"{type(space).__name__}")
def test_spaces_and_their_values_cross_the_wire_exactly(space: spaces.Space[Any]) -> None:
    def crossed(value: Any) -> Any:
        header, *buffers = wire.pack(value)
        return wire.unpack(header, buffers)

    again = space_from_wire(crossed(space_to_wire(space)))
    assert again == space
    space.seed(1)
    for _ in range(20):
        value = space.sample()
        found = value_from_wire(again, crossed(value_to_wire(space, value)))
        assert space.contains(found)
        assert_equal(found, value)


def test_what_describes_no_space_is_refused() -> None:
    discrete = {"kind": "Discrete", "n": -1, "start": 0, "dtype": "int64"}
    for wrong in ({}, {"kind": "Cube"}, {"kind": "Box"}, discrete):
        with pytest.raises(BadRequestError):
            space_from_wire(wrong)


@pytest.mark.parametrize(
    ("space", "wire"),
    [
        (spaces.Discrete(4), 1.0),
        (spaces.Discrete(4), "1"),
        (spaces.Box(0, 9, (1,), np.int16), [1.5]),
        (spaces.Box(0, 9, (1,), np.int16), np.array([70000])),
        (spaces.Box(-np.inf, np.inf, (1,), np.float32), np.array([1e300])),
        (spaces.Box(0, 1, (2,)), ["0", "1"]),
        (spaces.MultiDiscrete([3, 3]), [1.9, 0]),
        (spaces.MultiBinary(2), [0, 2]),
        (spaces.Text(4), 5),
        (spaces.Dict({"a": spaces.Discrete(2)}), {"a": 1, "b": 1}),
        (spaces.Dict({"a": spaces.Discrete(2)}), {}),
        (spaces.Dict({"a": spaces.Discrete(2)}), 3),
        (spaces.Tuple([spaces.Discrete(2)]), [1, 1]),
        (spaces.OneOf([spaces.Discrete(3)]), [5, 1]),
        (spaces.OneOf([spaces.Discrete(3)]), [-1, 1]),
        (spaces.Sequence(spaces.Discrete(4)), 3),
        (spaces.Sequence(spaces.Box(0, 1, (2,)), stack=True), 3),
        (spaces.Sequence(spaces.Box(0, 1, (2,)), stack=True), [[0.5]]),
        (spaces.Graph(spaces.Box(0, 1, (2,)), None), [1]),
        (spaces.Graph(spaces.Box(0, 1, (2,)), None), [[[0.5, 2.0]], None, None]),
    ],
    ids=str,
)
def test_an_action_is_refused_rather_than_changed(space: spaces.Space[Any], wire: Any) -> None:
    with pytest.raises(BadRequestError):
        action_from_wire(space, wire)


@pytest.mark.parametrize(
    ("space", "value"),
    [
        (spaces.Discrete(4), 1.7),
        (spaces.Discrete(4), "1"),
        (spaces.Discrete(4), None),
        (spaces.OneOf([spaces.Discrete(3)]), (5, 1)),
        (spaces.Dict({"a": spaces.Discrete(2)}), {"b": 1}),
        (spaces.Graph(spaces.Box(0, 1, (2,)), None), 3),
    ],
    ids=str,
)
def test_a_value_of_another_structure_is_not_sent(space: spaces.Space[Any], value: Any) -> None:
    with pytest.raises(BadRequestError):
        value_to_wire(space, value)


def test_what_numpy_makes_by_itself_is_an_action_wherever_it_stands() -> None:
    box = spaces.Box(0, 1, (2,))
    space = spaces.Dict({"pair": spaces.Tuple([box, spaces.MultiDiscrete([3, 3])]), "many": spaces.Sequence(box)})
    wide = {"pair": [np.array([0.1, 0.2]), np.array([1, 2], np.int8)], "many": [[0, 1], np.array([True, False])]}
    action = action_from_wire(space, wide)
    assert action["pair"][0].dtype == action["many"][0].dtype == np.float32
    assert action["pair"][1].dtype == np.int64
    assert np.array_equal(action["many"][1], [1, 0])


@pytest.mark.parametrize("space", SPACES, ids=lambda space: f"{type(space).__name__}")
def test_an_action_that_was_drawn_arrives_as_it_was(space: spaces.Space[Any]) -> None:
    space.seed(2)
    for _ in range(20):
        value = space.sample()
        assert_equal(action_from_wire(space, value_to_wire(space, value)), value)
