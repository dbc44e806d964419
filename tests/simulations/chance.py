"""Simulations that keep their chance and their state where only a fork finds them."""

from __future__ import annotations

import ctypes
import os
import random
import sys
import tempfile
from typing import Any

import msgspec
import numpy as np

from snapserv import Field, Simulation


class Heap(Simulation):
    """Keeps its state where only a fork finds it: generators, the random module, an open file, C state."""

    total = Field("f8")

    def setup(self, seed: int = 0) -> None:
        random.seed(seed)
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 - open for life, as engines keep their data files
        self.file.write(np.arange(100_000, dtype="<i8").tobytes())
        self.file.seek(0)
        self.fibonacci = self._fibonacci()
        self.libc = ctypes.CDLL(None)
        self.libc.srand(seed + 1)

    def _fibonacci(self) -> Any:
        a, b = 0, 1
        while True:
            yield a
            a, b = b, (a + b) % 1_000_003

    def step(self, inputs: Any) -> dict[str, Any]:
        outputs = {
            "random": random.random(),
            "fibonacci": next(self.fibonacci),
            "file": int.from_bytes(os.read(self.file.fileno(), 8), "little"),
            "rand": self.libc.rand(),
            "rng": float(self.rng.random()),
        }
        self.total += sum(outputs.values())
        return outputs


class Dice(Simulation):
    """Has no fields; its die is loaded, until at some tick it is one that nobody can throw twice."""

    class Inputs(msgspec.Struct):
        sides: int = 6

    def setup(self, fair_from: int = 0, seed: int = 0) -> None:
        self.thrown = 0
        self.fair_from = fair_from

    def step(self, inputs: Inputs) -> dict[str, int]:
        self.thrown += 1
        fair = 0 < self.fair_from <= self.thrown
        throw = int.from_bytes(os.urandom(8), "little") if fair else int(self.rng.integers(inputs.sides))
        return {"throw": throw}


class Late(Simulation):
    """Draws from numpy's global stream in a branch first, where numpy makes it."""

    def setup(self, seed: int = 0) -> None:
        assert "numpy.random" not in sys.modules

    def step(self, inputs: Any) -> dict[str, float]:
        return {"drawn": float(np.random.random())}
