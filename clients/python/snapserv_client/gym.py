"""Branches as Gymnasium environments: `SnapEnv` is one, `SnapVectorEnv` several that step in parallel.

The branch serves ``gym:ID`` (`snapserv.adapters.gymnasium`), on this machine or another. What an environment here
cannot do: go back to a moment, and be in several places at once. Wrappers around a `SnapEnv` keep state of their
own: with these, `clone_state` and `restore_state` go back whole, and ``snapshot`` and ``restore`` do not.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any, SupportsIndex

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate

from . import requests
from .errors import BadRequestError, NotFoundError
from .handles import Handle
from .moments import Clones, Source, State, drop, held_by_wrappers, spec_of
from .protocol import Rng
from .requests import Request
from .spaces import action_from_wire, space_from_wire, value_from_wire, value_to_wire
from .sync import Branch, Snapshot
from .sync.branch import DirectBranch
from .together import run_together

if TYPE_CHECKING or hasattr(gymnasium.vector, "AutoresetMode"):
    from gymnasium.vector import AutoresetMode
else:

    class AutoresetMode(enum.Enum):
        """What happens after an episode ended: Gymnasium 1.0 does the first, and has no name for it."""

        NEXT_STEP = "NextStep"
        SAME_STEP = "SameStep"
        DISABLED = "Disabled"


OWN = ("node", "_owned", "_source", "_clones")
"""What is of one environment alone, and not of its copies."""
Env = gymnasium.Env[Any, Any]
Observed = tuple[Any, dict[str, Any]]
Stepped = tuple[Any, float, bool, bool, dict[str, Any]]


class SnapEnv(Handle, Env):
    """An environment that is a branch. `copy.deepcopy` of it is one more branch, which `close` drops.

    Unpickled, as by a task of Ray or a pool of processes, it is the same branch still: one steps it at a time.

    Args:
        branch: A live branch of a tree that serves an environment.
        owned: Whether `close` drops the branch.

    Raises:
        BadRequestError: It is a snapshot, or serves something else.
    """

    another = "copy.deepcopy(env), or env.branch(), goes on from here by itself"

    def __init__(self, branch: Branch, *, owned: bool = False) -> None:
        if not isinstance(branch, Branch):
            raise BadRequestError(f"{branch!r} is no branch", hint="make one of a snapshot: snapshot.branch()")
        self.node = branch.direct()
        self.node.begin()
        self._owned = owned
        self._source: Source | None = None
        self._last: Any = None
        """The last observation."""
        self._ended = False
        self._clones = Clones()
        try:
            described: Any = branch.call("describe")
            self.observation_space = space_from_wire(described["observation_space"])
            self.action_space = space_from_wire(described["action_space"])
        except (KeyError, TypeError, NotFoundError) as cause:
            branch.info()  # where there is no such branch, that is the error
            raise BadRequestError(f"{branch.name} is no environment", hint="serve gym:ID") from cause
        self.metadata = described["metadata"]
        self.render_mode = described["render_mode"]
        self.env_id: str = described["env_id"]
        self.spec = spec_of(described)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Observed:
        """Begin an episode."""
        super().reset(seed=seed)
        return self._observed(self.node.call("reset", seed=seed, options=options))

    def step(self, action: Any) -> Stepped:
        """Do an action.

        Raises:
            BadRequestError: The action is outside of its space, or the episode has ended.
        """
        return self._stepped(self.node.step(inputs=self._inputs(action)).outputs)

    def render(self) -> Any:
        """Return a frame, uint8, shape (height, width, 3); or what else ``render_mode`` says: text, or a list."""
        return _rendered(self.node.call("render"))

    def snapshot(self, name: str | None = None) -> Snapshot:
        """Freeze a copy of this moment."""
        return self.node.snapshot(name)

    def restore(self, snapshot: Snapshot | str, *, rng: Rng = "same") -> Observed:
        """Go back to a snapshot; return the observation and info of that moment.

        Wrappers around it stay as they are: `restore_state` takes them along.
        """
        self.node.restore(snapshot, rng=rng)
        return self._observed(self.node.call("observe"))

    def clone_state(self) -> State:
        """Return this moment, without wrappers; the function `clone_state` has those as well.

        Its snapshot goes some time after nobody has the state any more, and when the environment is closed.
        """
        return self._clone(self)

    def restore_state(self, state: State, *, rng: Rng = "same") -> Observed:
        """Go back to a moment, without wrappers; return its observation and info.

        Raises:
            BadRequestError: The state is of an environment with wrappers, which the function `restore_state` minds.
        """
        return restore_state(self, state, rng=rng)

    def branch(self, count: int = 1, *, rng: Rng = "same") -> list[SnapEnv]:
        """Return environments that continue from here; closing one drops its branch.

        The snapshot that they are made of goes with the last of them: where it is wanted for longer, take one.
        """
        snapshot, branches, made = self.node.snapshot(), list[Branch](), list[SnapEnv]()
        try:
            branches = snapshot.branch(count, rng=rng)
            for each in branches:
                made.append(SnapEnv(each, owned=True))
        except BaseException:
            for env in made:
                env.node.release()
            for node in (*branches, snapshot):
                drop(node)
            raise
        source = Source(snapshot, count)
        for env in made:
            env._source = source
        return made

    def vector(self, count: int, *, rng: Rng = "split", **options: Any) -> SnapVectorEnv:
        """Return ``count`` environments that continue from here and step in parallel; see `SnapVectorEnv`."""
        branches = self.branch(count, rng=rng)
        try:
            return SnapVectorEnv(branches, **options)
        except BaseException:
            for each in branches:
                each.close()
            raise

    def close(self) -> None:
        """Give the branch back, and drop it where it is this environment's own, with what it holds of moments."""
        self.node.release()
        owned, self._owned = self._owned, False
        with contextlib.ExitStack() as ends:  # each of them, also where one of them fails
            if owned and self._source is not None:
                ends.callback(self._source.leave)
            if owned:
                ends.callback(drop, self.node)
            ends.callback(self._clones.close)

    def _clone(self, env: Env) -> State:
        """Return this moment with what the wrappers of ``env`` hold; drop the snapshots of states that are gone."""
        wrappers = held_by_wrappers(env)
        self._clones.tidy()
        return self._clones.hold(State(self.node.snapshot(), wrappers))

    def __repr__(self) -> str:
        ended = " · the episode has ended" if self._ended else ""
        return f"<SnapEnv {self.env_id} · {self.node.name} · step {self.node.last.step:,}{ended}>"

    __str__ = __repr__

    def __deepcopy__(self, memo: dict[int, Any]) -> SnapEnv:
        """Return an environment that goes on from here as this one would."""
        (made,) = self.branch()
        memo[id(self)] = made
        try:
            made.__dict__ |= {name: deepcopy(value, memo) for name, value in vars(self).items() if name not in OWN}
        except BaseException:
            made.close()
            raise
        return made

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return _unpickled, (self.node, {name: value for name, value in vars(self).items() if name not in OWN})

    def _inputs(self, action: Any) -> dict[str, Any]:
        return {"action": value_to_wire(self.action_space, action)}

    def _observed(self, wire: Any) -> Observed:
        self._last = value_from_wire(self.observation_space, wire["observation"])
        self._ended = bool(wire.get("terminated") or wire.get("truncated"))
        return self._last, wire["info"]

    def _stepped(self, wire: dict[str, Any]) -> Stepped:
        observation, info = self._observed(wire)
        return observation, wire["reward"], wire["terminated"], wire["truncated"], info


