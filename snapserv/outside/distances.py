"""How far apart the numbers of two arrays are, piece by piece: what is known of each piece adds up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass
class Distances:
    """Absolute differences of elements, taken together.

    Attributes:
        largest: The largest of them, 0 where there is none.
        sum: Their sum.
        undefined: Of how many elements one alone is NaN: those have no difference. Two NaN are as good as equal.
    """

    largest: float = 0.0
    sum: float = 0.0
    undefined: int = 0

    def add(self, a: Array, b: Array) -> None:
        """Take in a pair of arrays of one shape and dtype: numbers (``measurable``)."""
        apart, undefined = _absolute(a, b)
        self.undefined += undefined
        if apart.size:
            self.largest = max(self.largest, float(apart.max()))
            self.sum += float(apart.sum(dtype=np.float64))

    def mean(self, total: int) -> float:
        """Return the mean over ``total`` elements, of which those that were not taken in are equal."""
        return self.sum / max(1, total - self.undefined)


def measurable(dtype: np.dtype[Any]) -> bool:
    """Return whether elements of a dtype are numbers, of which a difference says something."""
    return dtype.kind in "biufc"


def _absolute(a: Array, b: Array) -> tuple[Array, int]:
    """Return the differences that are defined, flat, and how many are not."""
    if a.dtype.kind in "bu":
        return np.maximum(a, b).astype(np.uint64) - np.minimum(a, b).astype(np.uint64), 0
    if a.dtype.kind == "i":  # modulo 2**64, which no difference of two of them reaches
        high, low = (each.astype(np.int64).view(np.uint64) for each in (np.maximum(a, b), np.minimum(a, b)))
        return high - low, 0
    wide = np.result_type(a.dtype, np.complex128 if a.dtype.kind == "c" else np.float64)
    x, y = a.astype(wide).ravel(), b.astype(wide).ravel()
    nan = np.isnan(x) | np.isnan(y)
    undefined = int(np.count_nonzero(nan & ~(np.isnan(x) & np.isnan(y))))
    x, y = x[~nan], y[~nan]
    with np.errstate(over="ignore", invalid="ignore"):
        return np.where(x == y, 0.0, np.abs(x - y)), undefined  # of equal infinities, the difference is none
