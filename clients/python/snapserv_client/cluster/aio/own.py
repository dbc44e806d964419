"""What the asyncio cluster does its own way; all else is written once, for both (see ``generate_sync.py``)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

from ...aio.own import blocking
from ...protocol import Outcome
from ..expanding import Expansion

__all__ = ["blocking", "play", "together"]

P = ParamSpec("P")
T = TypeVar("T")


async def together(works: Sequence[Callable[[], Any]]) -> list[Any]:
    """Do several things at a time, and return what each returns."""
    return await asyncio.gather(*(work() for work in works))


async def play(expansion: Expansion, on_outcome: Callable[[Outcome], None]) -> None:
    """Have an expansion be played; its outcomes are given out as they come."""
    await expansion.run(on_outcome)
