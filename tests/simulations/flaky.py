"""A simulation that crashes now and then, whatever is done about it, and counts what really ran."""

from __future__ import annotations

import ctypes
import mmap
import struct
from typing import Any

import msgspec

from snapserv import Field, Simulation, exported

NUMBER = struct.Struct("=q")


class Flaky(Simulation):
    """Every so many ticks that any of its processes has run, one of them is a segfault in the middle."""

    count = Field("i8")
    pages = Field("u1", shape=(16, 4096))
    allow = ("shared_memory",)

    class Inputs(msgspec.Struct):
        scatter: bool = False

    def setup(self, every: int = 100) -> None:
        self.every = every
        self.ran = mmap.mmap(-1, 4096)  # shared with all relatives: no fork and no way back has it run backwards

    def step(self, inputs: Inputs) -> dict[str, Any]:
        (ran,) = NUMBER.unpack_from(self.ran)
        NUMBER.pack_into(self.ran, 0, ran + 1)
        self.pages[:, 0] += 1
        if (ran + 1) % self.every == 0:
            ctypes.string_at(0)
        self.count += 1
        return {"count": int(self.count), "draw": float(self.rng.random())}

    @exported
    def ticks_that_ran(self) -> int:
        """Return how often any process has begun a tick."""
        return int(NUMBER.unpack_from(self.ran)[0])
