"""One town as a plain object, a model of Mesa and of SimPy, and an environment of Gymnasium and of dm_env."""

from __future__ import annotations

import enum
import random
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import dm_env  # type: ignore[import-untyped]
import gymnasium
import mesa  # type: ignore[import-untyped]
import numpy as np
import simpy
from dm_env import specs


class Policy(enum.Enum):
    """What is done about it."""

    OPEN = "open"
    CLOSED = "closed"


@dataclass
class Ward:
    """A part of a town."""

    beds: int = 4


@dataclass(frozen=True)
class Charter:
    """What nobody changes."""

    founded: int = 1291


class Town:
    """People fall ill by chance. It has hooks, exported methods, and attributes of all kinds."""

    exported = ("lockdown", "told")
    chance: random.Random

    def __init__(self, beta: float = 0.2, seed: int = 1) -> None:
        self.chance = random.Random(seed)
        self.begin(beta)

    def begin(self, beta: float) -> None:
        self.beta, self.ill, self.days = beta, 10, 0
        self.policy, self.name, self.open, self.notice = Policy.OPEN, "Spa", True, None
        self.rates = {"young": 0.1, "old": 0.5}
        self.wards = [Ward(), Ward(9)]
        self.counts = np.arange(4, dtype="i4")
        self.view = self.counts[::2]
        self.level = np.float32(0.5)
        self.charter = Charter()
        self.fixed = MappingProxyType({"a": 1})
        self.log: list[str] = []

    def day(self, tests: int = 0) -> dict[str, int]:
        """A day goes by, on which as many are found and kept apart as are tested."""
        self.ill += sum(self.chance.random() < self.beta for _ in range(self.ill)) - tests
        self.days += 1
        return {"ill": self.ill}

    @property
    def well(self) -> int:
        """How many are not ill."""
        return 1000 - self.ill

    def lockdown(self, beta: float) -> float:
        """Have fewer fall ill."""
        self.beta = beta
        return beta

    def told(self) -> list[str]:
        """Return which hooks were called."""
        return self.log

    def on_branch(self, seed: int | None) -> None:
        self.log.append("on_branch")

    def on_snapshot(self) -> None:
        self.log.append("on_snapshot")

    def reseed(self, seed: int) -> None:
        self.log.append("reseed")

    def on_drop(self) -> None:
        if self.notice is not None:
            with open(self.notice, "w") as file:
                file.write("dropped")


class Set:
    """Its step has an input that is called as the adapters' own is, and means another thing."""

    def __init__(self) -> None:
        self.tables = 0

    def step(self, set: int = 0) -> dict[str, int]:
        self.tables += set
        return {"tables": self.tables}


class MesaTown(mesa.Model, Town):  # type: ignore[misc]
    """A model of Mesa, whose step takes an argument."""

    def __init__(self, beta: float = 0.2, seed: int = 1) -> None:
        super().__init__(seed=seed)
        self.chance = random.Random(seed)
        self.begin(beta)
        self.datacollector = mesa.DataCollector(model_reporters={"ill": "ill"})

    def step(self, tests: int = 0) -> None:
        """A day."""
        self.day(tests)
        self.datacollector.collect(self)


class SimPyTown(Town):
    """A model of SimPy: a day is a unit of its time."""

    monitored = ("ill",)

    def __init__(self, env: simpy.Environment, beta: float = 0.2, seed: int = 1) -> None:
        super().__init__(beta, seed)
        self.env = env
        env.process(self.live())

    def live(self) -> Iterator[simpy.Event]:
        while True:
            yield self.env.timeout(1)
            self.day()


def simpy_town(env: simpy.Environment, beta: float = 0.2, seed: int = 1):  # type: ignore[no-untyped-def]
    """Make one, without saying of what class it is."""
    return SimPyTown(env, beta, seed)


class GymTown(gymnasium.Env[Any, int], Town):
    """An environment of Gymnasium: tests are its action."""

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012
    action_space: ClassVar[Any] = gymnasium.spaces.Discrete(10)
    observation_space: ClassVar[Any] = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float64)

    def __init__(self, beta: float = 0.2) -> None:
        self.chance = random.Random(1)
        self.begin(beta)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.array([self.ill], np.float64), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.day(int(action))
        return np.array([self.ill], np.float64), 0.0, False, False, {"ill": self.ill}


class DmTown(dm_env.Environment, Town):  # type: ignore[misc]
    """An environment of dm_env: tests are its action."""

    def __init__(self, beta: float = 0.2, seed: int = 1) -> None:
        self.chance = random.Random(seed)
        self.begin(beta)

    def reset(self) -> Any:
        return dm_env.restart(np.array([self.ill], np.float64))

    def step(self, action: int) -> Any:
        self.day(int(action))
        return dm_env.transition(0.0, np.array([self.ill], np.float64))

    def observation_spec(self) -> Any:
        return specs.Array((1,), np.float64)

    def action_spec(self) -> Any:
        return specs.DiscreteArray(10)


gymnasium.register("Town-v0", entry_point=GymTown)
