"""Absolute differences: exact where numbers overflow, defined where one is NaN, and the same in pieces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from snapserv.outside.distances import Distances, measurable


def distances(a: Any, b: Any, dtype: str, *, pieces: int = 1) -> Distances:
    found = Distances()
    for one, other in zip(*(np.array_split(np.array(each, dtype), pieces) for each in (a, b)), strict=True):
        found.add(one, other)
    return found


@pytest.mark.parametrize("dtype", ["i1", "i8", "u8", "f2", "f4", "f8", "g", "c8", "?"])
def test_pieces_add_up_to_the_whole(dtype: str) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 100, (2, 50))
    whole, pieces = distances(a, b, dtype), distances(a, b, dtype, pieces=7)
    assert (whole.largest, whole.undefined) == (pieces.largest, pieces.undefined)
    assert whole.sum == pytest.approx(pieces.sum)
    if dtype not in ("?",):
        assert whole.largest == np.abs(a - b).max()


def test_no_number_overflows_and_two_nan_are_equal() -> None:
    assert distances([-128, 127], [127, -128], "i1").largest == 255
    assert distances([0], [2**64 - 1], "u8").largest == float(2**64 - 1)
    found = distances([np.nan, np.nan, np.inf, -np.inf, 1], [np.nan, 1, np.inf, np.inf, 1], "f8")
    assert (found.undefined, found.largest) == (1, np.inf)
    assert distances([], [], "f8") == Distances()
    assert distances([1, 2], [1, 4], "f8").mean(8) == 0.25


def test_what_has_no_difference_is_not_measured() -> None:
    kinds = {"f4": True, "u1": True, "?": True, "c16": True, "S3": False, "U3": False, "M8[s]": False, "V8": False}
    assert {kind: measurable(np.dtype(kind)) for kind in kinds} == kinds
