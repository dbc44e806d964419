"""The usual simulation: a random walk of many walkers."""

from __future__ import annotations

import gc
import os
import threading
from typing import Any

import msgspec

from snapserv import Field, Simulation, exported


def _private_kib() -> int:
    with open("/proc/self/smaps_rollup") as rollup:
        return sum(int(line.split()[1]) for line in rollup if line.startswith("Private_Dirty"))


class Walk(Simulation):
    """A random walk of many walkers."""

    position = Field("f8", shape=("cols",), units="m", doc="where each walker stands")
    count = Field("i8", doc="ticks so far")

    class Inputs(msgspec.Struct):
        drift: float = 0.0

    def setup(self, cols: int = 1000, seed: int = 0) -> None:
        self.history: list[int] = []

    def step(self, inputs: Inputs) -> dict[str, Any]:
        self.position += self.rng.standard_normal(self.position.size) + inputs.drift
        self.count += 1
        self.history.append(int(self.count))
        return {"mean": float(self.position.mean()), "count": int(self.count)}

    @exported
    def total(self) -> float:
        """Return the sum of all positions."""
        return float(self.position.sum())

    @exported
    def echo(self, value: Any) -> Any:
        """Return what was given."""
        return value

    @exported
    def past(self) -> list[int]:
        """Return the ticks that this branch remembers in its Python heap."""
        return self.history

    @exported
    def process(self) -> dict[str, int]:
        """Return who runs this."""
        return {"pid": os.getpid(), "parent": os.getppid(), "thread": threading.get_native_id()}

    @exported
    def grow(self, objects: int) -> None:
        """Put many small objects that the collector looks at on the Python heap."""
        self.kept = [[number] for number in range(objects)]

    @exported
    def collect(self) -> int:
        """Run the collector; return the KiB of memory that it had copied."""
        before = _private_kib()
        gc.collect()
        return _private_kib() - before

    def hidden(self) -> None:
        """Not exported."""
