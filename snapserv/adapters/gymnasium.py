"""Environments of Gymnasium: ``gym:CartPole-v1``, or any that are registered under ``gym:MODULE:ID``.

An observation, a reward and whether the episode ended are the outputs of a step; the action is its input. An
episode that ended finishes the simulation: no step goes on in the next one unasked, which ``reset`` begins.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Annotated, Any, ClassVar

import gymnasium
import msgspec
import numpy as np
from gymnasium.utils import seeding
from snapserv_client.plain import Value
from snapserv_client.spaces import action_from_wire, space_to_wire, value_to_wire

from snapserv.errors import BadRequestError, NotFoundError, SimulationError, SnapservError, UnsupportedError
from snapserv.simulation.base import Simulation, exported
from snapserv.simulation.blame import lacking

from . import opengl, sdl
from .forwarding import Forwarding
from .wrapping import sendable

Wrapper = str | dict[str, Any]

REFUSED = {
    "RecordVideo": "it writes files where its arguments say, and those come from clients",
    "Autoreset": "an episode that ended finishes the simulation: call reset, or use SnapEnv.vector",
}
"""Wrappers that no client can have, and why."""


def adapt(rest: str) -> type[Simulation]:
    """Return the class that serves the environment ``rest``."""
    return type(rest, (GymSimulation,), {"served": rest, "__doc__": f"The environment {rest} of Gymnasium."})


class GymSimulation(Forwarding):
    """An environment of Gymnasium."""

    served: ClassVar[str] = ""
    """The environment where setup is not told another."""

    class Inputs(msgspec.Struct):
        """A value of the action space; what is an array there may be a list. Attributes are ``set`` before."""

        action: Value = None
        set: dict[str, Value] | None = None

    def setup(
        self,
        env_id: str = "",
        kwargs: dict[str, Value] = {},  # noqa: B006 - it is read only, and clients are told it
        wrappers: list[Wrapper] = [],  # noqa: B006
        seed: Annotated[int, msgspec.Meta(ge=0)] = 0,
    ) -> None:
        """Make the environment and begin its first episode.

        Args:
            env_id: Which, where another is wanted than the server was started with.
            kwargs: What ``gymnasium.make`` is given besides.
            wrappers: Names of ``gymnasium.wrappers``, the innermost first; with arguments as
                ``{"name": "TimeLimit", "max_episode_steps": 50}``.
            seed: Of the first episode.
        """
        self.env = self.make(env_id, kwargs)
        for wrapper in wrappers:
            self.env = _wrapped(self.env, wrapper)
        self._seed_spaces(seed)
        self.reset(seed)
        self.export()

    def make(self, env_id: str, kwargs: dict[str, Any]) -> gymnasium.Env[Any, Any]:
        """Return the environment; override it to make one that is not registered.

        Raises:
            NotFoundError: None of that id is registered; close matches are named.
            BadRequestError: No id, arguments that it does not take, or a client that names a module.
            UnsupportedError: It needs a package that is not installed.
        """
        if ":" in env_id and env_id != self.served:
            raise BadRequestError(
                f"{env_id!r} names a module", hint="only who starts the server may: snapserv serve gym:MODULE:ID"
            )
        chosen = env_id or self.served
        if not chosen:
            raise BadRequestError("no environment", hint="set env_id, or serve gym:CartPole-v1")
        sdl.play_nothing()
        try:
            return gymnasium.make(chosen, **kwargs)
        except gymnasium.error.DependencyNotInstalled as cause:
            raise UnsupportedError(f"{chosen} needs more: {cause}", hint="install what it names") from cause
        except ModuleNotFoundError as cause:
            if chosen.startswith(f"{cause.name}:"):
                raise NotFoundError(
                    f"no module called {cause.name!r}", hint="run in the folder that holds it"
                ) from cause
            raise UnsupportedError(f"{chosen} needs more: {cause}", hint=lacking(cause)) from cause
        except (gymnasium.error.UnregisteredEnv, gymnasium.error.DeprecatedEnv) as cause:
            raise NotFoundError(f"no environment {chosen!r}: {cause}", hint=_close_to(chosen)) from cause
        except (TypeError, ValueError, LookupError, AssertionError, gymnasium.error.Error) as cause:
            raise BadRequestError(f"{chosen}: {type(cause).__name__}: {cause}", hint="see kwargs") from cause

    def step(self, inputs: Inputs) -> dict[str, Value]:
        """Do an action.

        Raises:
            BadRequestError: The action is outside of its space, or what is set does not fit.
        """
        action = action_from_wire(self.env.action_space, inputs.action)
        self.put(self.prepare_settings(inputs.set))
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.finished = bool(terminated or truncated)
        self.last = {
            "observation": self._seen(observation),
            "reward": _rewarded(reward),
            "terminated": bool(terminated),
            "truncated": bool(truncated),
            "info": sendable(info),
        }
        sdl.let_go()
        return self.last

    @exported
    def reset(self, seed: int | None = None, options: dict[str, Value] | None = None) -> dict[str, Value]:
        """Begin an episode; return its first observation and info.

        Raises:
            BadRequestError: A seed that is no integer, or below 0.
        """
        if seed is not None and (not isinstance(seed, int) or seed < 0):
            raise BadRequestError(f"seed: {seed!r} is no integer, or below 0")
        engine: Any = getattr(self.env.unwrapped, "nethack", None)
        if seed is not None and callable(getattr(engine, "set_initial_seeds", None)):
            engine.set_initial_seeds(core=seed, disp=seed, reseed=False)  # of NLE, whose reset takes none
        observation, info = self.env.reset(seed=seed, options=options)
        self._seed_new_spaces()
        self.finished = False
        self.last = {
            "observation": self._seen(observation),
            "info": sendable(info),
        }
        sdl.let_go()
        return self.last

    @exported
    def observe(self) -> dict[str, Value]:
        """Return what the last step or reset put out."""
        return self.last

    @exported
    def describe(self) -> dict[str, Value]:
        """Return the spaces, the metadata and the id."""
        return {
            "observation_space": space_to_wire(self.env.observation_space),
            "action_space": space_to_wire(self.env.action_space),
            "metadata": sendable(dict(self.env.metadata)),
            "render_mode": self.env.render_mode or self._frames(),
            "env_id": self.env.spec.id if self.env.spec is not None else "",
            "spec": self._told_of_spec(),
        }

    @exported
    def render(self) -> Value:
        """Return a frame, uint8, shape (height, width, 3); or what else the environment renders.

        Raises:
            BadRequestError: It renders nothing.
            UnsupportedError: What it needs is not installed: a package, or OpenGL.
        """
        plain = self.env.unwrapped
        mode = plain.render_mode
        try:
            # Only for this frame: where they are told to draw, some take much longer for each step.
            plain.render_mode = mode or self._frames()
            with opengl.drawing() if hasattr(plain, "mujoco_renderer") else nullcontext():
                frame: Any = self.env.render()
        except gymnasium.error.DependencyNotInstalled as cause:
            raise UnsupportedError(f"to render, it needs more: {cause}", hint="install what it names") from cause
        finally:
            plain.render_mode = mode
        if frame is None:
            raise BadRequestError("the environment renders nothing so", hint='set kwargs to {"render_mode": …}')
        sdl.let_go()
        drawn: Value = frame
        return drawn

    @exported
    def random_action(self) -> dict[str, Value]:
        """Return inputs with an action by chance: a policy for rollouts."""
        space = self.env.action_space
        return {"action": value_to_wire(space, space.sample())}

    def example_inputs(self) -> dict[str, Value]:
        """Return inputs with an action by chance."""
        return self.random_action()

    @property
    def authors(self) -> object:
        """The environment, without its wrappers."""
        return self.env.unwrapped

    @property
    def holders(self) -> Sequence[object]:
        """The environment, then its wrappers, the innermost first."""
        layers = [self.env]
        while isinstance(layers[-1], gymnasium.Wrapper):
            layers.append(layers[-1].env)
        return layers[::-1]

    def _reseed_own(self, seed: int) -> list[str]:
        names = super()._reseed_own(seed)
        plain = self.env.unwrapped
        if getattr(plain, "_np_random", None) is None:
            plain.np_random = seeding.np_random(seed)[0]  # else its first draw would be another in every replay
        self._seed_spaces(seed, anew=False)
        engine: Any = getattr(plain, "nethack", None)
        if callable(getattr(engine, "set_current_seeds", None)):
            engine.set_current_seeds(core=seed, disp=seed, reseed=False)  # of NLE, whose streams are in C
            names.append("NetHack")
        return names

    def begin_branch(self, seed: int | None) -> tuple[list[str], list[str]]:
        """Begin as every simulation does, and own up to what no seed reaches."""
        names, missed = super().begin_branch(seed)
        engine: Any = getattr(self.env.unwrapped, "ale", None)
        if seed is not None and hasattr(engine, "getFloat") and engine.getFloat("repeat_action_probability"):
            missed.append("which actions ALE repeats: it takes a seed only when an episode begins")
        return names, missed

    def _told_of_spec(self) -> dict[str, Value]:
        """Return what Gymnasium knows of the environment as it is wrapped, and has no other place for."""
        spec = self.env.spec
        if spec is None:
            return {}
        names = ("reward_threshold", "nondeterministic", "max_episode_steps")
        return {name: sendable(getattr(spec, name)) for name in names}

    def _seen(self, observation: Any) -> Any:
        try:
            return value_to_wire(self.env.observation_space, observation)
        except BadRequestError as cause:
            raise SimulationError(f"what it observed is not in its space: {cause}") from cause

    def _seed_spaces(self, seed: int, *, anew: bool = True) -> None:
        """Seed the spaces of the environment and of each wrapper that has its own; or those that never were seeded.

        Gymnasium draws a seed for a space when it is first asked for a value: another in every branch.
        """
        for space in self._spaces():
            if anew or space._np_random is None:
                space.seed(seed)

    def _seed_new_spaces(self) -> None:
        """Seed the spaces that a reset has made: some environments make theirs in each."""
        if any(space._np_random is None for space in self._spaces()):
            self._seed_spaces(int(self.rng.integers(1 << 31)), anew=False)

    def _spaces(self) -> list[gymnasium.Space[Any]]:
        layers: list[Any] = [*self.holders]
        return [space for env in layers for space in (env.action_space, env.observation_space)]

    def _frames(self) -> str | None:
        return "rgb_array" if "rgb_array" in self.env.metadata.get("render_modes", ()) else None


def _rewarded(reward: Any) -> Any:
    """Return a reward as it is sent: a number, or an array of one for each objective."""
    return np.asarray(reward) if np.ndim(reward) else float(reward)


def _close_to(env_id: str) -> str:
    known = list(gymnasium.registry)
    env_id = env_id.rpartition(":")[2]
    space, slash, _ = env_id.rpartition("/")
    if slash and not any(each.startswith(f"{space}/") for each in known):
        return f"install the package that registers {space}/…, and serve gym:MODULE:{env_id}"
    close = difflib.get_close_matches(env_id, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else "gymnasium.pprint_registry() lists them"


def _wrapped(env: gymnasium.Env[Any, Any], wrapper: Wrapper) -> gymnasium.Env[Any, Any]:
    arguments = {"name": wrapper} if isinstance(wrapper, str) else dict(wrapper)
    name = str(arguments.pop("name", ""))
    known = [each for each in gymnasium.wrappers.__all__ if each[0].isupper() and each not in REFUSED]
    if name in REFUSED:
        raise BadRequestError(f"the wrapper {name} is not to be had", hint=REFUSED[name])
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        raise NotFoundError(f"no wrapper {name!r}", hint=f"did you mean {close[0]}?" if close else ", ".join(known))
    try:
        made: gymnasium.Env[Any, Any] = getattr(gymnasium.wrappers, name)(env, **arguments)
    except SnapservError:
        raise
    except Exception as cause:  # whatever a wrapper raises is about its arguments or this environment
        raise BadRequestError(f"wrapper {name}: {type(cause).__name__}: {cause}") from cause
    return made
