"""Doing actions again, as `snapserv.cell.history` recorded them, one after the other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from snapserv_client.protocol import Action

from ..errors import RequestTimeoutError, SnapservError
from ..nodes.process import CellProcess
from .stalling import STALLED_HINT, StalledError, unless_stalled

SAY_EVERY_S = 0.05

OnProgress = Callable[[int, int], None]
"""Called with how many ticks were done of how many, now and then."""


def say_nothing(done: int, total: int) -> None:
    """Tell nobody."""


@contextlib.asynccontextmanager
async def saying(cell: CellProcess, since: int, total: int, on_progress: OnProgress) -> AsyncIterator[None]:
    """Tell how far a cell has come for as long as it is at it: its counter is read, and nothing is asked of it.

    Args:
        cell: A live one.
        since: The step from which on its ticks count.
        total: How many are wanted.
        on_progress: Who is told.
    """

    async def say() -> None:
        while cell.slot is not None:
            await asyncio.sleep(SAY_EVERY_S)
            if cell.slot is not None:
                on_progress(cell.table.scoreboard[cell.slot] - since, total)

    task = asyncio.ensure_future(say())
    try:
        yield
    finally:
        task.cancel()


async def replay(
    cell: CellProcess, actions: Iterable[Action], *, before: Callable[[], None] = lambda: None, **asked: Any
) -> Any:
    """Have a cell do actions again, one after the other; return what came of the last one, if that is ``telling``.

    Args:
        cell: A live one, whose turn the caller holds.
        actions: What to do.
        before: Called before each of them.
        asked: What else the cell is asked with each of them; see `snapserv.cell.loop.Cell`.

    Raises:
        RequestTimeoutError: It completed no tick for as long as it may; the caller ends the cell.
        SnapservError: What an action met; ``details["index"]`` says which one.
    """
    told = None
    for index, action in enumerate(actions):
        before()
        try:
            told = await unless_stalled(cell, cell.ask("replay", action=action, **asked))
        except StalledError as cause:
            what = f"action {index} ({type(action).__struct_config__.tag}): {cause}"
            raise RequestTimeoutError(what, hint=STALLED_HINT, details={"index": index}) from cause
        except SnapservError as error:
            error.message = f"action {index} ({type(action).__struct_config__.tag}): {error.message}"
            error.details["index"] = index
            raise
    return told