def _unpickled(node: DirectBranch, state: dict[str, Any]) -> SnapEnv:
    env = SnapEnv.__new__(SnapEnv)
    node.begin()
    env.__dict__ |= {**state, "node": node, "_owned": False, "_source": None, "_clones": Clones()}
    return env


def clone_state(env: Env) -> State:
    """Return this moment of a `SnapEnv` and of every wrapper around it, `TimeLimit` and stacks of frames included.

    Spaces are not part of it, nor is what functions given to wrappers remember by themselves.

    Args:
        env: The outermost wrapper, or the environment itself.

    Raises:
        BadRequestError: It is around no `SnapEnv`, or a wrapper holds what cannot be copied.
    """
    return _within(env)._clone(env)


def restore_state(env: Env, state: State, *, rng: Rng = "same") -> Observed:
    """Go back to a moment that `clone_state` returned, with every wrapper.

    Returns:
        The observation and info of that moment, as the branch has them: without what wrappers make of them.

    Raises:
        BadRequestError: It has other wrappers than it had; nothing has changed.
        NotFoundError: The moment is gone: the environment that it is of was closed.
    """
    within = _within(env)
    state.check(env)
    found = within.restore(state.snapshot, rng=rng)
    state.put_back(env)
    return found


def _within(env: Env) -> SnapEnv:
    found = env.unwrapped
    if isinstance(found, SnapEnv):
        return found
    raise BadRequestError(f"{env!r} is around no SnapEnv", hint="of a vector, clone each of its envs")


