"""Amounts of memory as people write them: ``8GiB``, ``512M``, ``1.5 GB``; and how much fits into a reply."""

from __future__ import annotations

import re
from collections.abc import Iterable

from snapserv_client.wire import MAX_HEADER_BYTES

from ..errors import BadRequestError

UNITS: dict[str, int] = {
    "": 1,
    "B": 1,
    **{unit: 1024 ** (power + 1) for power, letter in enumerate("KMGT") for unit in (f"{letter}IB", letter)},
    **{f"{letter}B": 1000 ** (power + 1) for power, letter in enumerate("KMGT")},
}
"""Bytes of each unit. A letter alone is the binary unit, as in systemd and Docker; ``GB`` is 10^9 bytes."""

MOST_BYTES = 1 << 62

NODE_BYTES = 512
"""About what a node takes in a reply, without the texts that people have written."""


def parse_size(text: str) -> int:
    """Return the bytes that a text such as ``8GiB`` stands for.

    Raises:
        BadRequestError: It is no positive number with a known unit, or more than `MOST_BYTES`; the caller's fault.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    factor = UNITS.get(found[2].upper()) if found else None
    if found is None or factor is None:
        raise BadRequestError(f"{text!r} is no amount of memory", hint="write it as 8GiB, 512MiB or 2GB")
    whole, _, part = found[1].partition(".")
    size_bytes = int(whole) * factor + (int(part) * factor // 10 ** len(part) if part else 0)
    if not 0 < size_bytes <= MOST_BYTES:
        raise BadRequestError(f"{text!r} is no amount of memory that there is", hint="write it as 8GiB")
    return size_bytes


def fitting(sizes: Iterable[int]) -> int:
    """Return how many things of these bytes, the first ones, fit into half of a reply's header; one at least."""
    total = count = 0
    for size in sizes:
        total += size
        if count and total > MAX_HEADER_BYTES // 2:
            break
        count += 1
    return count
