"""Waiting until a store is free."""

from __future__ import annotations

import time
from collections.abc import Callable

from snapserv.errors import StoreUnavailableError

FIRST_S, MOST_S = 0.002, 0.2
"""How long to wait between two looks, at first and at most."""


def wait_for(free: Callable[[], bool], deadline: float, url: str) -> None:
    """Wait until something is so.

    Args:
        free: Tells whether it is.
        deadline: Until when to wait, by the monotonic clock.
        url: Of the store, for what is said of it.

    Raises:
        StoreUnavailableError: It is not so by then.
    """
    pause = FIRST_S
    while not free():
        left = deadline - time.monotonic()
        if left <= 0:
            raise StoreUnavailableError(
                f"{url} is in use: somebody saves to it, or collects what nobody names",
                hint="try again later",
                details={"reason": "in_use"},
            )
        time.sleep(min(pause, left))
        pause = min(2 * pause, MOST_S)
