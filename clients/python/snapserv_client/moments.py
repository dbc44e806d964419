"""Moments of an environment with all of its wrappers, which keep state of their own, on this side of the wire.

A snapshot holds what is served. A wrapper here, as `TimeLimit` with its count or a stack of frames, knows nothing
of that: so what each holds is copied with the snapshot, and put back with it.
"""

from __future__ import annotations

import contextlib
import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from .errors import BadRequestError, NotFoundError
from .sync import Snapshot
from .sync.node import Node


class State:
    """A moment of an environment and its wrappers, to go back to as often as is wanted.

    Its snapshot is the environment's: dropped some time after nobody has this any more, and when that is closed.

    Attributes:
        snapshot: The branch as it was.
    """

    def __init__(self, snapshot: Snapshot, wrappers: Sequence[tuple[type, dict[str, Any]]]) -> None:
        self.snapshot = snapshot
        self._wrappers = wrappers

    def __repr__(self) -> str:
        within = "".join(f"{kind.__name__} · " for kind, _ in self._wrappers)
        return f"<State {within}{self.snapshot.name} · step {self.snapshot.last.step:,}>"

    def check(self, env: gymnasium.Env[Any, Any]) -> None:
        """Raise BadRequestError where an environment has other wrappers than it had."""
        layers = list(wrappers_of(env))
        if [type(each) for each in layers] != [kind for kind, _ in self._wrappers]:
            had = ", ".join(kind.__name__ for kind, _ in self._wrappers) or "none"
            has = ", ".join(type(each).__name__ for each in layers) or "none"
            raise BadRequestError(
                f"the environment has other wrappers now: {has}; it had: {had}",
                hint="pass the outermost one, as before",
            )

    def put_back(self, env: gymnasium.Env[Any, Any]) -> None:
        """Give the wrappers of an environment what they had."""
        for layer, (_, held) in zip(wrappers_of(env), self._wrappers, strict=True):
            own = {name: value for name, value in vars(layer).items() if name == "env"}
            layer.__dict__ = {**deepcopy(held, _outside(env)), **own}


def wrappers_of(env: gymnasium.Env[Any, Any]) -> Iterator[gymnasium.Env[Any, Any]]:
    """Yield the wrappers of an environment, the outermost first."""
    while isinstance(env, gymnasium.Wrapper):
        yield env
        env = env.env


def held_by_wrappers(env: gymnasium.Env[Any, Any]) -> list[tuple[type, dict[str, Any]]]:
    """Return what each wrapper holds, the outermost first.

    Raises:
        BadRequestError: One holds what cannot be copied.
    """
    found = []
    for layer in wrappers_of(env):
        held = {name: value for name, value in vars(layer).items() if name != "env"}
        try:
            found.append((type(layer), deepcopy(held, _outside(env))))
        except Exception as cause:
            raise BadRequestError(
                f"what {type(layer).__name__} holds cannot be copied: {cause}",
                hint="leave it out, or have the server wrap the environment: --param wrappers=…",
            ) from cause
    return found


def _outside(env: gymnasium.Env[Any, Any]) -> dict[int, Any]:
    """Return what is not copied with a wrapper, environments and spaces, as a memo of `deepcopy`."""
    whole = [*wrappers_of(env), env.unwrapped]
    spaces = [
        value for layer in whole for value in vars(layer).values() if isinstance(value, gymnasium.spaces.Space)
    ]
    return {id(each): each for each in (*whole, *spaces)}


class Clones:
    """The snapshots of states: each is dropped some time after nobody has its state, and all at the end."""

    def __init__(self) -> None:
        self._held: dict[int, Snapshot] = {}
        self._forgotten: deque[int] = deque()  # by the collector, which may come at any time, and asks nobody

    def hold(self, state: State) -> State:
        """Mind a state's snapshot."""
        self._held[state.snapshot.id] = state.snapshot
        weakref.finalize(state, self._forgotten.append, state.snapshot.id).atexit = False
        return state

    def tidy(self) -> None:
        """Drop the snapshots of states that are gone."""
        while self._forgotten:
            drop(self._held.pop(self._forgotten.popleft(), None))

    def close(self) -> None:
        """Drop all of them."""
        held, self._held = self._held, {}
        with contextlib.ExitStack() as ends:
            for each in held.values():
                ends.callback(drop, each)


class Source:
    """The snapshot that branches were made of, for as long as one of them is there."""

    def __init__(self, snapshot: Snapshot, users: int) -> None:
        self._snapshot = snapshot
        self._users = users

    def leave(self) -> None:
        """Drop it with the last of them."""
        self._users -= 1
        if not self._users:
            drop(self._snapshot)


def drop(node: Node | None) -> None:
    """Drop a node; somebody else may have, or the server for want of memory."""
    if node is not None:
        with contextlib.suppress(NotFoundError):
            node.drop()


def spec_of(described: Mapping[str, Any]) -> EnvSpec | None:
    """Return what Gymnasium knows of an environment, as it is served: limits of its episodes included.

    What makes one like it here, without a server, is what is registered under its id, if anything is.
    """
    known = described.get("spec", {})
    try:
        spec = EnvSpec(described["env_id"])
    except gymnasium.error.Error:  # it has none, or one that is no id
        return None
    registered = gymnasium.registry.get(spec.id)
    if registered is not None:
        spec.entry_point, spec.kwargs = registered.entry_point, dict(registered.kwargs)
    spec.reward_threshold = known.get("reward_threshold")
    spec.nondeterministic = known.get("nondeterministic", False)
    spec.max_episode_steps = known.get("max_episode_steps")
    return spec
