"""Nested results of environments and spaces, compared bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np


def assert_equal(found: Any, expected: Any) -> None:
    """Assert that nested results are equal, bit for bit."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_equal(found[key], expected[key])
    elif isinstance(expected, tuple | list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_equal(one, other)
    elif isinstance(expected, np.ndarray) and expected.dtype == object:
        assert_equal(list(found), list(expected))
    else:
        assert np.array_equal(found, expected), (found, expected)
