"""What will be done, to whom and when: a pure function of the seed and the length, worked out before it begins."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import Literal

CLIENTS = 8
OPERATIONS_PER_S = 125
KILLS_PER_S = 1.4
STOPS_PER_S = 0.15
RESTART_EVERY_S = 14
CORRUPTED_PER_S = 36
TAMPERINGS_PER_S = 0.4
DOOMED_EVERY_S = 20
BURST = 25
"""So many corrupted messages are sent at a time."""

WEIGHTS = {
    "step": 30,
    "step_atomic": 3,
    "read": 16,
    "read_other": 5,
    "write": 6,
    "snapshot": 8,
    "branch": 6,
    "branch_live": 1,
    "restore": 6,
    "drop": 8,
    "expand": 2,
    "tag": 2,
    "pin": 2,
    "diff": 2,
    "look": 2,
    "repeat": 3,
    "raise": 0.7,
    "segfault": 0.7,
    "segfault_atomic": 0.7,
    "memory": 0.3,
    "vanish": 1,
}
KILLS = ("kill_branch", "kill_snapshot", "kill_in_step", "kill_in_atomic_step")
TAMPERINGS = ("flip", "drop", "duplicate", "truncate", "cut")


@dataclass(frozen=True)
class Operation:
    """What a client does: the draws say to which of its nodes, and how."""

    kind: str
    draws: tuple[int, ...]


@dataclass(frozen=True)
class Event:
    """What is done to everybody, as soon as so many operations are over.

    ``draw`` is the seed of whatever is random about it.
    """

    after: int
    kind: Literal["restart", "vandalism", "tamper", "doom"]
    how: str
    draw: int


@dataclass(frozen=True)
class Schedule:
    """A whole run."""

    seed: int
    seconds: int
    clients: list[list[Operation]]
    events: list[Event]

    @property
    def operations(self) -> int:
        """How many there are."""
        return sum(map(len, self.clients))

    @property
    def digest(self) -> str:
        """Return what tells this schedule from any other."""
        return hashlib.sha256(repr((self.clients, self.events)).encode()).hexdigest()[:16]


def make(seed: int, seconds: int) -> Schedule:
    """Return the schedule of a seed."""
    dice = random.Random(f"chaos {seed} {seconds}")
    each = max(20, seconds * OPERATIONS_PER_S // CLIENTS)
    clients = [
        [_operation(dice, kind) for kind in dice.choices(list(WEIGHTS), list(WEIGHTS.values()), k=each)]
        for _ in range(CLIENTS)
    ]
    for number in range(round(seconds * KILLS_PER_S)):
        _put(dice, clients, KILLS[number % len(KILLS)])
    for _ in range(round(seconds * STOPS_PER_S)):
        _put(dice, clients, "stop")
    total = sum(map(len, clients))
    events = [
        *_spread(dice, total, max(1, seconds // RESTART_EVERY_S), "restart"),
        *_spread(dice, total, max(1, seconds * CORRUPTED_PER_S // BURST), "vandalism"),
        *_spread(dice, total, max(2, round(seconds * TAMPERINGS_PER_S)), "tamper"),
        *_spread(dice, total, max(1, seconds // DOOMED_EVERY_S), "doom"),
    ]
    return Schedule(seed, seconds, clients, sorted(events, key=lambda event: (event.after, event.kind)))


def _operation(dice: random.Random, kind: str) -> Operation:
    return Operation(kind, tuple(dice.randrange(1 << 30) for _ in range(4)))


def _put(dice: random.Random, clients: list[list[Operation]], kind: str) -> None:
    chosen = dice.choice(clients)
    chosen.insert(dice.randrange(len(chosen) // 20, len(chosen)), _operation(dice, kind))


def _spread(
    dice: random.Random, total: int, count: int, kind: Literal["restart", "vandalism", "tamper", "doom"]
) -> list[Event]:
    """Return events at random within equal stretches: they never crowd."""
    stretch = total * 0.9 / count
    return [
        Event(int((number + dice.random()) * stretch) + 1, kind, dice.choice(TAMPERINGS), dice.randrange(1 << 30))
        for number in range(count)
    ]
