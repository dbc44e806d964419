"""A simulation that reads, changes and writes pages all over its memory, or reads all of it."""

from __future__ import annotations

import zlib
from typing import Any

import msgspec
import numpy as np

from snapserv import Field, Simulation


class Scatters(Simulation):
    """Changes pages that its generator chooses, by what is in them."""

    memory = Field("u8", shape=("pages", 512))

    class Inputs(msgspec.Struct):
        pages: int = 200
        dense: bool = False

    def setup(self, pages: int = 16384, seed: int = 1) -> None:
        self.memory[:] = np.arange(pages, dtype=np.uint64)[:, None]

    def step(self, inputs: Inputs) -> dict[str, Any]:
        chosen = self.rng.integers(0, len(self.memory), inputs.pages)
        self.memory[chosen, 7] = self.memory[chosen, 7] * 3 + self.memory[chosen, 400] + 1
        told = {"changed": zlib.crc32(self.memory[chosen].tobytes())}
        return {**told, "all": zlib.crc32(self.memory.data)} if inputs.dense else told
