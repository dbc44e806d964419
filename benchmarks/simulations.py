"""What is served for measuring: an arena of a given size, and a step that dirties pages of it."""

from __future__ import annotations

import time
from typing import Any, Literal

import msgspec
import numpy as np

from examples.wildfire import Wildfire
from snapserv import Field, Simulation, exported
from snapserv.cell.holdings import Holdings
from snapserv.ext import fork

from .rivals import PRIME


class Pages(Simulation):
    """Dirties pages on every tick: the same ones, side by side or spread over the arena, or each one in turn."""

    memory = Field("u1", shape=("pages", 4096))
    turn = Field("i8", doc="which page of a random order comes next")

    class Inputs(msgspec.Struct):
        """How many pages a tick writes, and where."""

        dirty: int = 0
        where: Literal["clustered", "scattered", "random"] = "clustered"

    def setup(self, pages: int = 256) -> None:
        """Fill every page, so that all of the arena is really there."""
        self.memory[:] = 1
        # Not numpy.random: it has a hundred areas of code mapped, OpenSSL's among them, which every fork copies.
        self.order = np.arange(pages) * PRIME % pages
        self.order.flags.writeable = False

    def step(self, inputs: Inputs) -> None:
        """Write one byte in each of the pages."""
        if inputs.where == "clustered":
            self.memory[: inputs.dirty, 0] += 1
        elif inputs.where == "random":
            at = int(self.turn)
            self.memory[self.order[at : at + inputs.dirty], 0] += 1
            self.turn = (at + inputs.dirty) % len(self.order)
        else:
            self.memory[:: max(1, len(self.memory) // max(1, inputs.dirty)), 0][: inputs.dirty] += 1


class ClonedWildfire(Wildfire):
    """Says goodbye, so that every child of an expansion is a clone: a child that is taken back cannot."""

    def on_drop(self) -> None:
        """Do nothing."""


class Nothing(Simulation):
    """Does nothing: what is left is the way there and back."""

    count = Field("i8")

    def step(self, inputs: object) -> dict[str, int]:
        """Count."""
        self.count += np.int64(1)
        return {"count": int(self.count)}


class Looked(Pages):
    """Is looked at before every second snapshot only, and takes times: for `benchmarks.looking`."""

    def setup(self, pages: int = 256) -> None:
        """Stand between a cell and what it does before it is cloned."""
        super().setup(pages)
        self.bare = True
        self.began = 0
        self.taken: dict[str, list[float]] = {}
        look, clone = Holdings.refuse, fork.freeze

        def refuse(*args: Any, **kwargs: Any) -> None:
            if not self.bare:
                began = time.perf_counter_ns()
                look(*args, **kwargs)
                self._took("look", time.perf_counter_ns() - began)

        def freeze(*args: Any) -> Any:
            before_ns = time.perf_counter_ns() - self.began
            thawed, clone_ns = clone(*args)
            self._took("without" if self.bare else "with", before_ns + clone_ns)
            return thawed, clone_ns

        for owner, name, instead in ((Holdings, "refuse", refuse), (fork, "freeze", freeze)):
            setattr(owner, name, instead)

    def _took(self, what: str, nanoseconds: int) -> None:
        self.taken.setdefault(what, []).append(nanoseconds / 1000)

    def on_snapshot(self) -> None:
        """Leave it out before every second one."""
        self.bare = not self.bare
        self.began = time.perf_counter_ns()

    @exported
    def looks(self) -> dict[str, list[float]]:
        """Return the microseconds that each part took, each time."""
        taken, self.taken = self.taken, {}
        return taken


class Leak(Simulation):
    """Ticks as quickly as Python does, and goes wrong at one of them."""

    def setup(self, at: int = 0) -> None:
        """Say at which."""
        self.tick, self.at, self.amount = 0, at, 0

    def step(self, inputs: msgspec.Struct) -> dict[str, int]:
        """Lose something, once."""
        self.tick += 1
        if self.tick == self.at:
            self.amount = -1
        return {"amount": self.amount}
