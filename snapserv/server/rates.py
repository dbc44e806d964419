"""How fast a client may ask: a token bucket each, so that a flood is answered cheaply and delays nobody else."""

from __future__ import annotations

import time
from collections import OrderedDict

from ..errors import BusyError

DEFAULT_PER_S = 10_000.0
BURST_S = 2.0
"""A client that was silent may ask for so many seconds' worth at once."""
BYTES_A_REQUEST = 1 << 11
"""A header counts as one more request for each so many bytes: what is long takes longer to read."""
MOST_CLIENTS = 4096


class Rates:
    """The bucket of each client; those that were silent longest are forgotten, and begin with a full one.

    Args:
        per_s: Requests a second.
    """

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._most = max(1.0, per_s * BURST_S)
        self._buckets: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def take(self, user: bytes, header_bytes: int) -> None:
        """Take a request out of a client's bucket; a long one may leave a debt.

        Raises:
            BusyError: The bucket is empty.
        """
        now = time.monotonic()
        left, since = self._buckets.get(user, (self._most, now))
        left = min(self._most, left + (now - since) * self._per_s)
        if left < 1.0:
            raise BusyError(
                f"more than {self._per_s:,.0f} requests a second",
                hint="ask for more in each request, or serve with a higher --rate",
                details={"retry_after_s": (1.0 - left) / self._per_s},
            )
        self._buckets[user] = left - 1.0 - header_bytes / BYTES_A_REQUEST, now
        self._buckets.move_to_end(user)
        if len(self._buckets) > MOST_CLIENTS:
            self._buckets.popitem(last=False)
