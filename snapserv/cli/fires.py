"""The demo's picture: fires side by side over shaded relief.

matplotlib is imported inside the functions, because most commands draw nothing and it is an optional dependency.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from snapserv_client.pictures.colours import INK
from snapserv_client.pictures.sheets import mean_of_blocks, need_matplotlib, save_figure

from ..errors import BadRequestError
from ..ext.kernels import wildfire

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = np.ndarray[Any, Any]

DOTS_PER_INCH = 230
PANEL_PIXELS = 1024
"""Maps are drawn with at most so many pixels a side."""
PANEL_IN = 4.6
"""With `DOTS_PER_INCH`, a little more than a dot for each of a panel's pixels, so that none is dropped."""

LOWLAND, UPLAND, SUMMIT = "#a9bd8c", "#dccfa6", "#f4efe6"
COLOURS = {
    wildfire.BURNT: ("#2b2320", "burnt"),
    wildfire.BURNING: ("#ff5a0a", "burning"),
    wildfire.FIREBREAK: ("#fffbe8", "firebreak"),
    wildfire.WET: ("#4fb3d9", "water dropped"),
    wildfire.NO_FUEL: ("#7f9fb5", "lake"),
}


def draw_fires(
    path: Path | str,
    elevation: Array,
    states: Mapping[str, Array],
    captions: Mapping[str, str] | None = None,
    *,
    title: str = "",
    before: Array | None = None,
    winds: Mapping[str, tuple[float, float]] | None = None,
    cell_m: float | None = None,
) -> None:
    """Draw fires of one terrain side by side over its shaded relief, and write a PNG.

    Args:
        path: Where the picture goes; its folder is made.
        elevation: Heights in metres, shape (rows, columns).
        states: By title, the field ``state`` of a wildfire, of the same shape.
        captions: By title, a line under it.
        title: Headline of the whole picture.
        before: The common past: the state at the snapshot, outlined in every panel.
        winds: By title, the wind in m/s (towards east, towards north), drawn as an arrow.
        cell_m: Side of a cell in metres, for a scale bar.

    Raises:
        BadRequestError: No fires, or shapes that do not agree; the caller's fault.
        UnsupportedError: matplotlib is not installed.
    """
    need_matplotlib()
    if not states or elevation.ndim != 2 or elevation.size == 0:
        raise BadRequestError("a picture of fires needs one fire at least, and a map of elevations")
    for name, state in [*states.items(), *([("before", before)] if before is not None else [])]:
        if state.shape != elevation.shape:
            raise BadRequestError(f"{name}: the shape is {state.shape}, that of the elevations {elevation.shape}")
    from matplotlib.figure import Figure

    factor = -(-max(elevation.shape) // PANEL_PIXELS)
    relief = _relief(mean_of_blocks(elevation, factor))
    height, width = relief.shape[:2]
    figure_in = (PANEL_IN * len(states) + 0.3, PANEL_IN * min(height / width, 4) + 1.75)
    figure = Figure(figsize=figure_in, dpi=DOTS_PER_INCH, facecolor="white")
    figure.subplots_adjust(
        left=0.15 / figure_in[0],
        right=1 - 0.15 / figure_in[0],
        bottom=0.55 / figure_in[1],
        top=1 - 1.15 / figure_in[1],
        wspace=0.035,
    )
    if title:
        figure.text(0.15 / figure_in[0], 1 - 0.2 / figure_in[1], title, color=INK, size=17, weight="bold", va="top")
    panels: Sequence[Axes] = figure.subplots(1, len(states), squeeze=False)[0]
    for panel, (name, state) in zip(panels, states.items(), strict=True):
        panel.imshow(_paint(relief, state, factor), interpolation="nearest")
        if before is not None:
            _outline(panel, before, factor)
        panel.set_title(name, loc="left", color=INK, size=13, weight="bold", pad=20)
        panel.text(0, 1.018, (captions or {}).get(name, ""), transform=panel.transAxes, color="#59636e", size=10.5)
        panel.set_xticks([])
        panel.set_yticks([])
        for spine in panel.spines.values():
            spine.set(color=INK, linewidth=0.6)
        if winds and name in winds:
            _wind_arrow(panel, winds[name])
    if cell_m:
        _scale_bar(panels[0], width, cell_m * factor)
    _legend(figure, set().union(*(np.unique(state).tolist() for state in states.values())), before is not None)
    save_figure(figure, path)


def _share(state: Array, code: int, factor: int) -> Array:
    """Return which share of each pixel is in a state, shape (rows, columns, 1)."""
    return mean_of_blocks(state == code, factor)[:, :, None]


def _relief(elevation: Array) -> Array:
    """Return the terrain as RGB from 0 to 1: tinted by height and lit from the north-west.

    Heights are scaled so that the steeper slopes of whatever map it is stand at 45 degrees.
    """
    from matplotlib.colors import LightSource, LinearSegmentedColormap, Normalize

    low, high = np.percentile(elevation, [1, 99])
    tint = LinearSegmentedColormap.from_list("tint", [LOWLAND, UPLAND, SUMMIT])
    colours = tint(Normalize(low, max(high, low + 1))(elevation))[:, :, :3]
    if min(elevation.shape) < 2:
        return np.asarray(colours)
    steep = np.percentile(np.hypot(*np.gradient(elevation)), 95)
    shade = LightSource(azdeg=315, altdeg=45).hillshade(elevation, vert_exag=1 / max(float(steep), 1e-9))
    return np.asarray(np.clip(colours * (0.35 + 0.85 * shade[:, :, None]), 0, 1))


def _paint(relief: Array, state: Array, factor: int) -> Array:
    """Lay the fire over the relief. What is thin must stay visible on a shrunk map: the fire's edge, a line."""
    from matplotlib.colors import to_rgb

    def lay(picture: Array, code: int, cover: Array) -> Array:
        laid: Array = picture * (1 - cover) + np.array(to_rgb(COLOURS[code][0])) * cover
        return laid

    light = relief.mean(axis=2, keepdims=True)
    picture = lay(relief, wildfire.NO_FUEL, 0.85 * _share(state, wildfire.NO_FUEL, factor))
    burnt = _share(state, wildfire.BURNT, factor)
    charred = np.array(to_rgb(COLOURS[wildfire.BURNT][0])) * (0.55 + 1.1 * light)
    picture = picture * (1 - 0.93 * burnt) + charred * 0.93 * burnt
    picture = lay(picture, wildfire.WET, 0.75 * _share(state, wildfire.WET, factor))
    line = _spread(_share(state, wildfire.FIREBREAK, factor) > 0)
    picture = picture * (1 - 0.6 * _spread(line))  # a dark rim, for the light line to show on light ground
    picture = lay(picture, wildfire.FIREBREAK, line)
    burning = (_share(state, wildfire.BURNING, factor) > 0).astype(float)
    picture = lay(picture, wildfire.BURNING, 0.75 * _spread(burning))
    glowing = burning * np.array(to_rgb("#ffd23f"))
    return np.asarray(np.clip(np.where(burning > 0, glowing, picture), 0, 1))


def _spread(mask: Array) -> Array:
    """Return the mask, shape (rows, columns, 1), widened by a pixel to each side."""
    padded = np.pad(mask[:, :, 0].astype(float), 1)
    rows, cols = mask.shape[:2]
    wide: Array = np.max([padded[r : r + rows, c : c + cols] for r in range(3) for c in range(3)], axis=0)
    return wide[:, :, None]


def _outline(panel: Axes, before: Array, factor: int) -> None:
    touched = _share(before, wildfire.BURNT, factor)[:, :, 0] + _share(before, wildfire.BURNING, factor)[:, :, 0]
    if min(touched.shape) < 2 or not touched.any():
        return
    smooth = touched
    for _ in range(4):  # the ragged edge of the fire, as a line that can be followed
        padded = np.pad(smooth, 1, mode="edge")
        rows, cols = smooth.shape
        smooth = np.mean([padded[r : r + rows, c : c + cols] for r in range(3) for c in range(3)], axis=0)
    panel.contour(smooth, levels=[0.4], colors="white", linewidths=1.1, linestyles="--")


def _wind_arrow(panel: Axes, wind: tuple[float, float]) -> None:
    """Draw the wind in the upper right corner: its speed, and an arrow the way that it blows."""
    from matplotlib.patches import FancyBboxPatch

    speed = float(np.hypot(*wind))
    left, bottom, width, height = 0.71, 0.905, 0.265, 0.065
    box = FancyBboxPatch(
        (left, bottom),
        width,
        height,
        boxstyle="round,pad=0,rounding_size=0.012",
        facecolor="white",
        edgecolor="none",
        alpha=0.85,
        transform=panel.transAxes,
        zorder=3,
    )
    panel.add_patch(box)
    label = f"wind {speed:.3g} m/s" if speed else "no wind"
    panel.text(
        left + 0.02,
        bottom + height / 2,
        label,
        transform=panel.transAxes,
        color=INK,
        size=10,
        va="center",
        zorder=4,
    )
    if speed:
        middle = np.array([left + width - height * 0.6, bottom + height / 2])
        half = 0.025 * np.array(wind) / speed
        panel.annotate(
            "",
            xy=tuple(middle + half),
            xytext=tuple(middle - half),
            xycoords="axes fraction",
            arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1.6, "mutation_scale": 13},
            zorder=4,
        )


