"""A simulation that stands on a library and a file of a folder."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

from snapserv import Field, Simulation


class Stands(Simulation):
    """Reads on in a file, in each tick, and calls what is in a library."""

    read = Field("i8")

    def setup(self, folder: str, seed: int = 0) -> None:
        self.library = ctypes.PyDLL(f"{folder}/library.so")
        self.library.PyInit__queue.restype = ctypes.c_void_p
        self.data = open(f"{folder}/data", "rb", buffering=0)  # noqa: SIM115 - open for life

    def step(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        found = self.data.read(1000)
        self.read += len(found)
        called = self.library.PyInit__queue()
        return {"bytes": found.hex(), "called": called is not None, "draws": float(self.rng.random())}
