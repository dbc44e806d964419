"""Panels with a field of one or two dimensions on them: what is along their axes, what colours mean, units."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .colours import INK, LINE, SOFT
from .scales import Scale
from .sheets import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ELONGATED = 5.0
"""A map that is longer than this in one direction is stretched in the other."""
LONGEST_LABEL = 44
LETTER_IN = 0.105
"""A letter of a title, at most on average."""


@dataclass(frozen=True)
class Axis:
    """What is along one axis of a field, or of a region of it.

    Attributes:
        label: What it is called, with units.
        first: The place of the first element.
        apart: How far the next one is from it.
    """

    label: str
    first: float = 0.0
    apart: float = 1.0

    def ends(self, size: int) -> tuple[float, float]:
        """Return where the first element begins and the last one ends: each is in the middle of its pixel."""
        return self.first - self.apart / 2, self.first + (size - 0.5) * self.apart

    @property
    def is_counted(self) -> bool:
        """Whether it has whole numbers alone."""
        return self.first % 1 == 0 and self.apart % 1 == 0

    def coarser(self, factor: int) -> Axis:
        """Return it with one element for so many."""
        return Axis(self.label, self.first + self.apart * (factor - 1) / 2, self.apart * factor)

    def places(self, size: int) -> Array:
        """Return the places of all elements."""
        return self.first + self.apart * np.arange(size)


@dataclass(frozen=True)
class Drawn:
    """What is to be drawn, apart from its numbers.

    Attributes:
        name: What the field is called.
        meaning: What its numbers are.
        units: Of these.
        axes: What is along each axis; none of frames that are pictures already.
    """

    name: str
    meaning: str
    units: str = ""
    axes: tuple[Axis, ...] = ()

    @property
    def label(self) -> str:
        """What its numbers are, with units."""
        return f"{self.meaning} [{self.units}]" if self.units else self.meaning

    @property
    def is_picture(self) -> bool:
        """Whether it is one already: rows and columns of red, green and blue."""
        return not self.axes


def is_frame(array: Array) -> bool:
    """Return whether an array is a picture."""
    return array.ndim == 3 and array.shape[2] in (3, 4) and array.dtype == np.uint8 and array.size > 0


def proportion(shape: Sequence[int]) -> float:
    """Return the height of a map as a part of its width."""
    return float(np.clip(shape[0] / shape[1], 1 / MOST_ELONGATED, MOST_ELONGATED))


def show_map(panel: Axes, array: Array, scale: Scale, drawn: Drawn, factor: int = 1) -> Any:
    """Draw a field of two dimensions; return the image, whose data may change."""
    (top, bottom), (left, right) = (axis.ends(size) for axis, size in zip(drawn.axes, array.shape, strict=True))
    shown = scale.numbers(scale.reduced(array, factor))
    smooth = scale.kind == "numbers" and min(shown.shape) > 1
    image = panel.imshow(
        shown,
        interpolation="auto" if smooth else "nearest",
        aspect="auto",
        extent=(left, right, bottom, top),
        **scale.drawn(),
    )
    panel.set_box_aspect(proportion(array.shape))
    label_axes(panel, drawn.axes[1].label, drawn.axes[0].label)
    _ticks(panel.xaxis, drawn.axes[1])
    _ticks(panel.yaxis, drawn.axes[0])
    return image


def show_line(panel: Axes, array: Array, scale: Scale, drawn: Drawn, colour: str) -> Any:
    """Draw a field of one dimension; return the line, whose data may change."""
    (axis,) = drawn.axes
    marker = "." if array.size <= 50 else ""
    (line,) = panel.plot(axis.places(array.size), array, color=colour, linewidth=1.3, marker=marker)
    room = 0.05 * (scale.high - scale.low) or 0.5
    panel.set_ylim(scale.low - room, scale.high + room)
    panel.margins(x=0.01)
    label_axes(panel, axis.label, drawn.label)
    panel.grid(visible=True, color=LINE, linewidth=0.6)
    return line


def show_frame(panel: Axes, frame: Array) -> Any:
    """Draw what is a picture already; return the image, whose data may change."""
    image = panel.imshow(frame, interpolation="auto", aspect="auto")
    panel.set_box_aspect(proportion(frame.shape))
    panel.set_axis_off()
    return image


def add_bar(figure: Figure, image: Any, panels: Axes | Sequence[Axes], scale: Scale, label: str) -> None:
    """Say beside panels what colours mean."""
    bar = figure.colorbar(image, ax=panels, fraction=0.05, pad=0.02, aspect=28, **scale.bar())
    bar.set_label(wrapped(label), color=INK, size=9)
    bar.outline.set(edgecolor=SOFT, linewidth=0.5)
    bar.ax.minorticks_off()
    bar.ax.tick_params(colors=SOFT, labelsize=8, length=3)
    if scale.kind == "values":
        bar.set_ticklabels([str(value) for value in scale.values])
        bar.dividers.set(color="white", linewidth=1.5)
        bar.ax.tick_params(length=0)
    else:
        bar.ax.yaxis.get_offset_text().set(color=SOFT, size=8)


def title(panel: Axes, text: str, colour: str = INK, wide_in: float | None = None) -> Any:
    """Write what a panel shows above it, as much as it is wide; return the text, which may change."""
    return panel.set_title(fitted(text, wide_in), loc="left", color=colour, size=10.5, weight="bold")


def fitted(text: str, wide_in: float | None) -> str:
    """Return as much of a title as there is room for; all of it where that is not said."""
    most = len(text) if wide_in is None else max(3, int(wide_in / LETTER_IN))
    return text if len(text) <= most else f"{text[: most - 1]}…"


def label_axes(panel: Axes, along: str, up: str) -> None:
    """Write what is along the axes, and have their ticks in the style of all pictures."""
    panel.set_xlabel(along, color=INK, size=9)
    panel.set_ylabel(wrapped(up), color=INK, size=9)
    panel.tick_params(colors=SOFT, labelsize=8, length=3)
    panel.spines[:].set(color=SOFT, linewidth=0.6)


def wrapped(text: str) -> str:
    """Return a label on lines that are not too long."""
    return "\n".join(textwrap.wrap(text, LONGEST_LABEL))


def _ticks(ruler: Any, axis: Axis) -> None:
    """Have a few ticks along an axis, at whole numbers where there are no others."""
    from matplotlib.ticker import MaxNLocator

    whole = axis.is_counted
    ruler.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=whole, min_n_ticks=1 if whole else 2))
