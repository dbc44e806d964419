"""Spots and stripes of two chemicals: a simulation that rewrites all of its state on every tick."""

from __future__ import annotations

import math
from typing import Annotated

import msgspec
import numpy as np

from snapserv import Field, Simulation
from snapserv.errors import BadRequestError
from snapserv.ext.kernels import gray_scott as kernel

DIFFUSION_U = 2e-5 / (2.5 / 256) ** 2
"""Pearson's 2·10⁻⁵ on his mesh of 256 cells across 2.5 units of length, in cells squared a tick."""
DIFFUSION_V = 1e-5 / (2.5 / 256) ** 2

AXES = ("y", "x")

Rate = Annotated[float, msgspec.Meta(ge=0, le=1)]


class GrayScott(Simulation):
    """Reaction and diffusion of Gray and Scott's two chemicals, ``u + 2v → 3v``, on a torus.

    Model and constants: Pearson, "Complex patterns in a simple system", Science 261:189–192, 1993, with his time
    step of 1 and the five-point Laplacian. Each tick changes each cell, so one tick after a branch no page of it
    is shared any more: the honest worst case of copy-on-write.
    """

    u = Field(
        "f4", shape=("rows", "cols"), dims=AXES, units="1", doc="concentration of the substrate, fed from outside"
    )
    v = Field(
        "f4",
        shape=("rows", "cols"),
        dims=AXES,
        units="1",
        doc="concentration of the catalyst, made by the reaction",
    )

    class Inputs(msgspec.Struct):
        """Rates a tick; the default grows labyrinths, ``feed=0.03, kill=0.062`` spots that divide."""

        feed: Rate = 0.037
        kill: Rate = 0.06

    def setup(self, rows: int = 256, cols: int = 256, seed: int = 0) -> None:
        """Fill the torus with substrate and drop catalyst into it.

        Pearson perturbed one square of 20 × 20 cells in the middle. A larger torus gets further squares at random
        places, about one for each 128 × 128 cells, so that it does not take for ever to fill.

        Args:
            rows: Cells from north to south, at least 1.
            cols: Cells from west to east, at least 1.
            seed: Of the squares' places and of the noise of 1% that breaks the symmetry.

        Raises:
            BadRequestError: A parameter out of its range; the caller's fault.
        """
        if rows < 1 or cols < 1 or seed < 0:
            raise BadRequestError(
                f"rows is {rows}, cols is {cols} and seed is {seed}", hint="at least 1, 1 and 0 are allowed"
            )
        self.u = 1.0
        for row, col in [(rows // 2, cols // 2), *self._places(rows, cols)]:
            at = np.ix_(np.arange(row - 10, row + 10) % rows, np.arange(col - 10, col + 10) % cols)
            self.u[at] = 0.5
            self.v[at] = 0.25
        noise = self.rng.standard_normal(size=(rows, cols), dtype=np.float32)
        self.u *= 1 + np.float32(0.01) * noise
        self.v *= 1 + np.float32(0.01) * noise[::-1]
        self._aside = np.empty((2, 3, cols), np.float32)  # scratch of the kernel: no state

    def step(self, inputs: Inputs) -> dict[str, float]:
        """Let every cell react and mix with its neighbours; return the mean concentrations."""
        if not (math.isfinite(inputs.feed) and math.isfinite(inputs.kill)):
            raise BadRequestError(f"feed is {inputs.feed} and kill is {inputs.kill}", hint="0 to 1 is allowed")
        kernel.react(self.u, self.v, self._aside, DIFFUSION_U, DIFFUSION_V, inputs.feed, inputs.kill)
        return {"mean_u": float(self.u.mean()), "mean_v": float(self.v.mean())}

    def _places(self, rows: int, cols: int) -> list[tuple[int, int]]:
        count = rows * cols // 128**2 - 1
        return [(int(self.rng.integers(rows)), int(self.rng.integers(cols))) for _ in range(count)]
