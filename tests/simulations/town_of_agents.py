"""The town as an environment of PettingZoo, with a single agent."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pettingzoo  # type: ignore[import-untyped]
from gymnasium import spaces

from .towns import Town


class parallel_env(pettingzoo.ParallelEnv, Town):  # type: ignore[misc]  # noqa: N801 - what modules call it
    """Tests are the mayor's action."""

    metadata: dict[str, Any] = {"name": "town_v0"}  # noqa: RUF012
    possible_agents = ["mayor"]  # noqa: RUF012

    def __init__(self, beta: float = 0.2) -> None:
        self.chance = random.Random(1)
        self.begin(beta)

    def observation_space(self, agent: str) -> Any:
        return spaces.Box(-np.inf, np.inf, (1,), np.float64)

    def action_space(self, agent: str) -> Any:
        return spaces.Discrete(10)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.agents = ["mayor"]
        return {"mayor": np.array([self.ill], np.float64)}, {"mayor": {}}

    def step(self, actions: dict[str, int]) -> Any:
        self.day(int(actions["mayor"]))
        seen = {"mayor": np.array([self.ill], np.float64)}
        return seen, {"mayor": 0.0}, {"mayor": False}, {"mayor": False}, {"mayor": {}}
