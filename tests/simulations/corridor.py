"""An environment of dm_env that is not dm_control's."""

from __future__ import annotations

from typing import Any

import dm_env  # type: ignore[import-untyped]
import numpy as np
from dm_env import specs


class Corridor(dm_env.Environment):  # type: ignore[misc]
    """Walk to its end; a gust may blow back."""

    def __init__(self, length: int = 8, seed: int = 0) -> None:
        self.length, self.place = length, 0
        self.gusts = np.random.default_rng(seed)

    def reset(self) -> Any:
        self.place = 0
        return dm_env.restart(self._seen())

    def step(self, action: int) -> Any:
        self.place += 1 if action == 1 else -int(self.gusts.integers(2))
        if self.place >= self.length:
            return dm_env.termination(1.0, self._seen())
        return dm_env.transition(0.0, self._seen())

    def observation_spec(self) -> Any:
        return specs.Array((1,), np.float32, name="place")

    def action_spec(self) -> Any:
        return specs.DiscreteArray(2, name="direction")

    def _seen(self) -> Any:
        return np.array([self.place], np.float32)


def nothing() -> int:
    """Make no environment."""
    return 0
