"""A plate that gets warmer, whose every number is known: fields of all dimensions, and coordinates."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from snapserv import Field, Simulation, exported


class Plate(Simulation):
    """Warm on its left, and of another kind in its upper half."""

    fixed = Field("f4", shape=("rows", "cols"), dims=("y", "x"))
    heat = Field("f4", shape=("rows", "cols"), dims=("y", "x"), units="K", doc="temperature")
    y = Field("f8", shape=("rows",), dims=("y",), units="m")
    x = Field("f8", shape=("cols",), dims=("x",), units="m")
    kind = Field("u1", shape=("rows", "cols"))
    cube = Field("i4", shape=(4, "rows", "cols"))
    rod = Field("f8", shape=("cols",), units="K", doc="temperature of the rod")
    count = Field("i8")
    label = Field("S8")

    class Inputs(msgspec.Struct):
        warm: float = 1.0

    def setup(self, rows: int = 30, cols: int = 40, lasts: int = 1_000_000) -> None:
        self.y, self.x = np.arange(rows) / 10, np.arange(cols) / 4
        self.lasts = lasts

    def step(self, inputs: Inputs) -> dict[str, float]:
        self.heat[:, : self.heat.shape[1] // 2] += inputs.warm
        self.count += 1
        self.kind[: self.kind.shape[0] // 2] = self.count % 3
        self.cube[2] += 1
        self.rod += inputs.warm * np.arange(self.rod.size)
        self.label = f"at {int(self.count)}".encode()
        return {"hottest": float(self.heat.max()), "drawn": float(self.rng.random())}

    @property
    def finished(self) -> bool:
        """Whether it has lasted as long as it was to."""
        return int(self.count) >= self.lasts


class Rendered(Plate):
    """Renders frames, and counts them."""

    rewindable = ("frames",)

    def setup(self, rows: int = 30, cols: int = 40, lasts: int = 1_000_000) -> None:
        super().setup(rows, cols, lasts)
        self.frames = 0

    @exported
    def render(self) -> npt.NDArray[np.uint8]:
        """Return a frame: as red as it is hot."""
        self.frames += 1
        frame = np.zeros((60, 80, 3), np.uint8)
        frame[..., 0] = min(255, 20 * int(self.count))
        return frame

    @exported
    def rendered(self) -> int:
        """Return how many there were."""
        return self.frames
