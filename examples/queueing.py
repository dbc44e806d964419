"""A plain object that can step: ``snapserv serve object:snapserv.examples.queueing:Queue.advance``."""

from __future__ import annotations

import random


class Queue:
    """Customers at a counter, in steps of a minute."""

    exported = ("rush",)

    def __init__(self, arrive: float = 0.5, served: float = 0.6, seed: int = 0) -> None:
        self.arrive = arrive
        self.served = served
        self.waiting: list[int] = []
        self.minutes = 0
        self.longest = 0
        self.chance = random.Random(seed)

    def advance(self, counters: int = 1) -> dict[str, int]:
        """Let a minute pass with so many counters open."""
        self.minutes += 1
        if self.chance.random() < self.arrive:
            self.waiting.append(self.minutes)
        for _ in range(counters):
            if self.waiting and self.chance.random() < self.served:
                self.longest = max(self.longest, self.minutes - self.waiting.pop(0))
        return {"waiting": len(self.waiting), "longest": self.longest}

    def rush(self, customers: int) -> int:
        """Let many come at once; return how many wait then."""
        self.waiting += [self.minutes] * customers
        return len(self.waiting)

    def reseed(self, seed: int) -> None:
        """Let chance go another way from here."""
        self.chance = random.Random(seed)
