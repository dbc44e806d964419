"""Sheets of paper: a figure of matplotlib's, cut to what is drawn on it, as pixels and as a file.

matplotlib is imported inside functions, here and in all of the package: it is an extra, and takes its time to load.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..extras import need

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]

DOTS_PER_INCH = 150
PAD_IN = 0.12
"""Blank paper that is left around what is drawn."""
RARE = 0.05
"""A value that so small a part of a map has must not be lost where the map is made smaller."""


def need_matplotlib() -> None:
    """Raise UnsupportedError where matplotlib is not installed; says how to get it."""
    need("matplotlib", "plot")


def new_figure(
    width_in: float,
    height_in: float,
    *,
    layout: Literal["compressed", "constrained"] | None = "compressed",
    dpi: int = 0,
) -> Figure:
    """Return an empty figure.

    Raises:
        UnsupportedError: matplotlib is not installed.
    """
    need_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), dpi=dpi or DOTS_PER_INCH, facecolor="white", layout=layout)
    FigureCanvasAgg(figure)
    return figure


class Sheet:
    """A figure whose layout is settled: what changes on it later moves nothing else."""

    def __init__(self, figure: Figure) -> None:
        self._figure = figure
        figure.canvas.draw()
        figure.set_layout_engine("none")
        box, height = figure.get_tightbbox(), round(figure.get_figheight() * figure.dpi)
        rows = (height - math.ceil(box.y1 * figure.dpi), height - math.floor(box.y0 * figure.dpi))
        columns = (math.floor(box.x0 * figure.dpi), math.ceil(box.x1 * figure.dpi))
        self._cut = tuple(slice(max(0, first), last) for first, last in (rows, columns))

    def pixels(self) -> Array:
        """Return what is drawn now, as RGB: uint8, shape (height, width, 3)."""
        self._figure.canvas.draw()
        drawn = np.asarray(self._figure.canvas.buffer_rgba())  # type: ignore[attr-defined,unused-ignore]
        pad = round(PAD_IN * self._figure.dpi)
        cut: Array = np.pad(drawn[self._cut][:, :, :3], ((pad, pad), (pad, pad), (0, 0)), constant_values=255)
        return cut

    def save(self, path: Path | str) -> None:
        """Write it as a PNG; its folder is made."""
        from PIL import Image

        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(self.pixels()).save(path, format="PNG", optimize=True, dpi=(self._figure.dpi,) * 2)


def save_figure(figure: Figure, path: Path | str) -> None:
    """Write a figure as it is, uncut, as a PNG; its folder is made."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", bbox_inches=None)


def mean_of_blocks(array: Array, factor: int) -> Array:
    """Return the means of whole blocks of ``factor`` × ``factor``; a narrower map has its edge repeated."""
    parts = _parts(array, factor)
    total: Array = np.zeros(parts[0].shape)
    with np.errstate(invalid="ignore"):  # infinities of both signs in one block
        for part in parts:  # faster than a reduction over two short axes
            total += part
    total /= factor**2
    return total


def extreme_of_blocks(array: Array, factor: int) -> Array:
    """Return of each block of ``factor`` × ``factor`` what is the furthest from 0: that must not be lost."""
    found: Array | None = None
    for part in _parts(array, factor):
        found = part if found is None else np.where(np.abs(part) > np.abs(found), part, found)
    assert found is not None
    return found


def commonest_of_blocks(array: Array, factor: int) -> Array:
    """Return of each block of ``factor`` × ``factor`` the whole number that is met most often there.

    A number that is `RARE` in all of the map is what its blocks have, wherever it is met: a line must not be lost.
    """
    parts = _parts(array, factor)
    values = range(int(array.min()), int(array.max()) + 1)
    counts = np.array([sum((part == value).astype(np.uint16) for part in parts) for value in values])
    found: Array = np.asarray(values)[counts.argmax(axis=0)]
    shares = counts.sum(axis=(1, 2)) / (counts[0].size * factor**2)
    for number in np.argsort(-shares, kind="stable"):
        if shares[number] < RARE:
            found[counts[number] > 0] = values[number]
    return found.astype(array.dtype)


def _parts(array: Array, factor: int) -> list[Array]:
    """Return the first elements of all blocks, then the second ones, and so on."""
    short = [(0, max(0, factor - size)) for size in array.shape]
    if any(missing for _, missing in short):
        array = np.pad(array, short, mode="edge")
    rows, cols = (size // factor * factor for size in array.shape)
    return [array[row:rows:factor, col:cols:factor] for row in range(factor) for col in range(factor)]
