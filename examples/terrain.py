"""Real terrain for the wildfire: an elevation model, and fuel derived from it.

The elevation is the Jacksboro fault in Tennessee (USGS, 3 arc-seconds, 30 km × 32 km) that matplotlib ships among
its sample data. The fuel is *not* surveyed: the classes are Alexandridis et al.'s, and where they grow is a rule
of thumb on height, slope and aspect with smooth noise.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from snapserv.errors import UnsupportedError

Array = np.ndarray[Any, Any]

METRES_PER_DEGREE = 111_320.0
"""Of latitude, and of longitude at the equator."""
NOISE_SIZE = 512
BLOCK_ROWS = 256
"""Maps are filled so many rows at a time, which bounds the memory that ``setup`` needs besides the map."""

AGRICULTURAL, THICKETS, PINE = range(3)
SPARSE, NORMAL, DENSE = range(3)
NO_FUEL = 0


def fuel_class(vegetation: int, density: int) -> int:
    """Return the code of a class of fuel: 1 to 9; 0 is `NO_FUEL`."""
    return 1 + 3 * vegetation + density


@dataclass(frozen=True)
class Survey:
    """An elevation model.

    Attributes:
        elevation: In metres, float32, shape (rows, columns), the first row in the north.
        row_m: Distance between rows in metres.
        col_m: Distance between columns in metres.
    """

    elevation: Array
    row_m: float
    col_m: float


@dataclass(frozen=True)
class Window:
    """The largest part of a survey, in its middle, that a map of square cells covers.

    Attributes:
        cell_m: Side of a cell of the map in metres.
        rows: Where the map's rows lie in the survey, in rows of it.
        cols: Where the map's columns lie in the survey, in columns of it.
    """

    cell_m: float
    rows: Array
    cols: Array


def load_survey() -> Survey:
    """Read matplotlib's elevation model without importing matplotlib, which would stay in every forked process.

    Raises:
        UnsupportedError: matplotlib or its sample data are not installed.
    """
    spec = importlib.util.find_spec("matplotlib")
    package = Path(spec.origin).parent if spec is not None and spec.origin is not None else None
    path = package and package / "mpl-data" / "sample_data" / "jacksboro_fault_dem.npz"
    if path is None or not path.is_file():
        raise UnsupportedError(
            "the wildfire burns on an elevation model that matplotlib ships, and there is none",
            hint="pip install 'snapserv[demo]'",
        )
    with np.load(path) as survey:
        latitude = math.radians((float(survey["ymin"]) + float(survey["ymax"])) / 2)
        return Survey(
            survey["elevation"].astype(np.float32),
            row_m=float(survey["dy"]) * METRES_PER_DEGREE,
            col_m=float(survey["dx"]) * METRES_PER_DEGREE * math.cos(latitude),
        )


def place(survey: Survey, rows: int, cols: int) -> Window:
    """Return where a map of ``rows`` × ``cols`` square cells lies in a survey."""
    height, width = survey.elevation.shape
    cell_m = min(height * survey.row_m / rows, width * survey.col_m / cols)
    return Window(
        cell_m,
        rows=(height - 1) / 2 + (np.arange(rows) - (rows - 1) / 2) * (cell_m / survey.row_m),
        cols=(width - 1) / 2 + (np.arange(cols) - (cols - 1) / 2) * (cell_m / survey.col_m),
    )


def resample(grid: Array, rows: Array, cols: Array) -> Array:
    """Return ``grid`` at every pair of the fractional ``rows`` and ``cols``, bilinear, float32.

    Outside of the grid its edge goes on.
    """
    upper, down = _between(rows, grid.shape[0])
    left, right = _between(cols, grid.shape[1])
    lower, beside = np.minimum(upper + 1, grid.shape[0] - 1), np.minimum(left + 1, grid.shape[1] - 1)
    down, right = down.astype(np.float32)[:, None], right.astype(np.float32)
    between_rows = grid[upper] * (1 - down) + grid[lower] * down
    sampled: Array = between_rows[:, left] * (1 - right) + between_rows[:, beside] * right
    return sampled.astype(np.float32, copy=False)


def fill(survey: Survey, window: Window, seed: int, elevation: Array, fuel: Array) -> None:
    """Write a map's elevation in metres and its fuel classes.

    Fields and meadows lie on gentle slopes low in the valleys, Aleppo pine stands on high ground, thickets between
    them; slopes that face north are dense, those that face south sparse; noise blurs each of these borders. Lakes,
    which a survey shows as cells level with all their neighbours, have no fuel.

    Args:
        survey: The elevation model.
        window: Where in the survey the map lies.
        seed: Of the noise. The same place has the same fuel on maps of every size.
        elevation: float32, shape (rows, columns) of the window, overwritten.
        fuel: uint8, of the same shape, overwritten.
    """
    rise_south, rise_east = np.gradient(survey.elevation, survey.row_m, survey.col_m)
    slope = np.degrees(np.arctan(np.hypot(rise_south, rise_east)))
    northness = np.sin(np.arctan(rise_south))
    lakes = _lakes(survey.elevation)
    growth, thickness = _noise(seed), _noise(seed + 1)
    per_row = (NOISE_SIZE - 1) / (survey.elevation.shape[0] - 1)
    per_col = (NOISE_SIZE - 1) / (survey.elevation.shape[1] - 1)
    for first in range(0, len(window.rows), BLOCK_ROWS):
        block = slice(first, first + BLOCK_ROWS)
        rows, cols = window.rows[block], window.cols
        elevation[block] = resample(survey.elevation, rows, cols)
        noise = resample(growth, rows * per_row, cols * per_col)
        vegetation = np.full(noise.shape, THICKETS, np.uint8)
        vegetation[elevation[block] + 90 * noise > 520] = PINE
        low = elevation[block] + 60 * noise < 400
        vegetation[low & (resample(slope, rows, cols) < 9)] = AGRICULTURAL
        noise = resample(thickness, rows * per_row, cols * per_col)
        noise += 2.5 * resample(northness, rows, cols)
        density = np.full(noise.shape, NORMAL, np.uint8)
        density[noise < -0.6] = SPARSE
        density[noise > 0.6] = DENSE
        fuel[block] = 1 + 3 * vegetation + density
        fuel[block][resample(lakes, rows, cols) > 0.5] = NO_FUEL


def _between(positions: Array, size: int) -> tuple[Array, Array]:
    """Split positions into the index before each and the fraction of the way to the next."""
    inside = np.clip(positions, 0, size - 1)
    before = np.floor(inside).astype(np.intp)
    return before, inside - before


def _lakes(elevation: Array) -> Array:
    """Return 1 where a cell is level with its eight neighbours or next to one that is so, at its height."""
    around = np.lib.stride_tricks.sliding_window_view(np.pad(elevation, 1, mode="edge"), (3, 3))
    level = np.ptp(around, axis=(2, 3)) == 0
    near = np.lib.stride_tricks.sliding_window_view(np.pad(np.where(level, elevation, np.nan), 1), (3, 3))
    lakes: Array = (near == elevation[:, :, None, None]).any(axis=(2, 3)).astype(np.float32)
    return lakes


def _noise(seed: int) -> Array:
    """Return smooth noise of mean 0 and deviation 1, shape (NOISE_SIZE, NOISE_SIZE): six octaves of values."""
    rng = np.random.default_rng(seed)
    total: Array = np.zeros((NOISE_SIZE, NOISE_SIZE), np.float32)
    for octave in range(6):
        knots = 6 * 2**octave
        at = np.linspace(0, knots - 1, NOISE_SIZE)
        whole = np.floor(at)
        part = at - whole
        eased = whole + part * part * (3 - 2 * part)  # no creases along the knots' lines
        total += resample(rng.standard_normal((knots, knots)), eased, eased) * np.float32(0.62**octave)
    total -= total.mean()
    total /= total.std()
    return total
