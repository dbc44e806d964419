"""Simulations that go back in place, within a step or whole."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from snapserv import Field, Simulation, exported


class Rewindable(Simulation):
    """Keeps state of every kind that goes back: fields, named attributes, generators, and what cannot change."""

    value = Field("f8", shape=(5000,))
    rewindable = ("log", "twin")

    def setup(self, seed: int = 1) -> None:
        self.log: list[float] = []
        self.twin = {"log": self.log}
        self.scale = 2.0
        self.table = np.arange(10)
        self.table.flags.writeable = False

    def step(self, inputs: Any) -> dict[str, float]:
        chosen = self.rng.integers(0, 5000, 20)
        self.value[chosen] += self.scale * self.rng.random() + random.random()
        self.log.append(float(self.value.sum()))
        return {"sum": self.log[-1], "count": len(self.twin["log"])}

    @exported
    def everything(self) -> list[Any]:
        """Return all that there is, and whether what was shared is."""
        return [
            self.value.tolist(),
            self.log,
            self.twin["log"] is self.log,
            str(self.rng.bit_generator.state),
        ]

    @exported
    def surprise(self) -> None:
        """Keep something that nobody named."""
        self.surprised = True


class LooksAhead(Simulation):
    """Tries futures within a step, and takes each back."""

    value = Field("i8")
    trail = Field("i8", shape=(100_000,))

    def step(self, inputs: Any) -> dict[str, int]:
        self.value += 1
        mark, best = self.arena.mark(), 0
        for choice in (1, 3, 2):
            for _ in range(2):
                self.value += choice
                self.trail[int(self.value) * 1000] = choice
            best = max(best, int(self.value))
            self.arena.rewind(mark)
        assert not self.trail.any()
        return {"best": best, "value": int(self.value)}
