"""Simulations without fields, and one whose fields are of many dtypes."""

from __future__ import annotations

from typing import Any

import msgspec

from snapserv import Field, Simulation


class Fieldless(Simulation):
    """All that it is, it keeps in Python; what it puts out is what it was told to say."""

    class Inputs(msgspec.Struct):
        say: str | None = None
        keep: int = 0

    def setup(self) -> None:
        self.kept: list[Any] = []

    def step(self, inputs: Inputs) -> dict[str, Any] | None:
        self.kept += [object() for _ in range(inputs.keep)]
        return None if inputs.say is None else {"said": inputs.say}


class Many(Simulation):
    """Fields to write to."""

    signed = Field("i8", shape=(1000,))
    small = Field("u1", shape=(10,))
    real = Field("f4", shape=(100, 10))
    half = Field("f2", shape=(4,))
    turned = Field("c16", shape=(4,))
    flags = Field("?", shape=(4,))
    pairs = Field([("x", "f8"), ("n", "i4")], shape=(4,))
    names = Field("S4", shape=(4,))
    empty = Field("f8", shape=(0,))

    def step(self, inputs: Any) -> None:
        pass
