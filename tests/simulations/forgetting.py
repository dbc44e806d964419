"""A simulation that drops, piece by piece, what its setup made, and counts what is freed."""

from __future__ import annotations

import weakref
from typing import Any

import msgspec

from snapserv import Field, Simulation

freed: list[str] = []
KEPT_BY_MODULE: dict[str, Any] = {}


class Piece:
    """Something that tells when it is freed."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __del__(self) -> None:
        freed.append(self.name)


def held_by_a_closure(piece: Piece) -> Any:
    """Return a function that holds a piece."""
    return lambda: piece.name


class Forgetting(Simulation):
    """Drops one holder of a piece a tick: an attribute, a list, a closure, a module's dict, a class's instance."""

    total = Field("f8")

    class Inputs(msgspec.Struct):
        """What is added."""

        add: float = 0.1

    def setup(self) -> None:
        """Make the pieces."""
        self.alone = Piece("attribute")
        self.listed = [Piece("list")]
        self.told = held_by_a_closure(Piece("closure"))
        KEPT_BY_MODULE["piece"] = Piece("module")
        local = type("Local", (), {"piece": Piece("type")})
        self.local: Any = local()
        self.watched = [weakref.ref(each) for each in (self.alone, self.listed[0], KEPT_BY_MODULE["piece"])]

    def step(self, inputs: Inputs) -> dict[str, Any]:
        """Drop one."""
        self.total = float(self.total) * 1.0000001 + inputs.add
        tick = len(freed)
        if tick == 0:
            del self.alone
        elif tick == 1:
            self.listed.clear()
        elif tick == 2:
            del self.told
        elif tick == 3:
            KEPT_BY_MODULE.clear()
        elif tick == 4:
            type(self.local).piece = None
        gone = sum(each() is None for each in self.watched)
        return {"freed": list(freed), "gone": gone, "total": float(self.total).hex()}
