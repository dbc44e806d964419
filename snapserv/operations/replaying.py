"""Doing actions again, as `snapserv.cell.history` recorded them, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from snapserv_client.protocol import Action

from ..errors import RequestTimeoutError, SnapservError
from ..nodes.process import CellProcess
from .stalling import STALLED_HINT, StalledError, unless_stalled


async def replay(
    cell: CellProcess, actions: Iterable[Action], *, before: Callable[[], None] = lambda: None
) -> None:
    """Have a cell do actions again, one after the other.

    Args:
        cell: A live one, whose turn the caller holds.
        actions: What to do.
        before: Called before each of them.

    Raises:
        RequestTimeoutError: It completed no tick for as long as it may; the caller ends the cell.
        SnapservError: What an action met; ``details["index"]`` says which one.
    """
    for index, action in enumerate(actions):
        before()
        try:
            await unless_stalled(cell, cell.ask("replay", action=action))
        except StalledError as cause:
            what = f"action {index} ({type(action).__struct_config__.tag}): {cause}"
            raise RequestTimeoutError(what, hint=STALLED_HINT, details={"index": index}) from cause
        except SnapservError as error:
            error.message = f"action {index} ({type(action).__struct_config__.tag}): {error.message}"
            error.details["index"] = index
            raise
