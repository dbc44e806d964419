"""A simulation that treats its inputs as if they were its own."""

from __future__ import annotations

from typing import Any

import msgspec

from snapserv import Field, Simulation, exported


class Part(msgspec.Struct):
    """A part of an input that can be assigned to."""

    left: int = 3


class Consuming(Simulation):
    """What a tick sees of its inputs, it adds up; then it uses them up."""

    seen = Field("f8")

    class Inputs(msgspec.Struct):
        plain: int = 0
        queue: Any = None
        table: dict[str, list[int]] = {}
        part: Part = msgspec.field(default_factory=Part)
        array: Any = None

    def setup(self) -> None:
        self.orders = [5, 4, 3]

    def step(self, inputs: Inputs) -> dict[str, float]:
        self.seen += inputs.plain + inputs.part.left + sum(map(sum, inputs.table.values()))
        inputs.plain -= 1
        inputs.part.left = 0
        inputs.table.clear()
        if inputs.queue:
            self.seen += len(inputs.queue) * inputs.queue[0]["n"]
            inputs.queue[0]["n"] = 0
            inputs.queue.pop()
        if inputs.array is not None:
            self.seen += inputs.array.sum()
            inputs.array.shape = (-1, 1)
        return {"seen": float(self.seen)}

    @exported
    def scribble(self, array: Any) -> None:
        array[...] = 7

    @exported
    def take_all(self, queue: list[int]) -> int:
        found = 0
        while queue:
            found += queue.pop()
        self.seen += found
        return found

    @exported
    def order(self) -> dict[str, Any]:
        """Return inputs which are this simulation's own, and which it uses up itself."""
        self.orders.append(len(self.orders))
        return {"queue": [{"n": 1}], "table": {"orders": self.orders}}


class Scribbling(Consuming):
    """It writes into an array that it was given."""

    def step(self, inputs: Consuming.Inputs) -> dict[str, float]:
        inputs.array[...] *= 2
        return {}
