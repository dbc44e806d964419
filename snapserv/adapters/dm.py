"""Environments of dm_env: ``dm:DOMAIN/TASK`` of dm_control's suite, or ``dm:MODULE:FACTORY`` of any other.

A step's input is the action; observation, reward, discount and the kind of step are its outputs. A last step
finishes the simulation: none goes on in the next episode unasked, which ``reset`` begins.

Source: dm_env's API and semantics, https://github.com/google-deepmind/dm_env/blob/master/docs/index.md
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import dm_env  # type: ignore[import-untyped,import-not-found,unused-ignore]
import msgspec
import numpy as np
from dm_env import specs
from snapserv_client.plain import Value

from snapserv.errors import BadRequestError, NotFoundError, UnsupportedError
from snapserv.simulation.base import Simulation, exported

from . import opengl
from .forwarding import Forwarding, Wrapping
from .schemes import unusable
from .wrapping import found, sendable


def adapt(rest: str) -> type[Simulation]:
    """Return the class that serves the environment that ``rest`` names.

    Raises:
        NotFoundError: The suite has no such task; close matches are named.
        UnsupportedError: dm_control is not installed.
    """
    if ":" in rest:
        factory = found(rest, "environment")
        doc = inspect.getdoc(factory) or f"The environment {rest}."
        name = getattr(factory, "__name__", "Environment")
        return type(name, (MadeEnvironment,), {"factory": staticmethod(factory), "__doc__": doc})
    try:
        suite = importlib.import_module("dm_control.suite")
    except ModuleNotFoundError as cause:
        raise UnsupportedError(
            f"dm:{rest} needs dm_control, which is not installed", hint="pip install 'snapserv[dm]'"
        ) from cause
    except Exception as cause:
        raise unusable(f"dm:{rest}", "dm_control", cause) from cause
    known = [f"{domain}/{task}" for domain, task in suite.ALL_TASKS]
    if rest not in known:
        close = difflib.get_close_matches(rest, known, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"tasks: {', '.join(known)}"
        raise NotFoundError(f"dm_control's suite has no task {rest!r}", hint=hint)
    return type(rest.replace("/", "_"), (SuiteEnvironment,), {"served": rest, "__doc__": f"{rest} of dm_control."})


class DmSimulation(Forwarding):
    """An environment of dm_env."""

    env: dm_env.Environment

    class Inputs(msgspec.Struct):
        """A value of the action's spec; what is an array there may be a list. Attributes are ``set`` before."""

        action: Value = None
        set: dict[str, Value] | None = None

    def step(self, inputs: Inputs) -> dict[str, Value]:
        """Do an action.

        Raises:
            BadRequestError: The action is not of its spec, or what is set does not fit.
        """
        action = _fitting(self.env.action_spec(), inputs.action, "action")
        self.put(self.prepare_settings(inputs.set))
        return self._take(self.env.step(action))

    @exported
    def reset(self) -> dict[str, Value]:
        """Begin an episode; return its first step."""
        return self._take(self.env.reset())

    @exported
    def observe(self) -> dict[str, Value]:
        """Return what the last step or reset put out."""
        return self.last

    @exported
    def describe(self) -> dict[str, Value]:
        """Return what is known of observations, actions, rewards and discounts."""
        return {
            "observation": _said(self.env.observation_spec()),
            "action": _said(self.env.action_spec()),
            "reward": _said(self.env.reward_spec()),
            "discount": _said(self.env.discount_spec()),
        }

    @exported
    def render(self, height: int = 240, width: int = 320, camera: int = -1) -> Value:
        """Return a frame, uint8, shape (height, width, 3).

        Raises:
            BadRequestError: The environment has no physics that draws, or no such camera.
            UnsupportedError: This machine has no OpenGL.
        """
        draw = getattr(getattr(self.env, "physics", None), "render", None)
        if not callable(draw):
            raise BadRequestError("the environment renders nothing")
        with opengl.drawing():
            frame: Value = draw(height, width, camera_id=camera)
        return frame

    @exported
    def random_action(self) -> dict[str, Value]:
        """Return an action by chance, within its bounds: a policy for rollouts."""
        return {"action": _drawn(self.env.action_spec(), self.rng)}

    def example_inputs(self) -> dict[str, Value]:
        """Return an action by chance."""
        return self.random_action()

    @property
    def authors(self) -> object:
        """The environment."""
        return self.env

    @property
    def holders(self) -> Sequence[object]:
        """The environment, then its task and its physics, where it has these."""
        more = (getattr(self.env, name, None) for name in ("task", "physics"))
        return [self.env, *(each for each in more if each is not None)]

    def _begin(self) -> None:
        if not isinstance(self.env, dm_env.Environment):
            raise BadRequestError(f"a {type(self.env).__name__} was made, which is no dm_env.Environment")
        self.reset()
        self.export()

    def _take(self, step: dm_env.TimeStep) -> dict[str, Any]:
        self.finished = bool(step.last())
        self.last = {
            "observation": sendable(step.observation),
            "reward": None if step.reward is None else sendable(step.reward),
            "discount": None if step.discount is None else sendable(step.discount),
            "step_type": step.step_type.name,
        }
        return self.last


