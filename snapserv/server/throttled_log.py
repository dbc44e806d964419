"""Log lines that others can cause as often as they like: one of a kind in ten seconds, with how many there were."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import structlog

log = structlog.get_logger(__name__)

SAY_EVERY_S = 10.0


class ThrottledLog:
    """Warnings that nobody can fill a disk with.

    What is told apart must be of few kinds: each is remembered for good.
    """

    def __init__(self) -> None:
        self._times: Counter[tuple[str, str]] = Counter()
        self._said: dict[tuple[str, str], float] = {}

    def warn(self, event: str, kind: str = "", **facts: Any) -> None:
        """Count one, and say how many there were since the last line of its kind, if that is long enough ago.

        Args:
            event: What happened.
            kind: What of that is counted apart.
            facts: Of the one that happens to be said.
        """
        key = event, kind
        self._times[key] += 1
        now = time.monotonic()
        said = self._said.get(key)
        if said is None or now - said >= SAY_EVERY_S:
            self._said[key] = now
            log.warning(event, times=self._times.pop(key), **facts)