def _scale_bar(panel: Axes, width: int, pixel_m: float) -> None:
    """Draw a bar of a round length, about a fifth of the panel."""
    wanted = width * pixel_m / 5
    power = 10.0 ** np.floor(np.log10(wanted))
    length_m = max(step * power for step in (1, 2, 5) if step * power <= wanted)
    label = f"{length_m / 1000:g} km" if length_m >= 1000 else f"{length_m:g} m"
    share = length_m / (width * pixel_m)
    for colour, thick in (("white", 5.0), (INK, 2.2)):
        panel.plot(
            [0.04, 0.04 + share],
            [0.045, 0.045],
            transform=panel.transAxes,
            color=colour,
            linewidth=thick,
            solid_capstyle="butt",
        )
    box = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
    panel.text(0.04, 0.068, label, transform=panel.transAxes, color=INK, size=9.5, bbox=box)


def _legend(figure: Any, codes: set[int], outlined: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(facecolor=UPLAND, edgecolor="#8c959f", linewidth=0.5, label="unburnt")]
    handles += [
        Patch(facecolor=colour, edgecolor="#8c959f", linewidth=0.5, label=label)
        for code, (colour, label) in COLOURS.items()
        if code in codes
    ]
    if outlined:
        handles.append(Line2D([], [], color="#8c959f", linestyle="--", linewidth=1.3, label="fire at the snapshot"))
    figure.legend(
        handles=handles,
        loc="lower center",
        ncols=len(handles),
        frameon=False,
        fontsize=10.5,
        labelcolor=INK,
        handlelength=1.6,
        borderaxespad=0.25,
    )
