"""Models of other frameworks that the tests serve."""

from __future__ import annotations

from collections.abc import Iterator

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