class SnapVectorEnv(Handle, VectorEnv[Any, Any, Any]):
    """Several branches that step at the same time, each in its own process. `copy.deepcopy` branches each.

    Args:
        envs: Environments of one connection, with equal spaces.
        autoreset_mode: What happens after an episode ended, as `gymnasium.vector.AutoresetMode` defines it.
        copy: Whether observations are copied before they are returned.
    """

    another = "copy.deepcopy(envs) goes on from here by itself"

    def __init__(
        self,
        envs: Sequence[SnapEnv],
        *,
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        copy: bool = True,
    ) -> None:
        if not envs:
            raise BadRequestError("a vector of no environments")
        if any(each.observation_space != envs[0].observation_space for each in envs):
            raise BadRequestError("the environments have different observations")
        if any(each.action_space != envs[0].action_space for each in envs):
            raise BadRequestError("the environments have different actions")
        self.envs = list(envs)
        if len({env.node.id for env in envs}) < len(envs):
            raise BadRequestError("a branch is in one place at a time, and here it is twice", hint="branch it")
        self.num_envs = len(envs)
        self.copy = copy
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**envs[0].metadata, "autoreset_mode": self.autoreset_mode}
        self.render_mode = envs[0].render_mode
        self.spec = envs[0].spec
        self.single_observation_space = envs[0].observation_space
        self.single_action_space = envs[0].action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._batch: Any = create_empty_array(self.single_observation_space, self.num_envs)
        # They are somewhere in an episode already, or at its end.
        found = self._run([requests.call(env.node.id, "observe", (), {}) for env in self.envs])
        for env, last in zip(self.envs, found, strict=True):
            env._observed(last)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> Observed:
        """Begin an episode everywhere, or where ``options["reset_mask"]`` says so.

        Raises:
            BadRequestError: Seeds or a mask of another length.
        """
        seeds: list[int | None]
        if isinstance(seed, int):
            seeds = [seed + index for index in range(self.num_envs)]
        else:
            seeds = [None] * self.num_envs if seed is None else list(seed)
        others = dict(options or {})
        mask = np.asarray(others.pop("reset_mask", np.ones(self.num_envs, np.bool_)))
        if len(seeds) != self.num_envs:
            raise BadRequestError(f"{len(seeds)} seeds for {self.num_envs} environments")
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_ or not mask.any():
            raise BadRequestError(f"reset_mask needs {self.num_envs} booleans, and one that is true")
        where = np.flatnonzero(mask).tolist()
        infos = self._reset(where, [seeds[index] for index in where], others or None)
        return self._observations(), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Do an action everywhere, at the same time.

        Raises:
            BadRequestError: An action outside of its space, or an episode that ended and is not reset by itself;
                nothing is done anywhere.
        """
        chosen = list(iterate(self.action_space, actions))
        if len(chosen) != self.num_envs:
            raise BadRequestError(f"{len(chosen)} actions for {self.num_envs} environments")
        over = np.array([env._ended for env in self.envs])
        again = over if self.autoreset_mode == AutoresetMode.NEXT_STEP else np.zeros_like(over)
        if (ended := np.flatnonzero(over & ~again)).size:
            raise BadRequestError(
                f"the episodes of {ended.tolist()} have ended", hint="reset them: options={'reset_mask': …}"
            )
        asked: list[Request[Any]] = []
        for index, env in enumerate(self.envs):
            if again[index]:
                asked.append(requests.call(env.node.id, "reset", (), {}))
                continue
            inputs = env._inputs(chosen[index])
            action_from_wire(self.single_action_space, inputs["action"])  # before any of them does anything
            asked.append(requests.step(env.node.id, 1, inputs, progress=False))
        rewards = np.zeros(self.num_envs, np.float64)
        terminated, truncated = np.zeros(self.num_envs, np.bool_), np.zeros(self.num_envs, np.bool_)
        infos: dict[str, Any] = {}
        found: list[dict[str, Any]] = []
        for index, (env, answer) in enumerate(zip(self.envs, self._run(asked), strict=True)):
            if again[index]:
                _, info = env._observed(answer)
            else:
                env.node.last.step = answer.step
                _, rewards[index], terminated[index], truncated[index], info = env._stepped(answer.outputs)
            found.append(info)
        over = terminated | truncated
        if self.autoreset_mode == AutoresetMode.SAME_STEP and over.any():
            where = np.flatnonzero(over).tolist()
            for index in where:
                last = {"final_obs": self.envs[index]._last, "final_info": found[index]}
                infos = self._add_info(infos, last, index)
            for index, answer in zip(where, self._run(self._resets(where)), strict=True):
                _, found[index] = self.envs[index]._observed(answer)
        for index, info in enumerate(found):
            infos = self._add_info(infos, info, index)
        return self._observations(), rewards, terminated, truncated, infos

    def render(self) -> tuple[Any, ...]:
        """Return a frame of each."""
        frames = self._run([requests.call(env.node.id, "render", (), {}) for env in self.envs])
        return tuple(_rendered(frame) for frame in frames)

    def close_extras(self, **kwargs: Any) -> None:
        """Drop the branches that are the environments' own."""
        with contextlib.ExitStack() as ends:
            for env in self.envs:
                ends.callback(env.close)

    def __deepcopy__(self, memo: dict[int, Any]) -> SnapVectorEnv:
        """Return environments that go on from here as these would."""
        envs: list[SnapEnv] = []
        try:
            envs.extend(deepcopy(env, memo) for env in self.envs)
            made = SnapVectorEnv(envs, autoreset_mode=self.autoreset_mode, copy=self.copy)
        except BaseException:
            for env in envs:
                env.close()
            raise
        memo[id(self)] = made
        return made

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return _vector_of, (self.envs, self.autoreset_mode, self.copy)

    def _resets(
        self, where: Sequence[int], seeds: Sequence[int | None] = (), options: dict[str, Any] | None = None
    ) -> list[Request[Any]]:
        given = seeds or [None] * len(where)
        return [
            requests.call(self.envs[index].node.id, "reset", (), {"seed": seed, "options": options})
            for index, seed in zip(where, given, strict=True)
        ]

    def _reset(
        self, where: Sequence[int], seeds: Sequence[int | None], options: dict[str, Any] | None
    ) -> dict[str, Any]:
        infos: dict[str, Any] = {}
        for index, answer in zip(where, self._run(self._resets(where, seeds, options)), strict=True):
            _, info = self.envs[index]._observed(answer)
            infos = self._add_info(infos, info, index)
        return infos

    def _observations(self) -> Any:
        self._batch = concatenate(self.single_observation_space, [env._last for env in self.envs], self._batch)
        return deepcopy(self._batch) if self.copy else self._batch

    def _run(self, asked: Sequence[Request[Any]]) -> list[Any]:
        nodes = {env.node.id: env.node for env in self.envs}
        return run_together([nodes[request.node] for request in asked if isinstance(request.node, int)], asked)


def _vector_of(envs: list[SnapEnv], autoreset_mode: AutoresetMode, copied: bool) -> SnapVectorEnv:
    return SnapVectorEnv(envs, autoreset_mode=autoreset_mode, copy=copied)


def _rendered(wire: Any) -> Any:
    if isinstance(wire, list):
        return [_rendered(frame) for frame in wire]
    return np.array(wire) if isinstance(wire, np.ndarray) else wire
