"""Objects that draw from random streams of their own, held in as many ways as there are."""

from __future__ import annotations

import ctypes
import functools
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

GLOBAL = np.random.default_rng(100)


class Slotted:
    """Has no dict."""

    __slots__ = ("stream",)

    def __init__(self, stream: Any) -> None:
        self.stream = stream


class Shared:
    """Holds a stream for all its instances."""

    stream = random.Random(101)


def _drawing(stream: np.random.Generator) -> Iterator[float]:
    while True:
        yield float(stream.random())


def _closure(stream: np.random.Generator) -> Callable[[], float]:
    return lambda: float(stream.random())


class Holder:
    """Draws from each of its streams in a step, and puts out what it drew."""

    def __init__(self) -> None:
        self.own = np.random.default_rng(1)
        self.alias = self.own.random
        self.old = np.random.RandomState(2)
        self.python = random.Random(3)
        self.philox = np.random.Generator(np.random.Philox(4))
        self.bits = np.random.SFC64(5)
        self.listed = [{"deep": (random.Random(6 + i),)} for i in range(3)]
        self.slotted = Slotted(np.random.Generator(np.random.MT19937(9)))
        self.suspended = _drawing(np.random.default_rng(10))
        next(self.suspended)
        self.closure = _closure(np.random.default_rng(11))
        self.partial = functools.partial(float, np.random.default_rng(12).random())
        self.bound = functools.partial(np.random.Generator.random, np.random.default_rng(13))
        self.array = np.array([Slotted(np.random.default_rng(14))], dtype=object)[:1]
        self.system = random.SystemRandom()

    def step(self) -> dict[str, float]:
        """Draw from each."""
        return {
            "alias": float(self.alias()),
            "old": float(self.old.normal()),
            "python": self.python.gauss(0, 1),
            "philox": float(self.philox.random()),
            "bits": float(self.bits.random_raw() % 1_000_003),
            **{f"listed {i}": each["deep"][0].random() for i, each in enumerate(self.listed)},
            "slotted": float(self.slotted.stream.random()),
            "suspended": next(self.suspended),
            "closure": self.closure(),
            "bound": float(self.bound()),
            "array": float(self.array[0].stream.random()),
            "module": float(GLOBAL.random()),
            "class": Shared.stream.random(),
            "child": float(self.own.spawn(1)[0].random()),
        }


class Late:
    """Makes a stream of its own in its first tick."""

    def __init__(self) -> None:
        self.streams: list[random.Random] = []

    def step(self) -> dict[str, float]:
        """Draw from it."""
        if not self.streams:
            self.streams.append(random.Random(8))
        return {"drawn": self.streams[0].random()}


class OfTheLibrary:
    """Draws from the stream of the C library."""

    def __init__(self) -> None:
        self.c = ctypes.CDLL(None)
        self.c.srand(5)

    def step(self) -> dict[str, int]:
        """Draw a number."""
        return {"drawn": self.c.rand()}


class Told:
    """Is told by hooks of its own when it is copied and ended."""

    def __init__(self, journal: str = "") -> None:
        self.journal = journal
        self.owner, self.seeds = os.getpid(), list[int | None]()

    def on_branch(self, seed: int | None) -> None:
        """Remember it."""
        self.owner = os.getpid()
        self.seeds.append(seed)

    def on_snapshot(self) -> None:
        """Write it down."""
        self._note("snapshot")

    def on_drop(self) -> None:
        """Write it down."""
        self._note("drop")

    def step(self) -> dict[str, Any]:
        """Say what was heard."""
        return {"mine": self.owner == os.getpid(), "seeds": list(self.seeds)}

    def _note(self, what: str) -> None:
        if self.journal:
            with open(self.journal, "a") as journal:
                print(what, file=journal)
