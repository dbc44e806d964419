"""Fire on real terrain, the simulation of the demo: what-if questions about wind, firebreaks and water."""

from __future__ import annotations

import math
from typing import Annotated, Any

import msgspec
import numpy as np

from snapserv import Field, Simulation, exported
from snapserv.errors import BadRequestError
from snapserv.ext.kernels import wildfire as kernel

from . import terrain

# Alexandridis et al. (2008), fitted by them to the fire of Spetses in 1990.
CATCHES = 0.58
WIND_C1 = 0.045
WIND_C2 = 0.131
SLOPE_A = 0.078
VEGETATION = {terrain.AGRICULTURAL: -0.3, terrain.THICKETS: 0.0, terrain.PINE: 0.4}
DENSITY = {terrain.SPARSE: -0.4, terrain.NORMAL: 0.0, terrain.DENSE: 0.3}

DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))
"""(east, north) of the eight neighbours, clockwise from north, as the kernel numbers them."""
AXES = ("y", "x")
"""Of the fields that are maps: from north to south, and from west to east."""
STRONGEST_WIND_M_PER_S = 100.0
MOST_CELLS = 2**31 - 1
"""The front holds cells as 32-bit indices."""
MOST_ACTIONS = 1000
"""Of one kind, in the inputs of one tick."""
M2_PER_HA = 10_000.0

Cell = tuple[int, int]
Line = tuple[int, int, int, int]
Drop = tuple[int, int, int]
AtMost = msgspec.Meta(max_length=MOST_ACTIONS)


def wind_factors(wind: tuple[float, float]) -> np.ndarray[Any, Any]:
    """Return what the wind multiplies the chance of each of the eight directions by: ``p_w`` of the paper.

    Args:
        wind: Velocity in m/s, (towards east, towards north).
    """
    speed = math.hypot(*wind)
    factors = np.empty(len(DIRECTIONS))
    for index, (east, north) in enumerate(DIRECTIONS):
        along = (wind[0] * east + wind[1] * north) / (speed * math.hypot(east, north)) if speed else 1.0
        factors[index] = math.exp(WIND_C1 * speed) * math.exp(speed * WIND_C2 * (along - 1))
    return factors


def catching(catches: float) -> np.ndarray[Any, Any]:
    """Return the chance that fuel of each class catches fire on level ground without wind, shape (256,).

    Args:
        catches: ``p_h`` of the paper: that chance for thickets of normal density.
    """
    chances = np.zeros(256)
    for vegetation, more in VEGETATION.items():
        for density, denser in DENSITY.items():
            chances[terrain.fuel_class(vegetation, density)] = catches * (1 + more) * (1 + denser)
    return chances


