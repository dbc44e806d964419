"""What happened to nodes since the server started, counted as it happens."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

import structlog

from .histograms import DurationHistogram

log = structlog.get_logger(__name__)

REMEMBERED_FORKS = 4096


@dataclass
class Counters:
    """What happened since the server started."""

    steps: int = 0
    forks: int = 0
    fork_us: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED_FORKS))
    fork_durations: DurationHistogram = field(default_factory=DurationHistogram)
    deaths: Counter[str] = field(default_factory=Counter)
    """By signal; ``none`` of those that exited."""

    def count_fork(self, microseconds: float) -> None:
        """Count a clone, and how long it took."""
        log.debug("forked", microseconds=microseconds)
        self.forks += 1
        self.fork_us.append(microseconds)
        self.fork_durations.add(microseconds / 1e6)
