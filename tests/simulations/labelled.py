"""Fields of many kinds, with axes that have names, units and coordinates."""

from __future__ import annotations

from typing import Any

import numpy as np

from snapserv import Field, Simulation

CELL = np.dtype([("z", ">f8"), ("kind", "u1"), ("rgb", "u1", (3,))], align=True)


class Labelled(Simulation):
    """Fields of many kinds."""

    height = Field("f4", shape=("rows", "cols"), dims=("y", "x"), units="m", doc="height above sea level")
    y = Field("f8", shape=("rows",), dims=("y",), units="km", doc="to the north")
    x = Field("f8", shape=("cols",), dims=("x",), units="km", doc="to the east")
    cells = Field(CELL, shape=("rows", 2), doc="what is where")
    when = Field("M8[s]", units="s")
    empty = Field("i4", shape=(0, 3))
    count = Field("i8", doc="ticks so far")

    def setup(self, rows: int = 20, cols: int = 30, label: str = "here", limit: float = float("inf")) -> None:
        self.y = np.arange(rows) / 2
        self.x = np.arange(cols)

    def step(self, inputs: Any) -> dict[str, int]:
        self.height += self.rng.standard_normal(self.height.shape)
        self.cells["z"] += 0.5
        self.cells["rgb"][:, 1] = (1, 2, 3)
        self.when += np.timedelta64(1, "h")
        self.count += 1
        return {"count": int(self.count)}


class Wide(Simulation):
    """A field that no dataset can hold, and one that it can."""

    exact = Field("g", shape=(3,))
    plain = Field("f8", shape=(3,))

    def step(self, inputs: Any) -> None:
        self.exact += 1
