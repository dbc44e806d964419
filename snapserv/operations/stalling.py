"""Work that makes no progress is given up: a child might wait for what only its original had."""

from __future__ import annotations

import asyncio
from typing import Any

from ..nodes.process import CellProcess

STALLED_HINT = "serve --stalled-after gives such work longer; a child may wait for what only its original had"


class StalledError(TimeoutError):
    """A cell has completed no tick for as long as it may; it still is at it."""


async def unless_stalled(cell: CellProcess, answer: asyncio.Future[Any]) -> Any:
    """Await what a live cell was asked, for as long as it completes ticks.

    Raises:
        StalledError: No tick was completed for `ProcessTable.stalled_after_s`. The caller ends the cell.
        SnapservError: What the cell answered.
    """
    slot, limit_s = cell.slot, cell.table.stalled_after_s
    while slot is not None:
        before = cell.table.scoreboard[slot]
        done, _ = await asyncio.wait((answer,), timeout=limit_s)
        if done:
            break
        if cell.table.scoreboard[slot] == before:
            raise StalledError(f"no tick was completed within {limit_s:g} s")
    return await answer