class Wildfire(Simulation):
    """Fire spreading over real terrain.

    The cellular automaton of Alexandridis, Vakalis, Siettos and Bafas, "A cellular automata model for forest fire
    spread prediction: the case of the wildfire that swept through Spetses Island in 1990", Applied Mathematics and
    Computation 204:191–201, 2008, without its spotting. A cell burns for one tick, and in it sets fire to each of
    its eight neighbours that can burn with the chance ``p_h (1 + p_veg) (1 + p_den) p_w p_s``:

    - ``p_h`` = 0.58; ``p_veg`` = −0.3 for fields, 0 for thickets, 0.4 for Aleppo pine; ``p_den`` = −0.4 where they
      are sparse, 0 where normal, 0.3 where dense: of the cell that may catch fire;
    - ``p_w`` = exp(0.045 V) exp(0.131 V (cos θ − 1)), with wind of V m/s at the angle θ to the direction of spread;
    - ``p_s`` = exp(0.078 θₛ), with θₛ the slope in degrees, uphill positive, over 1 or √2 sides of a cell.

    The elevation is real; vegetation and density are derived from it by rules of thumb (see ``terrain.py``). A tick
    has no length in minutes: the paper calibrates that by the fire at hand. x is east, the columns; y is north, up
    the rows, of which row 0 is the northernmost.
    """

    elevation = Field("f4", shape=("rows", "cols"), dims=AXES, units="m", doc="height above sea level")
    fuel = Field("u1", shape=("rows", "cols"), dims=AXES, doc="0 none, otherwise 1 + 3 × vegetation + density")
    state = Field(
        "u1",
        shape=("rows", "cols"),
        dims=AXES,
        doc="0 unburnt, 1 burning, 2 burnt, 3 no fuel, 4 firebreak, 5 wet",
    )
    front = Field("i4", shape=("cells",), doc="burning cells: first entries on even ticks, last ones on odd")
    burning_cells = Field("i8", doc="how many cells burn")
    burnt_cells = Field("i8", doc="how many cells have burnt out")
    tick = Field("i8", doc="ticks since setup")
    stream = Field("u8", doc="key of the random stream")
    rewindable = ("_catches",)

    class Inputs(msgspec.Struct):
        """What acts on the fire in a tick. Repeating an action changes nothing more. Rows and columns count from 0.

        Attributes:
            wind: Velocity in m/s: (towards east, towards north).
            firebreaks: Lines (row, column, row, column) along which unburnt fuel is cleared, three cells wide.
            water: Drops (row, column, radius in cells): what burns goes out, what is unburnt will not burn.
            ignite: Cells (row, column) to set on fire where they can burn.
        """

        wind: tuple[float, float] = (0.0, 0.0)
        firebreaks: Annotated[list[Line], AtMost] = msgspec.field(default_factory=list)
        water: Annotated[list[Drop], AtMost] = msgspec.field(default_factory=list)
        ignite: Annotated[list[Cell], AtMost] = msgspec.field(default_factory=list)

    def setup(
        self,
        rows: int = 1024,
        cols: int = 1024,
        seed: int = 0,
        p_h: float = CATCHES,
        fire_row: int | None = None,
        fire_col: int | None = None,
    ) -> None:
        """Load the terrain and set a patch of 5 × 5 cells on fire.

        Args:
            rows: Cells from north to south, at least 1.
            cols: Cells from west to east, at least 1.
            seed: Of where the fuel grows and of the fire's chances.
            p_h: Chance, from 0 to 1, that fire passes between two cells of thickets, level and without wind.
            fire_row: Row of the patch's middle; by default the map's.
            fire_col: Column of the patch's middle; by default the map's.

        Raises:
            BadRequestError: A parameter out of its range; the caller's fault.
            UnsupportedError: The elevation model is not installed.
        """
        if rows < 1 or cols < 1 or rows * cols > MOST_CELLS:
            raise BadRequestError(
                f"rows is {rows} and cols is {cols}", hint=f"at least 1 each, {MOST_CELLS:,} cells in all"
            )
        if not 0 <= p_h <= 1:
            raise BadRequestError(f"p_h is {p_h}", hint="0 to 1 is allowed")
        if seed < 0:
            raise BadRequestError(f"seed is {seed}", hint="0 and above is allowed")
        row = rows // 2 if fire_row is None else fire_row
        col = cols // 2 if fire_col is None else fire_col
        _check_place("fire_row, fire_col", (row, col), self.elevation.shape)
        self.cells = rows * cols
        survey = terrain.load_survey()
        window = terrain.place(survey, rows, cols)
        self.cell_m = window.cell_m
        terrain.fill(survey, window, seed, self.elevation, self.fuel)
        self.state[self.fuel == terrain.NO_FUEL] = kernel.NO_FUEL
        self._catches = catching(p_h)
        self._reseed(seed)
        self._ignite(
            [
                (r, c)
                for r in range(row - 2, row + 3)
                for c in range(col - 2, col + 3)
                if 0 <= r < rows and 0 <= c < cols
            ]
        )

    def step(self, inputs: Inputs) -> dict[str, float]:
        """Clear firebreaks, drop water, set fires, then let the fire spread by a cell.

        Returns:
            ``burning_ha`` and ``burnt_ha``, areas in hectares; ``burning_cells``; and ``tick``.

        Raises:
            BadRequestError: An input out of its range, named; nothing has changed then.
        """
        self._check(inputs)
        for line in inputs.firebreaks:
            kernel.dig(self.state, *line)
        for drop in inputs.water:
            kernel.douse(self.state, *drop)
        self._ignite(inputs.ignite)
        burning, burnt = kernel.spread(
            self.state,
            self.fuel,
            self.elevation,
            self.front,
            self._at_top,
            int(self.burning_cells),
            self._catches,
            wind_factors(inputs.wind),
            self.cell_m,
            SLOPE_A,
            int(self.stream),
        )
        self.burning_cells = burning
        self.burnt_cells += burnt
        self.tick += 1
        cell_ha = self.cell_m**2 / M2_PER_HA
        return {
            "burning_ha": burning * cell_ha,
            "burnt_ha": int(self.burnt_cells) * cell_ha,
            "burning_cells": burning,
            "tick": int(self.tick),
        }

    def on_branch(self, seed: int | None) -> None:
        """Take another random stream where the branch has a seed of its own."""
        if seed is not None:
            self._reseed(seed)

    @exported
    def cell_side_m(self) -> float:
        """Return the side of a cell in metres: the scale of the map."""
        return self.cell_m

    @property
    def _at_top(self) -> bool:
        return bool(self.tick & 1)

    def _reseed(self, seed: int) -> None:
        self.stream = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]

    def _ignite(self, cells: list[Cell]) -> None:
        count = int(self.burning_cells)
        for row, col in cells:
            count = kernel.ignite(self.state, self.front, self._at_top, count, row, col)
        self.burning_cells = count

    def _check(self, inputs: Inputs) -> None:
        shape = self.state.shape
        if not math.hypot(*inputs.wind) <= STRONGEST_WIND_M_PER_S:  # true of NaN as well
            raise BadRequestError(
                f"wind is {inputs.wind}", hint=f"up to {STRONGEST_WIND_M_PER_S:g} m/s in all is allowed"
            )
        for index, line in enumerate(inputs.firebreaks):
            _check_place(f"firebreaks[{index}]", line[:2], shape)
            _check_place(f"firebreaks[{index}]", line[2:], shape)
        for index, (row, col, radius) in enumerate(inputs.water):
            _check_place(f"water[{index}]", (row, col), shape)
            if not 0 <= radius <= max(shape):
                raise BadRequestError(
                    f"water[{index}]: the radius is {radius}", hint=f"0 to {max(shape)} cells are allowed"
                )
        for index, cell in enumerate(inputs.ignite):
            _check_place(f"ignite[{index}]", cell, shape)


def _check_place(name: str, cell: Cell, shape: tuple[int, ...]) -> None:
    if not (0 <= cell[0] < shape[0] and 0 <= cell[1] < shape[1]):
        raise BadRequestError(
            f"{name}: row {cell[0]}, column {cell[1]} is off the map",
            hint=f"rows 0 to {shape[0] - 1} and columns 0 to {shape[1] - 1} are allowed",
        )
