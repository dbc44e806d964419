"""Tiles: one field of one or several nodes side by side, between the same limits; what they show may change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .colours import INK, NODES
from .maps import Drawn, add_bar, fitted, proportion, show_frame, show_line, show_map, title
from .scales import Scale
from .sheets import Array, Sheet, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH_IN = 6.4
"""Of one tile; several share the width of a page."""
PAGE_IN = 10.0
MOST_TILES = 100


class Tiles:
    """A sheet with tiles.

    Args:
        drawn: What they show.
        arrays: The field, once for each tile; all of one shape.
        titles: What stands above each.
        scale: Of all.
        colours: Of the titles; of nodes theirs.
        headline: What stands above all.
        dots: A tile's longer side has at most about so many.
        dpi: Dots per inch.
    """

    def __init__(
        self,
        drawn: Drawn,
        arrays: Sequence[Array],
        titles: Sequence[str],
        scale: Scale,
        *,
        colours: Sequence[str] = (),
        headline: str = "",
        dots: int = 960,
        dpi: int = 0,
    ) -> None:
        self._drawn, self._scale = drawn, scale
        shape = arrays[0].shape
        is_line = not drawn.is_picture and len(shape) == 1
        tall = 0.5 if is_line else proportion(shape)
        columns = _columns(len(arrays), tall)
        rows = math.ceil(len(arrays) / columns)
        width = WIDTH_IN if len(arrays) == 1 else PAGE_IN / columns
        height = width * tall
        if height > WIDTH_IN:
            width, height = width * WIDTH_IN / height, WIDTH_IN
        figure = new_figure(width * columns + 1.9, (height + 0.7) * rows + 0.5, dpi=dpi)
        panels = figure.subplots(rows, columns, squeeze=False, sharex=not drawn.is_picture, sharey=True).flat
        self._factor = 1 if is_line else max(1, -(-max(shape[:2]) // max(1, round(dots / columns))))
        every = list(panels)
        for panel in every[len(arrays) :]:
            panel.remove()
        self._panels = every[: len(arrays)]
        self._images: list[Any] = []
        for number, (panel, array) in enumerate(zip(self._panels, arrays, strict=True)):
            if drawn.is_picture:
                self._images.append(show_frame(panel, self._picture(array)))
            elif is_line:
                colour = colours[number] if colours else NODES[0]
                self._images.append(show_line(panel, array, scale, drawn, colour))
            else:
                self._images.append(show_map(panel, array, scale, drawn, self._factor))
            if len(arrays) > 1 and not drawn.is_picture:
                _outer(panel, left=number % columns == 0, bottom=number + columns >= len(arrays))
        if not drawn.is_picture and not is_line:
            add_bar(figure, self._images[0], self._panels, scale, drawn.label)
        colours = colours or [INK] * len(arrays)
        self._wide_in = width if len(arrays) > 1 else None
        self._titles = [
            title(panel, text, colour, self._wide_in)
            for panel, text, colour in zip(self._panels, titles, colours, strict=True)
        ]
        self._headline = figure.suptitle(headline, x=0.01, ha="left", color=INK, size=12, weight="bold")
        self.sheet = Sheet(figure)

    def show(
        self, arrays: Sequence[Array], titles: Sequence[str], headline: str = "", colours: Sequence[str] = ()
    ) -> Array:
        """Show other numbers, and return the pixels."""
        for image, array in zip(self._images, arrays, strict=True):
            if self._drawn.is_picture:
                image.set_data(self._picture(array))
            elif array.ndim == 1:
                image.set_ydata(array)
            else:
                image.set_data(self._scale.numbers(self._scale.reduced(array, self._factor)))
        for text, said in zip(self._titles, titles, strict=True):
            text.set_text(fitted(said, self._wide_in))
        for text, colour in zip(self._titles, colours, strict=False):
            text.set_color(colour)
        self._headline.set_text(headline)
        return self.sheet.pixels()

    def _picture(self, frame: Array) -> Array:
        return np.asarray(frame)[:: self._factor, :: self._factor]


def _outer(panel: Axes, *, left: bool, bottom: bool) -> None:
    """Have a tile say what is along its axes where no other one does."""
    panel.tick_params(labelleft=left, labelbottom=bottom)
    if not left:
        panel.set_ylabel("")
    if not bottom:
        panel.set_xlabel("")


def _columns(count: int, tall: float) -> int:
    """Return how many tiles stand side by side, so that the page is about as high as it is wide."""
    best = min(range(1, count + 1), key=lambda columns: abs(math.ceil(count / columns) * (tall / columns) - 0.7))
    rows = math.ceil(count / best)
    return math.ceil(count / rows)
