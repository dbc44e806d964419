"""How numbers become colours: which colours, between which limits, the same for all that is compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import BadRequestError
from .colours import DIVERGING, MISSING, VALUES, field_colours, value_colour
from .sheets import Array, commonest_of_blocks, extreme_of_blocks, mean_of_blocks

if TYPE_CHECKING:
    from matplotlib.colors import Colormap, Normalize

Limits = tuple[float, float]
NUMBERS = "biuf"


@dataclass(frozen=True)
class Scale:
    """Colours for numbers.

    Attributes:
        kind: Whether each value has a colour, numbers have colours of a map, or differences of one about 0.
        low: The number that the first colour is for.
        high: The number that the last one is for.
        colours: The map, by its name in matplotlib.
        values: Where each has a colour: those that there are.
        beyond: Whether there are numbers below, and above.
    """

    kind: Literal["values", "numbers", "differences"]
    low: float
    high: float
    colours: str = ""
    values: tuple[int, ...] = ()
    beyond: tuple[bool, bool] = (False, False)

    @staticmethod
    def of(name: str, arrays: Sequence[Array], limits: Limits | None = None, colours: str | None = None) -> Scale:
        """Return the scale of a field: of integers between which little lies, a colour each.

        Args:
            name: What the field is called.
            arrays: All that is to be compared.
            limits: Where colours begin and end; else the least and the greatest number that there is.
            colours: Another map.
        """
        spans = [_span(array) for array in arrays if array.size]
        low, high = min((each[0] for each in spans), default=0), max((each[1] for each in spans), default=0)
        whole = all(array.dtype.kind in "biu" for array in arrays)
        if whole and high - low < len(VALUES) and limits is None and colours is None:
            there = range(int(low), int(high) + 1)
            found = tuple(value for value in there if any(np.any(array == value) for array in arrays))
            return Scale("values", low, high, values=found)
        first, last = limits or (low, high)
        return Scale("numbers", first, last, colours or field_colours(name), beyond=(low < first, high > last))

    @staticmethod
    def about_zero(differences: Sequence[Array], limit: float | None = None) -> Scale:
        """Return the scale of differences: as far below 0 as above."""
        most = max((max(map(abs, _span(array))) for array in differences), default=0.0)
        end = limit or most or 1.0
        return Scale("differences", -end, end, DIVERGING, beyond=(most > end, most > end))

    def reduced(self, array: Array, factor: int) -> Array:
        """Return a map with a number for each block of ``factor`` × ``factor``."""
        if factor == 1:
            return array
        if self.kind == "values":
            return commonest_of_blocks(array, factor)
        return extreme_of_blocks(array, factor) if self.kind == "differences" else mean_of_blocks(array, factor)

    def numbers(self, array: Array) -> Array:
        """Return what is to be coloured of a map; what is no finite number is masked."""
        if self.kind == "values":
            return np.searchsorted(np.asarray(self.values), array.astype(np.int64))
        return np.ma.masked_invalid(array.astype(np.float64))

    def drawn(self) -> dict[str, Any]:
        """Return the colour map and the norm, as ``imshow`` takes them."""
        from matplotlib.colors import BoundaryNorm, ListedColormap, Normalize

        if self.kind == "values":
            ends = np.arange(len(self.values) + 1) - 0.5
            return {
                "cmap": ListedColormap([value_colour(value) for value in self.values]),
                "norm": BoundaryNorm(ends, len(self.values)),
            }
        low, high = (self.low, self.high) if self.high > self.low else (self.low - 0.5, self.low + 0.5)
        norm: Normalize = Normalize(low, high)
        return {"cmap": self._map(), "norm": norm}

    def bar(self) -> dict[str, Any]:
        """Return how the bar beside the map ends, as ``colorbar`` takes it."""
        if self.kind == "values":
            return {"ticks": range(len(self.values)), "drawedges": len(self.values) > 1}
        below, above = self.beyond
        return {"extend": "both" if below and above else "min" if below else "max" if above else "neither"}

    def _map(self) -> Colormap:
        from matplotlib import colormaps

        try:
            found: Colormap = colormaps[self.colours].with_extremes(bad=MISSING)
        except KeyError:
            raise BadRequestError(
                f"there is no colour map {self.colours!r}", hint="one of matplotlib's, as viridis or magma"
            ) from None
        return found


def check_drawable(array: Array, what: str) -> None:
    """Raise BadRequestError where something is no line and no map of numbers."""
    if array.dtype.kind not in NUMBERS:
        raise BadRequestError(f"{what}: no picture of dtype {array.dtype}", hint="real numbers and booleans are")
    if array.ndim not in (1, 2) or array.size == 0:
        raise BadRequestError(
            f"{what}: a picture needs one or two dimensions, and the shape is {array.shape}",
            hint="choose a region that has as many: --region 3,:,:",
        )


def difference(a: Array, b: Array) -> Array:
    """Return by how much ``b`` is more than ``a``: of integers as well, whose own differences would wrap around."""
    wide = np.float64 if a.dtype.itemsize <= 8 else np.longdouble
    if a.dtype.kind in "iu" and a.dtype.itemsize == 8:  # beyond 2**53 floats are further apart than these may be
        apart = np.where(b >= a, (b - a).astype(np.uint64), (a - b).astype(np.uint64))
        return np.where(b >= a, 1.0, -1.0) * apart.astype(np.float64)
    with np.errstate(invalid="ignore"):  # of infinities
        found: Array = b.astype(wide) - a.astype(wide)
    return found


def _span(array: Array) -> Limits:
    """Return the least and the greatest finite number."""
    if array.dtype.kind != "f":
        return int(array.min()), int(array.max())
    there = array[np.isfinite(array)]
    return (float(there.min()), float(there.max())) if there.size else (0.0, 0.0)
