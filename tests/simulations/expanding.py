"""Simulations whose children are compared: they turn, they are scored, they meet."""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from typing import Any

import msgspec
import numpy as np

from snapserv import Field, Simulation, exported


class Steered(Simulation):
    """Turns as it is told to, and is finished once it has turned by a hundred."""

    turned = Field("i8")

    class Inputs(msgspec.Struct):
        turn: int = 0

    def step(self, inputs: Inputs) -> dict[str, int]:
        self.turned += inputs.turn
        self.finished = bool(self.turned >= 100)
        return {"turned": inputs.turn, "said": "turned"}

    @exported
    def wander(self) -> dict[str, int]:
        """Return inputs by chance."""
        return {"turn": int(self.rng.integers(0, 9))}

    @exported
    def further(self, by: int) -> int:
        """Return how far it would be."""
        return int(self.turned) + by

    @exported
    def broken_policy(self) -> dict[str, int]:
        """Return nothing."""
        raise ValueError("it cannot decide")

    @exported
    def no_inputs(self) -> int:
        """Return what are no inputs."""
        return 7


class Crowd(Simulation):
    """Counts how many of its relatives are in a tick at the same time."""

    def setup(self) -> None:
        self.here = mmap.mmap(-1, 4096)
        self.lock = os.memfd_create("crowd")

    def step(self, inputs: Any) -> dict[str, int]:
        with open(f"/proc/self/fd/{self.lock}", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.here[0] += 1
            fcntl.flock(lock, fcntl.LOCK_UN)
            time.sleep(0.02)
            together = self.here[0]
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.here[0] -= 1
            return {"together": together}


class Scored(Simulation):
    """Puts out what it is told."""

    class Inputs(msgspec.Struct):
        score: float | None = None

    def step(self, inputs: Inputs) -> dict[str, float]:
        return {"score": float("nan") if inputs.score is None else inputs.score}


class Large(Simulation):
    """Puts out as many arrays as it is told, of so many bytes each."""

    def setup(self, size: int = 1000) -> None:
        self.bytes = size

    class Inputs(msgspec.Struct):
        arrays: int = 1

    def step(self, inputs: Inputs) -> dict[str, Any]:
        return {str(number): np.full(self.bytes, number % 256, np.uint8) for number in range(inputs.arrays)}
