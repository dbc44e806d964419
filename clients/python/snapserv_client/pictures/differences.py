"""Two nodes side by side, and by how much they differ: a row for each field that does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import BadRequestError
from .colours import INK, LINE, SOFT, node_dashes
from .maps import Drawn, add_bar, label_axes, proportion, show_line, show_map, title
from .scales import Limits, Scale, difference
from .sheets import Array, Sheet, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.gridspec import GridSpec

MOST_ROWS = 12
WIDTH_IN = 4.0
"""Of each of the three panels of a row."""
DOTS = 640
MORE, LESS = "#b2182b", "#2166ac"
"""The ends of the map of differences, for lines."""


@dataclass(frozen=True)
class Side:
    """A node: what it is called, its colour, and its id, by which its lines are dashed."""

    name: str
    colour: str
    id: int


@dataclass(frozen=True)
class Differing:
    """A field that differs, as both have it."""

    drawn: Drawn
    a: Array
    b: Array


def differences(
    sides: tuple[Side, Side],
    fields: Sequence[Differing],
    *,
    limits: Limits | None = None,
    colours: str | None = None,
    headline: str = "",
    footnote: str = "",
) -> Sheet:
    """Draw fields that differ.

    Args:
        sides: The nodes.
        fields: One a row, each of one or two dimensions.
        limits: Where the colours of the fields themselves begin and end.
        colours: Their colour map.
        headline: What stands above all.
        footnote: What is not drawn.

    Raises:
        BadRequestError: There are too many.
        UnsupportedError: matplotlib is not installed.
    """
    if len(fields) > MOST_ROWS:
        raise BadRequestError(f"{len(fields)} fields differ: too many for a picture", hint="choose some: --field")
    tall = [0.4 if each.a.ndim == 1 else min(proportion(each.a.shape), 1.6) for each in fields]
    heights = [WIDTH_IN * each + 0.75 for each in tall]
    figure = new_figure(3 * WIDTH_IN + 2.6, sum(heights) + 0.6)
    grid = figure.add_gridspec(len(fields), 3, height_ratios=heights)
    for row, each in enumerate(fields):
        if each.a.ndim == 1:
            _lines(figure, grid, row, sides, each)
        else:
            _maps(figure, grid, row, sides, each, limits, colours)
    figure.suptitle(headline, x=0.01, ha="left", color=INK, size=12, weight="bold")
    if footnote:
        figure.supxlabel(footnote, x=0.01, ha="left", color=SOFT, size=9)
    return Sheet(figure)


def _maps(
    figure: Figure,
    grid: GridSpec,
    row: int,
    sides: tuple[Side, Side],
    field: Differing,
    limits: Limits | None,
    colours: str | None,
) -> None:
    scale = Scale.of(field.drawn.name, [field.a, field.b], limits, colours)
    factor = max(1, -(-max(field.a.shape) // DOTS))
    wide_in = WIDTH_IN * min(1.0, 1.6 / proportion(field.a.shape))
    panels: list[Axes] = []
    for column, (side, array) in enumerate(zip(sides, (field.a, field.b), strict=True)):
        first = panels[0] if panels else None
        panels.append(figure.add_subplot(grid[row, column], sharex=first, sharey=first))
        image = show_map(panels[-1], array, scale, field.drawn, factor)
        title(panels[-1], f"{field.drawn.name} · {side.name}", side.colour, wide_in)
    panels[1].set_ylabel("")
    panels[1].tick_params(labelleft=False)
    add_bar(figure, image, panels, scale, field.drawn.label)
    apart = difference(field.a, field.b)
    about = Scale.about_zero([apart])
    panel = figure.add_subplot(grid[row, 2], sharex=panels[0], sharey=panels[0])
    image = show_map(panel, apart, about, field.drawn, factor)
    panel.set_ylabel("")
    panel.tick_params(labelleft=False)
    title(panel, f"{sides[1].name} − {sides[0].name}", wide_in=wide_in)
    add_bar(figure, image, panel, about, _apart(field.drawn))


def _lines(figure: Figure, grid: GridSpec, row: int, sides: tuple[Side, Side], field: Differing) -> None:
    scale, panel = Scale.of(field.drawn.name, [field.a, field.b], colours="gray"), figure.add_subplot(grid[row, :2])
    for side, array in zip(sides, (field.a, field.b), strict=True):
        line = show_line(panel, array, scale, field.drawn, side.colour)
        line.set(label=side.name, linestyle=node_dashes(side.id))
    title(panel, field.drawn.name)
    panel.legend(fontsize=8.5, frameon=False, labelcolor="linecolor", loc="best")
    apart = difference(field.a, field.b)
    places = field.drawn.axes[0].places(apart.size)
    panel = figure.add_subplot(grid[row, 2], sharex=panel)
    for colour, part in ((MORE, apart > 0), (LESS, apart < 0)):
        panel.fill_between(places, apart.astype(float), where=part, color=colour, linewidth=0.8)
    end = Scale.about_zero([apart]).high
    panel.set_ylim(-1.05 * end, 1.05 * end)
    panel.axhline(0, color=SOFT, linewidth=0.6)
    panel.grid(visible=True, color=LINE, linewidth=0.6)
    label_axes(panel, field.drawn.axes[0].label, _apart(field.drawn))
    title(panel, f"{sides[1].name} − {sides[0].name}")


def _apart(drawn: Drawn) -> str:
    return f"difference [{drawn.units}]" if drawn.units else "difference"
