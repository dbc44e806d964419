"""A model that returns its own array, which its next step changes, as wrappers of buffers in C do."""

from __future__ import annotations

from typing import Any

import numpy as np


class Screen:
    """A row of dots that moves on."""

    def __init__(self) -> None:
        self.dots = np.arange(8)

    def step(self) -> np.ndarray[Any, Any]:
        """Return the row itself."""
        self.dots += self.dots.sum() % 7 + 1
        return self.dots
