"""The smallest simulation: it counts."""

from __future__ import annotations

import msgspec

from snapserv import Field, Simulation


class Counter(Simulation):
    """Counts in steps of ``by``."""

    count = Field("i8", doc="the sum of all steps")

    class Inputs(msgspec.Struct):
        """What a tick takes."""

        by: int = 1

    def step(self, inputs: Inputs) -> dict[str, int]:
        """Add ``by`` to the count."""
        self.count += inputs.by
        return {"count": int(self.count)}
