"""Pages as strips: each as wide as the sheet, whatever the number of its pages, so that no paper is wasted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import BadRequestError
from .colours import INK, SOFT
from .sheets import Array, Sheet, new_figure

MOST_STRIPS = 100
WIDE_IN, LETTER_IN = 8.0, 0.078
"""How wide a strip is, and a letter of the names to its left."""
LOWEST_IN = 0.17
APART_IN = {True: 0.14, False: 0.03}
"""Between strips: of two fields, and of two nodes."""
LEAST_WIDE = 96
"""Pages side by side, at least, where a strip has as many."""
LONGEST_NAME = 18


@dataclass(frozen=True)
class Strip:
    """The pages of a field in a node.

    Attributes:
        field: What it is called.
        node: Likewise.
        colour: The node's.
        classes: Of the pages, in order: indices into the palette.
    """

    field: str
    node: str
    colour: str
    classes: Array


def strips(pages: Sequence[Strip], palette: Mapping[str, str], *, headline: str = "") -> Sheet:
    """Draw pages from left to right, then from top to bottom.

    Args:
        pages: Those of each field, of one node or of two, one below the other.
        palette: Colours by the names of classes, in the order of the indices.
        headline: What stands above all.

    Raises:
        BadRequestError: There is nothing to draw, or too much.
        UnsupportedError: matplotlib is not installed.
    """
    pages = [each for each in pages if len(each.classes)]
    if not pages:
        raise BadRequestError(f"{headline}: no pages to draw", hint="choose a field that has some")
    if len(pages) > MOST_STRIPS:
        raise BadRequestError(
            f"{headline}: {len(pages)} strips are too many for a picture", hint="choose some fields"
        )
    most = max(len(each.classes) for each in pages)
    wide = max(LEAST_WIDE, math.ceil(math.sqrt(4 * most)))
    laid = [laid_out(each.classes, wide) for each in pages]
    heights = [max(LOWEST_IN, WIDE_IN / wide * len(each)) for each in laid]
    new = [
        before is None or before.field != each.field for before, each in zip([None, *pages], pages, strict=False)
    ]
    gaps = [APART_IN[each] for each in new]
    below, above = 0.3, 0.3
    letters = sum(max(len(_short(getattr(each, of))) for each in pages) for of in ("field", "node"))
    gutter = LETTER_IN * letters + 0.4
    width, height = gutter + WIDE_IN + 0.2, below + sum(heights) + sum(gaps) + above
    figure = new_figure(width, height, layout=None, dpi=120)
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Patch

    colours = np.array([to_rgb(colour) for colour in (*palette.values(), "white")])
    top = height - above
    for each, grid, high, gap, first in zip(pages, laid, heights, gaps, new, strict=True):
        top -= gap
        panel = figure.add_axes((gutter / width, (top - high) / height, WIDE_IN / width, high / height))
        panel.imshow(colours[grid], interpolation="nearest", aspect="auto")
        panel.set_axis_off()
        middle = (top - high / 2) / height
        if first:
            at = (top - min(high, LOWEST_IN) / 2) / height if high > 2 * LOWEST_IN else middle
            figure.text(0.1 / width, at, _short(each.field), va="center", color=INK, size=8.5, weight="bold")
        figure.text(
            (gutter - 0.08) / width, middle, _short(each.node), va="center", ha="right", color=each.colour, size=8.5
        )
        top -= high
    figure.text(0.1 / width, 1 - 0.08 / height, headline, va="top", color=INK, size=10.5, weight="bold")
    there = {int(each) for grid in laid for each in np.unique(grid)}
    handles = [
        Patch(facecolor=colour, edgecolor=SOFT, linewidth=0.5, label=name)
        for index, (name, colour) in enumerate(palette.items())
        if index in there
    ]
    figure.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(gutter / width, 0), ncols=len(handles), frameon=False,
        labelcolor=INK, fontsize=8.5, borderaxespad=0.2, borderpad=0, handlelength=1.2, columnspacing=1.4,
    )  # fmt: skip
    return Sheet(figure)


def laid_out(classes: Array, wide: int) -> Array:
    """Return pages in rows of the same length, about ``wide``, so that less than a row is left empty."""
    rows = max(1, round(len(classes) / wide))
    columns = math.ceil(len(classes) / rows)
    grid = np.full(rows * columns, -1, np.int64)
    grid[: len(classes)] = classes
    return grid.reshape(rows, columns)


def _short(name: str) -> str:
    """Return a name that fits into the margin, shortened in its middle."""
    if len(name) <= LONGEST_NAME:
        return name
    half = LONGEST_NAME // 2
    return f"{name[: half - 1]}…{name[-half:]}"
