"""Simulations that take memory and write it: as much, where and how often they are told."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from snapserv import Field, Simulation, exported


class Big(Simulation):
    """An arena of a given size, and a step that dirties pages of it."""

    memory = Field("u1", shape=("nbytes",))

    class Inputs(msgspec.Struct):
        pages: int = 0
        stride: int = 4096

    def setup(self, nbytes: int = 1 << 20, fill: int = 1) -> None:
        self.memory[:] = fill

    def step(self, inputs: Inputs) -> None:
        self.memory[: inputs.pages * inputs.stride : inputs.stride] += 1


class Scribble(Simulation):
    """Writes to 256 pages a tick, in an order that has nothing to do with where they lie, again and again."""

    memory = Field("u1", shape=("pages", 4096))

    def setup(self, pages: int = 1024) -> None:
        self.memory[:] = 1
        self.order = np.random.default_rng(5).permutation(pages)
        self.at = 0

    def step(self, inputs: Any) -> None:
        chosen = self.order[self.at : self.at + 256]
        self.memory[chosen, 0] += 1
        self.at = (self.at + 256) % len(self.order)


class Glutton(Simulation):
    """Takes memory in the Python heap, a piece a tick, and keeps it."""

    ballast = Field("u1", shape=("ballast",), doc="memory of the base image")

    class Inputs(msgspec.Struct):
        mebibytes: int = 0

    def setup(self, ballast: int = 1 << 20, take: int = 0) -> None:
        self.kept: list[np.ndarray[Any, Any]] = []
        self.take(take)

    def step(self, inputs: Inputs) -> dict[str, Any]:
        self.take(inputs.mebibytes)
        return {"pieces": len(self.kept)}

    @exported
    def take(self, mebibytes: int) -> None:
        """Take so much memory, every page of it written."""
        if mebibytes:
            self.kept.append(np.ones(mebibytes << 20, np.uint8))
