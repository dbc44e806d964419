"""Simulations to go back in: a quick one that goes wrong, and one whose way depends on all that is done to it."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
import numpy as np

from snapserv import Field, Simulation, exported


class Leak(Simulation):
    """Puts out how much there is, of which some goes in one tick: of that on nothing is as it should be."""

    class Inputs(msgspec.Struct):
        add: int = 0

    def setup(self, at: int = 0, forgets: bool = False) -> None:
        self.tick, self.at, self.amount, self.forgets = 0, at, 1000, forgets

    def step(self, inputs: Inputs) -> dict[str, int]:
        self.tick += 1
        self.amount += inputs.add
        if self.tick == self.at:
            self.amount -= 1
        return {"amount": self.amount}

    @exported
    def leaks(self) -> bool:
        """Return whether there is too little."""
        return self.amount < 1000


class Path(Simulation):
    """Goes a way that depends on everything that is done to it."""

    rewindable: ClassVar[tuple[str, ...]] = ("ticks",)
    at = Field("f8", shape=(4,))

    class Inputs(msgspec.Struct):
        push: float = 0.0
        fail: bool = False

    def setup(self, finished_at: int = 0) -> None:
        self.ticks, self.finished_at, self.branched = 0, finished_at, 0

    @property
    def finished(self) -> bool:  # type: ignore[override]
        return 0 < self.finished_at <= self.ticks

    def step(self, inputs: Inputs) -> dict[str, Any]:
        self.at += self.rng.standard_normal(4) + inputs.push + self.branched
        if inputs.fail:
            raise ValueError("told to fail")
        self.ticks += 1
        return {"sum": float(self.at.sum()), "at": self.at}

    @exported
    def turn(self, by: float) -> float:
        """Turn round, somewhat."""
        self.at *= -by
        return float(self.at.sum())

    @exported
    def break_down(self) -> None:
        """Raise, in the middle."""
        self.at += 1000
        raise ValueError("told to break down")

    @exported
    def is_far(self) -> bool:
        """Return whether it has come far."""
        return bool(np.abs(self.at).max() > 40)


class Hooked(Path):
    """Goes another way the more often it was branched."""

    def on_branch(self, seed: int | None) -> None:
        self.branched += 1
