"""State that is tangled up with the simulation: what a rewind must put back without making a second one of it."""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import itertools
import random
import weakref
from typing import Any

import msgspec
import numpy as np

from snapserv import Field, Simulation

Tick = Any
"""What is called in each tick; what it returns is put out."""


class Counted(int):
    """A number with state of its own."""

    def __call__(self) -> int:
        self.calls = getattr(self, "calls", 0) + 1
        return self.calls + self


class Mode(enum.Enum):
    """Members of it may have attributes."""

    SLOW = 1


class Tally(enum.Enum):
    """Its member is a list."""

    LIST = [0]  # noqa: RUF012


class Agent:
    """An agent that knows its model."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.energy = 0

    def act(self) -> float:
        self.energy += 1
        self.model.value += self.energy
        return float(self.model.value) + float(self.model.rng.random())


class Slotted:
    """No dict."""

    __slots__ = ("count", "model")

    def __init__(self, model: Any) -> None:
        self.model, self.count = model, 0

    def __call__(self) -> float:
        self.count += 1
        self.model.value += self.count
        return float(self.model.value)


@dataclasses.dataclass(frozen=True)
class Frozen:
    """Frozen, and not what it holds."""

    parts: list[int]

    def __call__(self) -> int:
        self.parts.append(len(self.parts))
        return len(self.parts)


class Part(msgspec.Struct):
    """A struct."""

    model: Any
    count: int = 0


class Entangled(Simulation):
    """Calls ``tick`` each tick; ``kind`` says what that is, and ``named`` whether it is named in ``rewindable``."""

    value = Field("f8")
    grid = Field("i8", shape=(8,))

    def setup(self, kind: str = "agent") -> None:
        self.tick: Any = getattr(self, f"_{kind}")()

    def step(self, inputs: Any) -> dict[str, float]:
        return {"said": float(self.tick())}

    def _agent(self) -> Tick:
        return Agent(self).act

    def _two_agents(self) -> Tick:
        first, second = Agent(self), Agent(self)
        first.peer, second.peer = second, first  # type: ignore[attr-defined]
        both = [first, second]
        return functools.partial(_sum_of, both)

    def _field(self) -> Tick:
        return functools.partial(_drop, self.grid, self.rng)

    def _view_of_a_field(self) -> Tick:
        return functools.partial(_drop, self.grid[2:6], self.rng)

    def _own_method(self) -> Tick:
        return self._grow

    def _grow(self) -> float:
        self.value += 1
        return float(self.value)

    def _own_draw(self) -> Tick:
        return self.rng.random

    def _global_draw(self) -> Tick:
        return random.random

    def _another_draw(self) -> Tick:
        return np.random.default_rng(7).random

    def _python_draw(self) -> Tick:
        return random.Random(7).random

    def _draw_and_generator(self) -> Tick:
        rng = np.random.default_rng(7)
        return functools.partial(_alternate, [rng.random, rng])

    def _bound_builtin(self) -> Tick:
        queue: list[int] = []
        return functools.partial(_push, queue.append, queue)

    def _iterator(self) -> Tick:
        return functools.partial(next, itertools.count(5))

    def _closure(self) -> Tick:
        count = 0

        def tick() -> int:
            nonlocal count
            count += 1
            return count

        return tick

    def _closure_over_a_list(self) -> Tick:
        found: list[int] = []

        def tick() -> int:
            found.append(1)
            return len(found)

        return tick

    def _closure_over_the_model(self) -> Tick:
        return lambda: self._grow()

    def _function_with_attributes(self) -> Tick:
        def tick() -> int:
            tick.calls += 1  # type: ignore[attr-defined]
            return int(tick.calls)  # type: ignore[attr-defined]

        tick.calls = 0  # type: ignore[attr-defined]
        return tick

    def _number_with_attributes(self) -> Tick:
        return Counted(3)

    def _record(self) -> Tick:
        return functools.partial(_count_in, np.zeros((), [("x", "f8"), ("n", "i8")])[()])

    def _slots(self) -> Tick:
        return Slotted(self)

    def _frozen(self) -> Tick:
        return Frozen([])

    def _struct(self) -> Tick:
        return functools.partial(_count_up, Part(self))

    def _enumeration(self) -> Tick:
        Mode.SLOW.calls = 0  # type: ignore[attr-defined]
        return functools.partial(_call_mode, Mode.SLOW)

    def _enumeration_of_lists(self) -> Tick:
        return functools.partial(_append_to, Tally.LIST)

    def _views_of_one_array(self) -> Tick:
        whole = np.arange(12.0).reshape(3, 4)
        return functools.partial(_add_both, [whole.T[1:, ::2], whole, whole[1]])

    def _array_of_objects(self) -> Tick:
        agents = np.empty(2, object)
        agents[:] = [Agent(self), Agent(self)]
        return functools.partial(_sum_of, agents)

    def _deque(self) -> Tick:
        return functools.partial(_rotate, collections.deque([1, 2, 3], maxlen=3))

    def _set_of_numbers(self) -> Tick:
        return functools.partial(_grow_set, {1, 9, 17})

    def _set_that_shrank(self) -> Tick:
        found = set(range(1000))
        for number in range(1000):
            if number not in (8, 16, 3, 505):
                found.discard(number)
        return functools.partial(_first_of, found)

    def _set_of_objects(self) -> Tick:
        return functools.partial(_sum_of, {Agent(self), Agent(self)})

    def _weak_reference(self) -> Tick:
        agent = Agent(self)
        return functools.partial(_through, agent, weakref.ref(agent))

    def _weak_reference_to_the_model(self) -> Tick:
        return functools.partial(_through, None, weakref.ref(self))

    def _generator(self) -> Tick:
        return functools.partial(next, (number for number in range(1000)))

    def _class(self) -> Tick:
        type(self).calls = 0  # type: ignore[attr-defined]
        return functools.partial(_call_class, type(self))


class Named(Entangled):
    """The same, where what is called is named."""

    rewindable = ("tick",)


class InSlots(Simulation):
    """Its state is no attribute of a dict."""

    __slots__ = ("queue",)
    value = Field("f8")

    def setup(self) -> None:
        self.queue: list[int] = []

    def step(self, inputs: Any) -> dict[str, int]:
        self.queue.append(1)
        return {"length": len(self.queue)}


def _sum_of(agents: Any) -> float:
    return sum(agent.act() for agent in agents)


def _drop(grid: Any, rng: Any) -> int:
    grid[int(rng.integers(0, len(grid)))] += 1
    return int((grid * np.arange(len(grid))).sum())


def _alternate(both: list[Any]) -> float:
    draw, rng = both
    return float(draw() + 10 * rng.random())


def _push(push: Any, queue: list[int]) -> int:
    push(len(queue))
    return len(queue)


def _count_in(record: Any) -> int:
    record["n"] += 1
    return int(record["n"])


def _count_up(part: Part) -> float:
    part.count += 1
    part.model.value += part.count
    return float(part.model.value)


def _call_mode(mode: Any) -> int:
    mode.calls += 1
    return int(mode.calls)


def _append_to(tally: Tally) -> int:
    tally.value.append(1)
    return len(tally.value)


def _add_both(views: list[Any]) -> float:
    transposed, whole, row = views
    transposed += 1
    row *= 2
    return float(whole.sum())


def _rotate(queue: Any) -> int:
    queue.append(queue[0] * 3 % 7)
    return int(queue[-1])


def _grow_set(found: set[int]) -> int:
    found.add(8 * len(found))
    return next(iter(found)) + len(found)


def _first_of(found: set[int]) -> int:
    return list(found)[1]


def _through(agent: Any, reference: Any) -> float:
    there = reference()
    return float(there.act() if isinstance(there, Agent) else there._grow())


def _call_class(kind: Any) -> int:
    kind.calls += 1
    return int(kind.calls)
