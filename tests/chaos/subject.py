"""The simulation that is served: state in fields and in the heap, simple enough to be done again by hand."""

from __future__ import annotations

import ctypes
import os
import resource
import time
from typing import Any

import msgspec
import numpy as np

from snapserv import Field, Simulation, exported

THREADS = 4096
BAND = 64
STRIDE = 577
FACTOR = 6364136223846793005
PRIME = (1 << 61) - 1
ROOM_BYTES = 48 << 20
"""What a cell that is told to fill its memory may still take."""


class Loom(Simulation):
    """Weaves a cloth of numbers, a band of it each tick, and fails as it is told to."""

    cloth = Field("u8", shape=(THREADS,))
    count = Field("i8", doc="ticks so far")

    class Inputs(msgspec.Struct):
        pattern: int = 0
        pause_ms: int = 0
        how: str = ""
        at: int = 0

    def setup(self) -> None:
        self.cloth[:] = np.arange(THREADS)
        self.knot = 0

    def step(self, inputs: Inputs) -> dict[str, Any]:
        count = int(self.count)
        if inputs.how and count + 1 == inputs.at:
            fail(inputs.how)
        if inputs.pause_ms:
            time.sleep(inputs.pause_ms / 1000)
        start = count * STRIDE % (THREADS - BAND)
        band = self.cloth[start : start + BAND]
        band *= np.uint64(FACTOR)
        band += np.uint64(inputs.pattern + count)
        self.count += 1
        self.knot = (self.knot * 31 + int(band[0]) + inputs.pattern) % PRIME
        return {"count": int(self.count), "knot": self.knot}

    @exported
    def census(self) -> dict[str, Any]:
        """Return all state as it is between two ticks."""
        return {"count": int(self.count), "knot": self.knot, "cloth": self.cloth.copy()}


def fail(how: str) -> None:
    """Fail: the name says how."""
    match how:
        case "raise":
            raise ValueError("told to raise")
        case "segfault":
            ctypes.string_at(0)
        case "memory":
            fill_memory()


def fill_memory() -> None:
    """Take memory until there is no more; so much that nobody else misses any.

    Raises:
        MemoryError: There is no more.
    """
    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM_BYTES, before[1]))
    taken: list[bytes] = []
    try:
        while True:
            taken.append(os.urandom(1 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
