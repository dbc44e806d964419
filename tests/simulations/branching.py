"""Simulations that are told when they are branched, frozen and dropped."""

from __future__ import annotations

import os
import random
import time
from typing import Any

import numpy as np

from snapserv import Field, Simulation, exported


class Branching(Simulation):
    """Notes how it was branched."""

    value = Field("f8")

    def setup(self, seed: int = 0) -> None:
        self.seeds: list[int | None] = []
        self.fail_on_branch = False

    def step(self, inputs: Any) -> dict[str, float]:
        self.value = self.rng.random()
        return {"value": float(self.value)}

    def on_branch(self, seed: int | None) -> None:
        if self.fail_on_branch:
            raise RuntimeError("told to fail on branch")
        self.seeds.append(seed)

    @exported
    def seeds_so_far(self) -> list[int | None]:
        """Return the seed of each branching in this one's past."""
        return self.seeds

    @exported
    def fail_next(self) -> None:
        """Make every branch from now on fail to begin."""
        self.fail_on_branch = True


class Hooked(Simulation):
    """Writes down when it is branched, frozen and dropped, and draws from every random stream that Python has."""

    value = Field("f8")

    def setup(self, journal: str = "", fail: str = "") -> None:
        self.journal = journal
        self.fail = fail
        random.seed(1)
        np.random.seed(1)

    def step(self, inputs: Any) -> dict[str, float]:
        return {"own": self.rng.random(), "random": random.random(), "numpy": np.random.random()}

    def note(self, what: str) -> None:
        with open(self.journal, "a") as journal:
            journal.write(f"{what} {os.getpid()}\n")
        if self.fail == what:
            raise ValueError(what)
        if self.fail == f"{what} hangs":
            time.sleep(3600)

    def on_branch(self, seed: int | None) -> None:
        self.note("branch")

    def on_snapshot(self) -> None:
        self.note("snapshot")

    def on_drop(self) -> None:
        self.note("drop")
