"""An object without any chance, in a module that has none either."""

from __future__ import annotations


class Clockwork:
    """Has no chance at all."""

    def __init__(self) -> None:
        self.ticks = 0

    def step(self) -> dict[str, int]:
        """Count."""
        self.ticks += 1
        return {"ticks": self.ticks}
