"""A simulation that holds what no image can bring back, and whose way depends on all that can be done to it."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np

from snapserv import Field, Simulation, exported


class Looping(Simulation):
    """Runs each of its ticks in an asyncio loop, whose epoll no image can bring back; ``weather`` is a file's.

    With ``late`` the first tick opens it: the root has an image then.
    """

    allow: ClassVar[tuple[str, ...]] = ("sockets", "events")
    position = Field("f8", shape=(2,))
    wind = Field("f8", shape=(3,))

    class Inputs(msgspec.Struct):
        push: float = 0.0
        left: str = ""

    def setup(self, seed: int = 0, drift: float = 0.0, weather: str = "", late: bool = False) -> None:
        self.drift = drift
        self.weather = weather
        self.loop = None if late else asyncio.new_event_loop()
        self.way = self._wander()

    def _wander(self) -> Any:
        while True:
            self.position += self.rng.standard_normal(2) + self.drift + self.wind[:2]
            yield float(self.position.sum())

    def step(self, inputs: Inputs) -> dict[str, Any]:
        async def tick() -> float:
            await asyncio.sleep(0)
            return float(next(self.way))

        self.loop = self.loop or asyncio.new_event_loop()
        at = self.loop.run_until_complete(tick())
        self.position += inputs.push
        if self.weather:
            self.position += float(Path(self.weather).read_text())
        return {"at": at}

    @exported
    def blow(self, by: np.ndarray[Any, Any]) -> float:
        self.wind += by
        return float(self.wind.sum())


class Waiting(Simulation):
    """Waits in each tick for as long as a file says, and has no field: what it returns is all that there is."""

    allow: ClassVar[tuple[str, ...]] = ("pipes",)

    def setup(self, place: str) -> None:
        self.place = Path(place)
        self.held = os.pipe()

    def step(self, inputs: Any) -> dict[str, Any]:
        time.sleep(float(self.place.read_text()))
        return {"drawn": float(self.rng.random())}
