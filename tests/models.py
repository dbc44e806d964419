"""Models of other frameworks that the tests serve."""

from __future__ import annotations

import enum
from collections import UserDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
import simpy


def timeouts(env: simpy.Environment, n: int = 3) -> list[int]:
    """Return when a process of SimPy was awake, which sleeps ``n`` times."""
    awake: list[int] = []

    def sleeper() -> Iterator[simpy.Event]:
        for _ in range(n):
            yield env.timeout(1)
            awake.append(int(env.now))

    env.process(sleeper())
    return awake


class Gauge:
    """Has slots, is a function's result, and puts out what no message carries."""

    __slots__ = ("level", "limit")
    exported = ("twice", "named")

    def __init__(self, limit: int = 3) -> None:
        self.level = 0
        self.limit = limit

    @property
    def done(self) -> bool:
        """Whether it is full."""
        return self.level >= self.limit

    @property
    def fullness(self) -> float:
        """How full it is."""
        return self.level / self.limit

    def step(self, by: int = 1) -> dict[str, Any]:
        """Rise."""
        self.level += by
        return {
            "level": self.level,
            "huge": 1 << 80,
            "when": np.datetime64("2026-01-02"),
            "complex": np.complex64(1j),
            "half": np.float16(0.5),
            "nested": [{(1, 2): 1 << 70}],
        }

    async def waits(self) -> int:
        """Return what somebody would have to wait for."""
        return self.level

    def steps(self) -> Iterator[int]:
        """Rise each time that somebody asks."""
        while True:
            self.level += 1
            yield self.level

    @staticmethod
    def twice(number: int) -> int:
        """Double a number."""
        return 2 * number

    @classmethod
    def named(cls) -> str:
        """Return its name."""
        return cls.__name__


class Pair:
    """Says by two names whether it is over, and puts out all kinds of things."""

    __slots__ = ("broken", "finished", "level")

    def __init__(self, broken: bool = False) -> None:
        self.finished = False
        self.level = 0
        self.broken = broken

    @property
    def done(self) -> bool:
        """Whether it is over."""
        if self.broken and self.level:
            raise AttributeError("nothing of that name")
        return self.level >= 2

    def step(self, large: bool = False, later: bool = False) -> Any:
        """Rise."""
        self.level += 1
        if later:
            return (each for each in range(3))
        told: dict[str, Any] = {"level": self.level, "me": self, "inner": UserDict(deep=1)}
        return UserDict(told | ({"large": "x" * (2 << 20)} if large else {}))


class Greedy(Gauge):
    """Exports under a name that is taken."""

    __slots__ = ()
    exported = ("setup",)

    def setup(self) -> None:
        """Begin again."""
        self.level = 0


def process(env: simpy.Environment) -> Iterator[simpy.Event]:
    """Be a process of SimPy, and no model."""
    yield env.timeout(1)


def gauge(limit: int = 3) -> Gauge:
    """Return a gauge."""
    return Gauge(limit)


def unknown(limit: int = 3):  # type: ignore[no-untyped-def]
    """Return something."""
    return Gauge(limit)


class Boastful(Gauge):
    """Exports what it does not have."""

    __slots__ = ()
    exported = ("thrice",)


class Showing(Gauge):
    """Exports a property."""

    __slots__ = ()
    exported = ("fullness",)


class Size(enum.Enum):
    """Of a jar."""

    SMALL = 1
    LARGE = 2


@dataclass
class Jar:
    """A dataclass with a default that is made."""

    label: str = "jam"
    size: Size = Size.SMALL
    sizes: list[Size] = field(default_factory=list)
    beans: list[int] = field(default_factory=lambda: [1, 2])

    def step(self) -> dict[str, Any]:
        """Put one more in."""
        self.beans.append(len(self.beans))
        return {"label": self.label, "size": self.size.name, "beans": self.beans}


class Drawing(gymnasium.Env[Any, Any]):
    """Draws from its own spaces, which a wrapper can hide."""

    def __init__(self, blind: bool = False) -> None:
        self.blind = blind
        self.action_space = gymnasium.spaces.Box(-1, 1, (2,))
        self.observation_space = gymnasium.spaces.Dict(at=gymnasium.spaces.Box(-1, 1, (2,)))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin anywhere."""
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Go anywhere."""
        reward = float(self.action_space.sample()[0])
        return None if self.blind else self.observation_space.sample(), reward, False, False, {}


gymnasium.register("Drawing-v0", entry_point=Drawing)