class SuiteEnvironment(DmSimulation):
    """A task of dm_control's suite."""

    served: ClassVar[str]

    def setup(
        self,
        task: dict[str, Value] = {},  # noqa: B006 - it is read only, and clients are told it
        environment: dict[str, Value] = {},  # noqa: B006
        seed: Annotated[int, msgspec.Meta(ge=0)] = 0,
    ) -> None:
        """Make the environment, and begin its first episode.

        Args:
            task: What the task is given besides; ``time_limit``, say.
            environment: What the environment is given; ``flat_observation``, say.
            seed: Of the task's random stream.
        """
        domain, name = self.served.split("/")
        suite = importlib.import_module("dm_control.suite")
        try:
            self.env = suite.load(
                domain, name, task_kwargs={"random": seed, **task}, environment_kwargs=environment
            )
        except (TypeError, ValueError) as cause:
            raise BadRequestError(f"{self.served}: {cause}", hint="see task and environment") from cause
        self._begin()


class MadeEnvironment(DmSimulation, Wrapping):
    """An environment that somebody's class or function makes."""

    def setup(self, **params: Value) -> None:
        """Make the environment, and begin its first episode."""
        self.env = self.model = self.make(**params)
        self._begin()


def _fitting(spec: Any, value: Any, name: str) -> Any:
    """Return a value of a spec, which may be within lists or dicts of others."""
    if isinstance(spec, Mapping):
        if not isinstance(value, Mapping) or set(value) != set(spec):
            raise BadRequestError(f"{name}: {value!r}", hint=f"a map of {', '.join(spec)}")
        return {key: _fitting(each, value[key], f"{name}.{key}") for key, each in spec.items()}
    if isinstance(spec, list | tuple):
        if not isinstance(value, list | tuple) or len(value) != len(spec):
            raise BadRequestError(f"{name}: {value!r}", hint=f"a list of {len(spec)}")
        return type(spec)(
            _fitting(each, part, f"{name}.{at}") for at, (each, part) in enumerate(zip(spec, value, strict=True))
        )
    if isinstance(spec, specs.StringArray):
        raise BadRequestError(f"{name} is text, which is not served")
    try:
        given = np.asarray(value)
        if given.dtype.kind not in "biuf":
            raise BadRequestError(f"{name}: {value!r}", hint=repr(spec))
        with np.errstate(invalid="ignore", over="ignore"):
            fitting = given.astype(spec.dtype)
        if not np.allclose(fitting, given, rtol=1e-6):
            raise BadRequestError(f"{name}: {value!r} would change as {spec.dtype}", hint=repr(spec))
        spec.validate(fitting)
    except ValueError as cause:
        raise BadRequestError(f"{name}: {cause}", hint=repr(spec)) from cause
    return fitting if spec.shape else fitting[()]


def _drawn(spec: Any, rng: np.random.Generator) -> Any:
    if isinstance(spec, Mapping):
        return {key: _drawn(each, rng) for key, each in spec.items()}
    if isinstance(spec, list | tuple):
        return [_drawn(each, rng) for each in spec]
    if isinstance(spec, specs.DiscreteArray):
        return int(rng.integers(spec.num_values))
    if np.dtype(spec.dtype).kind in "iu":
        low, high = getattr(spec, "minimum", 0), getattr(spec, "maximum", 1)
        return rng.integers(low, np.asarray(high, np.int64) + 1, spec.shape)
    low, high = np.nan_to_num([getattr(spec, "minimum", -1.0), getattr(spec, "maximum", 1.0)], posinf=1, neginf=-1)
    return rng.uniform(low, high, spec.shape).astype(spec.dtype)


def _said(spec: Any) -> Any:
    if isinstance(spec, Mapping):
        return {key: _said(each) for key, each in spec.items()}
    if isinstance(spec, list | tuple):
        return [_said(each) for each in spec]
    said = {"kind": type(spec).__name__, "shape": list(spec.shape), "dtype": str(np.dtype(spec.dtype))}
    bounds = {name: np.asarray(getattr(spec, name)) for name in ("minimum", "maximum") if hasattr(spec, name)}
    return {**said, **bounds, **({"name": spec.name} if spec.name else {})}
