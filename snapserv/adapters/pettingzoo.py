"""Games of several agents of PettingZoo: ``pettingzoo:classic/tictactoe_v3``, or ``pettingzoo:MODULE``.

Where a module has an environment in which all agents act at once, that is served; ``pettingzoo:aec:MODULE`` and
``pettingzoo:parallel:MODULE`` say which. Outputs are what the environment returns, agents by name. It is finished
when no agent is left.

Source: PettingZoo's API, https://pettingzoo.farama.org/api/aec/ and https://pettingzoo.farama.org/api/parallel/
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar

import gymnasium
import msgspec
import numpy as np
import pettingzoo  # type: ignore[import-untyped,import-not-found,unused-ignore]
from snapserv_client.plain import Value
from snapserv_client.spaces import action_from_wire, space_to_wire, value_to_wire

from snapserv.errors import BadRequestError, NotFoundError, SimulationError, UnsupportedError
from snapserv.simulation.base import Simulation, exported
from snapserv.simulation.blame import lacking

from . import sdl
from .forwarding import Forwarding
from .wrapping import sendable

APIS = {"aec": "env", "parallel": "parallel_env"}


def adapt(rest: str) -> type[Simulation]:
    """Return the class that serves the environment that ``rest`` names.

    Raises:
        NotFoundError: There is no such module.
        BadRequestError: The module makes no environment of the kind that is asked for.
        UnsupportedError: It needs packages that are not installed.
    """
    api, colon, place = rest.partition(":")
    if not colon or api not in APIS:
        api, place = "", rest
    made_by = _makers(place)
    if not api:
        api = "parallel" if "parallel" in made_by else "aec"
    if api not in made_by:
        raise BadRequestError(f"{place} has no {APIS[api]}", hint=f"there is: {', '.join(made_by) or 'none'}")
    kind = ParallelSimulation if api == "parallel" else AECSimulation
    doc = f"The environment {place} of PettingZoo."
    return type(place.rpartition("/")[2], (kind,), {"factory": staticmethod(made_by[api]), "__doc__": doc})


def _makers(place: str) -> Mapping[str, Callable[..., Any]]:
    """Return what makes an environment, by its API: a registry or, before there was one, a module."""
    if "/" in place and hasattr(pettingzoo, "make"):
        known = {"aec": pettingzoo.aec_registry, "parallel": pettingzoo.parallel_registry}
        chosen = re.sub(r"_v(\d+)$", r"-v\1", place)
        found = {api: partial(pettingzoo.make, api, chosen) for api, ids in known.items() if chosen in ids}
        if not found:
            close = difflib.get_close_matches(chosen, {each for ids in known.values() for each in ids}, n=3)
            hint = f"did you mean {' or '.join(close)}?" if close else "pettingzoo.pprint_registry() lists them"
            raise NotFoundError(f"no environment {place!r}", hint=hint)
        return found
    name = "pettingzoo." + re.sub(r"-v(\d+)$", r"_v\1", place).replace("/", ".") if "/" in place else place
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as cause:
        if name == cause.name or name.startswith(f"{cause.name}."):
            raise NotFoundError(
                f"no module {cause.name!r}", hint="pettingzoo:FAMILY/NAME_vN, or a module"
            ) from cause
        raise UnsupportedError(f"{place} needs more: {cause}", hint=lacking(cause)) from cause
    return {api: getattr(module, each) for api, each in APIS.items() if callable(getattr(module, each, None))}


class PettingZooSimulation(Forwarding):
    """An environment of PettingZoo."""

    factory: ClassVar[Callable[..., Any]]

    def setup(
        self,
        kwargs: dict[str, Value] = {},  # noqa: B006 - it is read only, and clients are told it
        seed: Annotated[int, msgspec.Meta(ge=0)] = 0,
    ) -> None:
        """Make the environment, and begin its first episode.

        Args:
            kwargs: What it is made with.
            seed: Of the first episode, and of its spaces.
        """
        sdl.play_nothing()
        try:
            self.env = type(self).factory(**kwargs)
        except (TypeError, ValueError, AssertionError, ImportError) as cause:
            raise BadRequestError(f"{type(self).__name__}: {cause}", hint="see kwargs") from cause
        self.reset(seed)
        for at, agent in enumerate(self.env.possible_agents):
            self.env.action_space(agent).seed(seed + at)
        self.export()
        sdl.let_go()

    @exported
    def reset(self, seed: int | None = None, options: dict[str, Value] | None = None) -> dict[str, Value]:
        """Begin an episode; return its first outputs."""
        self.env.reset(seed=seed, options=options)
        return self.outputs()

    @exported
    def outputs(self) -> dict[str, Value]:
        """Return what the last step or reset put out."""
        raise NotImplementedError

    @exported
    def describe(self) -> dict[str, Value]:
        """Return the agents with their spaces, and the metadata."""
        agents = self.env.possible_agents
        return {
            "agents": list(agents),
            "observation_spaces": {each: space_to_wire(self.env.observation_space(each)) for each in agents},
            "action_spaces": {each: space_to_wire(self.env.action_space(each)) for each in agents},
            "metadata": sendable(dict(self.env.metadata)),
        }

    @exported
    def render(self) -> Value:
        """Return a frame, or what else the environment renders.

        Raises:
            BadRequestError: It renders nothing as it was made.
        """
        frame: Value = self.env.render()
        sdl.let_go()
        if frame is None:
            raise BadRequestError("the environment renders nothing so", hint='set kwargs to {"render_mode": …}')
        return frame

    @property
    def finished(self) -> bool:  # type: ignore[override]  # the environment says so, and nobody sets it
        """Whether no agent is left."""
        return not self.env.agents

    @property
    def authors(self) -> object:
        """The environment, without its wrappers."""
        return self.env.unwrapped

    @property
    def holders(self) -> Sequence[object]:
        """The environment, without its wrappers."""
        return [self.env.unwrapped]

    def _action(self, agent: str, given: Any) -> Any:
        return action_from_wire(self.env.action_space(agent), given)

    def _seen(self, agent: str, observation: Any) -> Any:
        if observation is None:
            return None
        try:
            return value_to_wire(self.env.observation_space(agent), observation)
        except BadRequestError as cause:
            raise SimulationError(f"what {agent} observed is not in its space: {cause}") from cause

    def _sample(self, agent: str, observation: Any, info: Any) -> Any:
        space = self.env.action_space(agent)
        holder = observation if isinstance(observation, Mapping) and "action_mask" in observation else info
        mask = holder.get("action_mask") if isinstance(holder, Mapping) else None
        if mask is not None and isinstance(space, gymnasium.spaces.Discrete):
            return value_to_wire(space, space.sample(np.asarray(mask, np.int8)))
        return value_to_wire(space, space.sample())


class ParallelSimulation(PettingZooSimulation):
    """An environment in which all agents act at once."""

    class Inputs(msgspec.Struct):
        """An action for each agent that is left. Attributes are ``set`` before."""

        actions: dict[str, Value] = {}
        set: dict[str, Value] | None = None

    def step(self, inputs: Inputs) -> dict[str, Value]:
        """Do an action of each.

        Raises:
            BadRequestError: An agent has none or is not there, or an action is outside of its space.
        """
        if set(inputs.actions) != set(self.env.agents):
            raise BadRequestError(
                f"actions of {', '.join(inputs.actions) or 'nobody'}", hint=f"wanted: {', '.join(self.env.agents)}"
            )
        actions = {agent: self._action(agent, inputs.actions[agent]) for agent in self.env.agents}
        self.put(self.prepare_settings(inputs.set))
        self._took(*self.env.step(actions))
        sdl.let_go()
        return self.outputs()

    @exported
    def reset(self, seed: int | None = None, options: dict[str, Value] | None = None) -> dict[str, Value]:
        """Begin an episode; return its first observations and infos."""
        observations, infos = self.env.reset(seed=seed, options=options)
        self._took(observations, {}, {}, {}, infos)
        return self.outputs()

    @exported
    def outputs(self) -> dict[str, Value]:
        """Return what the last step or reset put out, and the agents that are left."""
        return {**self.last, "agents": list(self.env.agents)}

    @exported
    def random_action(self) -> dict[str, Value]:
        """Return an action by chance for each agent: a policy for rollouts."""
        seen, infos = self._observations, self.last["infos"]
        return {"actions": {each: self._sample(each, seen.get(each), infos.get(each)) for each in self.env.agents}}

    def example_inputs(self) -> dict[str, Value]:
        """Return an action by chance for each agent."""
        return self.random_action()

    def _took(self, observations: Any, rewards: Any, terminations: Any, truncations: Any, infos: Any) -> None:
        self._observations = observations
        self.last = {
            "observations": {agent: self._seen(agent, each) for agent, each in observations.items()},
            "rewards": {agent: float(each) for agent, each in rewards.items()},
            "terminations": {agent: bool(each) for agent, each in terminations.items()},
            "truncations": {agent: bool(each) for agent, each in truncations.items()},
            "infos": sendable(infos),
        }


class AECSimulation(PettingZooSimulation):
    """An environment in which agents act in turn."""

    class Inputs(msgspec.Struct):
        """An action of the agent whose turn it is; none of one that is done. Attributes are ``set`` before."""

        action: Value = None
        set: dict[str, Value] | None = None

    def step(self, inputs: Inputs) -> dict[str, Value]:
        """Do an action of the agent whose turn it is.

        Raises:
            BadRequestError: The action is outside of its space, or the agent is done and has none.
        """
        agent = self.env.agent_selection
        is_done = self.env.terminations[agent] or self.env.truncations[agent]
        if is_done and inputs.action is not None:
            raise BadRequestError(f"{agent} is done", hint="it leaves by a step without an action")
        action = None if is_done else self._action(agent, inputs.action)
        self.put(self.prepare_settings(inputs.set))
        self.env.step(action)
        sdl.let_go()
        return self.outputs()

    @exported
    def outputs(self) -> dict[str, Value]:
        """Return whose turn it is, what that agent sees and has got, and what the others got last."""
        rewards: dict[str, Value] = {agent: float(each) for agent, each in self.env.rewards.items()}
        if not self.env.agents:
            return {"agent": None, "agents": [], "rewards": rewards}
        agent = self.env.agent_selection
        observation, reward, termination, truncation, info = self.env.last()
        return {
            "agent": agent,
            "agents": list(self.env.agents),
            "observation": self._seen(agent, observation),
            "reward": float(reward),
            "rewards": rewards,
            "termination": bool(termination),
            "truncation": bool(truncation),
            "info": sendable(info),
        }

    @exported
    def random_action(self) -> dict[str, Value]:
        """Return an action by chance of the agent whose turn it is: a policy for rollouts.

        Raises:
            BadRequestError: No agent is left.
        """
        if not self.env.agents:
            raise BadRequestError("no agent is left", hint="reset begins another episode")
        agent = self.env.agent_selection
        observation, _, termination, truncation, info = self.env.last()
        return {"action": None if termination or truncation else self._sample(agent, observation, info)}

    def example_inputs(self) -> dict[str, Value]:
        """Return an action by chance."""
        return self.random_action()
