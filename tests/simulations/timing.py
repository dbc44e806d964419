"""Simulations that take their time, or look at it."""

from __future__ import annotations

import os
import time
from typing import Any

import msgspec

from snapserv import Field, Simulation, exported


class Clock(Simulation):
    """Counts, and from some tick on notes the time in the last page of a field that it never puts out."""

    count = Field("i8")
    noted = Field("i8", shape=(5000,))

    def setup(self, notes_from: int = 1, forbidden: str = "") -> None:
        self.notes_from = notes_from
        self.forbidden = forbidden

    def step(self, inputs: Any) -> dict[str, int]:
        self.count += 1
        if self.forbidden and int(self.count) == 12 and os.path.exists(self.forbidden):
            raise FileExistsError(self.forbidden)
        if int(self.count) >= self.notes_from:
            self.noted[4500] = time.monotonic_ns()
        return {"count": int(self.count)}

    @exported
    def poke(self, value: int) -> None:
        """Change something."""
        self.noted[0] = value


class Slow(Simulation):
    """Takes its time, and writes down outside of the server's sight how far it is."""

    count = Field("i8")

    class Inputs(msgspec.Struct):
        fail_at: int = 0
        hang: bool = False

    def setup(self, diary: str = "", tick_s: float = 0.02) -> None:
        self.diary = diary
        self.tick_s = tick_s

    def step(self, inputs: Inputs) -> dict[str, int]:
        while inputs.hang:
            pass
        time.sleep(self.tick_s)
        if inputs.fail_at and int(self.count) + 1 == inputs.fail_at:
            self._write("failed")
            raise ValueError("told to fail")
        self.count += 1
        self._write(str(int(self.count)))
        return {"count": int(self.count)}

    def _write(self, text: str) -> None:
        if self.diary:
            with open(self.diary, "w") as diary:
                diary.write(text)
