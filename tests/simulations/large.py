"""Large fields of several types, some of which ticks write to."""

from __future__ import annotations

import os

import msgspec
import numpy as np

from snapserv import Field, Simulation, exported


class Large(Simulation):
    """A grid that is the base image's but for the rows that ticks write, and records."""

    grid = Field("<f4", shape=("rows", 1024))
    cube = Field("<c16", shape=(8, 64, 512))
    records = Field(np.dtype([("kind", "u1"), ("where", "<f8", (3,))], align=True), shape=(1 << 16,))

    class Inputs(msgspec.Struct):
        """Which rows a tick writes."""

        first: int = 0
        last: int = 0
        every: int = 1

    def setup(self, rows: int = 4096) -> None:
        """Have all elements differ."""
        self.grid[:] = np.arange(self.grid.size, dtype=np.float32).reshape(self.grid.shape)
        self.cube[:] = np.arange(self.cube.size).reshape(self.cube.shape) * (1 + 2j)
        self.records["kind"] = np.arange(len(self.records)) % 251
        self.records["where"] = np.arange(3 * len(self.records)).reshape(-1, 3)

    def step(self, inputs: Inputs) -> None:
        """Write to some of the rows."""
        self.grid[inputs.first : inputs.last : inputs.every] += 1

    @exported
    def process(self) -> int:
        """Return who runs this."""
        return os.getpid()
