"""Pictures: any 2-D field as a PNG, and the pages of nodes as strips.

matplotlib is imported inside the functions, because most commands draw nothing and it is an optional dependency.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadRequestError, UnsupportedError

Array = np.ndarray[Any, Any]

PANEL_PIXELS = 1024
"""Maps are drawn with at most so many pixels a side."""
DOTS_PER_INCH = 230
MOST_STRIPS = 100
FEW_VALUES = 12
"""A field of integers with no more values than this is drawn with a colour for each."""

INK = "#1f2328"


def save_png(path: Path | str, array2d: Array, title: str, *, units: str = "") -> None:
    """Write a picture of a 2-D array of numbers with a scale of its colours.

    Raises:
        BadRequestError: Not two-dimensional, empty, or not of real numbers; the caller's fault.
        UnsupportedError: matplotlib is not installed.
    """
    if array2d.ndim != 2 or array2d.size == 0:
        raise BadRequestError(
            f"{title}: a picture needs two dimensions, and the shape is {array2d.shape}",
            hint="choose a region that has two",
        )
    if array2d.dtype.kind not in "biuf":
        raise BadRequestError(f"{title}: no picture of dtype {array2d.dtype}", hint="real numbers and booleans are")
    need_matplotlib()
    from matplotlib import colormaps
    from matplotlib.colors import BoundaryNorm
    from matplotlib.figure import Figure

    rows, cols = array2d.shape
    factor = -(-max(rows, cols) // (2 * PANEL_PIXELS))
    values = np.unique(array2d) if array2d.dtype.kind in "biu" else np.empty(0)
    few = 0 < len(values) <= FEW_VALUES
    shown: Array
    if few:
        shown = np.searchsorted(values, array2d[::factor, ::factor])
    else:
        shown = np.ma.masked_invalid(mean_of_blocks(array2d, factor))
    longest = max(rows, cols)
    figure = Figure(
        figsize=(7 * max(cols / longest, 0.25) + 1.6, 7 * max(rows / longest, 0.12) + 0.9), dpi=DOTS_PER_INCH
    )
    panel = figure.subplots()
    colours = colormaps["viridis"].resampled(len(values)) if few else colormaps["viridis"]
    norm = BoundaryNorm(np.arange(len(values) + 1) - 0.5, len(values)) if few and len(values) > 1 else None
    image = panel.imshow(
        shown, cmap=colours, norm=norm, interpolation="nearest", aspect="auto", extent=(0, cols, rows, 0)
    )
    panel.set_title(title, loc="left", color=INK, size=12, weight="bold")
    panel.tick_params(colors="#59636e", labelsize=8)
    bar = figure.colorbar(image, ax=panel, fraction=0.045, pad=0.02, label=units)
    bar.outline.set_linewidth(0.5)
    bar.ax.tick_params(colors="#59636e", labelsize=8)
    if few:
        bar.set_ticks(range(len(values)), labels=[str(value) for value in values])
    save_figure(figure, path)


def save_strips(path: Path | str, strips: Mapping[str, Array], colours: Mapping[str, str], title: str) -> None:
    """Write a picture of classes in a row, such as the pages of fields: left to right, then top to bottom.

    Args:
        path: Where the picture goes.
        strips: By caption, indices into ``colours``, shape (n,).
        colours: By name of the class, in the order of the indices.
        title: Headline.

    Raises:
        BadRequestError: There is nothing to draw, or too much; the caller's fault.
        UnsupportedError: matplotlib is not installed.
    """
    strips = {caption: strip for caption, strip in strips.items() if len(strip)}
    if not strips:
        raise BadRequestError(f"{title}: no pages to draw", hint="choose a field that has some")
    if len(strips) > MOST_STRIPS:
        raise BadRequestError(
            f"{title}: {len(strips)} strips are too many for a picture", hint="choose some fields"
        )
    need_matplotlib()
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    width = max(128, int(np.ceil(np.sqrt(4 * max(map(len, strips.values()))))))
    rows = [-(-len(strip) // width) for strip in strips.values()]
    heights = [max(0.25, 10 * count / width) for count in rows]
    figure = Figure(figsize=(10.6, sum(heights) + 0.45 * len(rows) + 1.1), dpi=120, layout="constrained")
    panels = figure.subplots(len(rows), height_ratios=heights, squeeze=False)[:, 0]
    palette = np.array([to_rgb(colour) for colour in colours.values()] + [(1.0, 1.0, 1.0)])
    for panel, (caption, strip), count in zip(panels, strips.items(), rows, strict=True):
        laid = np.full(count * width, len(colours), np.int64)
        laid[: len(strip)] = strip
        panel.imshow(palette[laid.reshape(count, width)], interpolation="nearest", aspect="auto")
        panel.set_title(caption, loc="left", color=INK, size=9)
        panel.set_axis_off()
    figure.suptitle(title, x=0.01, ha="left", color=INK, size=12, weight="bold")
    handles = [
        Patch(facecolor=colour, edgecolor="#8c959f", linewidth=0.5, label=name) for name, colour in colours.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, labelcolor=INK)
    save_figure(figure, path)


def need_matplotlib() -> None:
    """Raise UnsupportedError where matplotlib is not installed; says how to get it."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UnsupportedError("pictures need matplotlib", hint="pip install matplotlib")


def save_figure(figure: Any, path: Path | str) -> None:
    """Write a figure as a PNG; its folder is made."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", bbox_inches=None)


def mean_of_blocks(array: Array, factor: int) -> Array:
    """Return the means of whole blocks of ``factor`` × ``factor``; a narrower map has its edge repeated."""
    short = [(0, max(0, factor - size)) for size in array.shape]
    if any(missing for _, missing in short):
        array = np.pad(array, short, mode="edge")
    rows, cols = (size // factor for size in array.shape)
    total: Array = np.zeros((rows, cols))
    with np.errstate(invalid="ignore"):  # infinities of both signs in one block
        for row in range(factor):  # faster than a reduction over two short axes
            for col in range(factor):
                total += array[row : rows * factor : factor, col : cols * factor : factor]
    total /= factor**2
    return total
