"""Values as people read them: digits that say something, and arrays by what they are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from snapserv_client.figures import dtype_name, mebibytes, number, said, space, summary


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1234567, "1,234,567"),
        (0.1 + 0.2, "0.3"),
        (2.0, "2"),
        (-0.0, "0"),
        (12345.678, "12,345.7"),
        (1234567.891, "1,234,568"),
        (-1234.5, "-1,234.5"),
        (0.000123456789, "0.000123457"),
        (1.5e-7, "1.5e-07"),
        (6.02214076e23, "6.02214e+23"),
        (999999.99, "1,000,000"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (True, "True"),
    ],
)
def test_a_number_has_the_digits_that_say_something(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        (None, "None"),
        (np.float32(1.1), "1.1"),
        (np.array(3.30000000001), "3.3"),
        (np.longdouble(1.5), "1.5"),
        (3 - 4j, "3-4j"),
        (b"abc", "3 bytes"),
        ({"a": 0.1 + 0.2, "b": ["x", None]}, "{a: 0.3, b: ['x', None]}"),
        (list(range(1000)), "[0, 1, 2, 3, 4, 5, 6, 7, ... 992 more]"),
        ({n: n for n in range(10)}, "{0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 7: 7, ... 2 more}"),
        ([[[[[1]]]]], "[[[[...]]]]"),
        (np.arange(3) / 3, "float64 [3]: 0, 0.333333, 0.666667"),
        (np.arange(4).reshape(2, 2), "int64 [2, 2]: [0, 1], [2, 3]"),
        (np.arange(1000.0), "float64 [1000]: min 0, mean 499.5, max 999"),
        (np.zeros((512, 512), "u1"), "uint8 [512, 512]: min 0, mean 0, max 0"),
        (np.array([1, math.nan] * 10), "float64 [20]: min 1, mean 1, max 1, nan 10 of 20"),
        (np.full(9, math.nan), "float64 [9]: nan 9 of 9"),
        (np.arange(20) < 5, "bool [20]: true 5 of 20"),
        (np.zeros(20, "c16"), "complex128 [20]"),
        (np.zeros((0, 3)), "float64 [0, 3], empty"),
        (np.array(["a", "b"]), "<U1 [2]: 'a', 'b'"),
    ],
)
def test_any_value_is_said_on_a_line(value: Any, text: str) -> None:
    assert said(value) == text


def test_a_summary_warns_of_nothing() -> None:
    assert summary(np.array([1e308, 1e308, math.inf] * 5))["max"] == "inf"


@pytest.mark.parametrize(
    ("described", "name"),
    [
        ("<f8", "float64"),
        ("|u1", "uint8"),
        ("|b1", "bool"),
        ("<c16", "complex128"),
        ("<M8[s]", "M8[s]"),
        ([["x", "<f4"], ["y", "<f4"]], "structure of x, y"),
    ],
)
def test_a_dtype_is_called_as_numpy_calls_it(described: Any, name: str) -> None:
    assert dtype_name(described) == name


def test_a_size_that_is_something_is_not_shown_as_nothing() -> None:
    assert [mebibytes(size) for size in (0, 4096, 1 << 20, 5 << 30)] == ["0.0", "0.0039", "1.0", "5,120.0"]
    sizes = (0, 12, 4096, 999 << 10, 1 << 20, 1500 << 20, 20 << 30, 5000 << 40)
    texts = ["0 B", "12 B", "4 KiB", "999 KiB", "1.0 MiB", "1.5 GiB", "20.0 GiB", "5,000.0 TiB"]
    assert [space(size) for size in sizes] == texts
