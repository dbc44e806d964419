"""What happened, counted at once and so cheaply that it is always done: how long requests and forks took."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

from snapserv_client.protocol import VerbStats

BOUNDS_S = tuple(1e-4 * 2**power for power in range(21))
"""The upper ends of the buckets, each twice the one before: 100 µs to 105 s; what is longer has one more bucket."""


class DurationHistogram:
    """How many took how long. ``buckets`` are counts by `BOUNDS_S`, and one for what is longer."""

    __slots__ = ("buckets", "total_s")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS_S) + 1)
        self.total_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.buckets[bisect_left(BOUNDS_S, seconds)] += 1
        self.total_s += seconds

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.buckets)


class RequestCounts:
    """What became of requests.

    ``durations`` are of those that were begun, by verb and outcome: ``ok`` or an error's code. ``refused`` counts
    those that were not, by code; ``not_our_protocol`` stands for what was no request at all. ``requests`` are all
    messages that came, and ``errors`` all errors that were sent.
    """

    def __init__(self) -> None:
        self.durations: dict[tuple[str, str], DurationHistogram] = {}
        self.refused: Counter[str] = Counter()
        self.requests = 0
        self.errors = 0

    def add(self, verb: str, code: str, seconds: float) -> None:
        """Count one that was answered."""
        durations = self.durations.get((verb, code))
        if durations is None:
            durations = self.durations[verb, code] = DurationHistogram()
        durations.add(seconds)

    def by_verb(self) -> list[VerbStats]:
        """Return what became of each verb's requests, as clients are told."""
        found: dict[str, VerbStats] = {}
        for (verb, code), durations in self.durations.items():
            told = found.setdefault(verb, VerbStats(verb, 0, 0, 0.0, [0] * len(durations.buckets)))
            told.count += durations.count
            told.errors += durations.count if code != "ok" else 0
            told.seconds += durations.total_s
            told.buckets = [a + b for a, b in zip(told.buckets, durations.buckets, strict=True)]
        for told in found.values():
            while told.buckets and not told.buckets[-1]:
                told.buckets.pop()
        return list(found.values())
