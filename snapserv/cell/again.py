"""Doing one action again, as `snapserv.cell.history` recorded it, and as often as it was done."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import SimulationError, SnapservError, StepInterruptedError

LISTEN_EVERY_S = 0.001


def do_again(action: Mapping[str, Any], do: Callable[..., Any], interrupted: Callable[[], bool]) -> Any:
    """Do an action as often as it was done, in a cell; return what came of it last, where it is a step.

    Args:
        action: As `snapserv.cell.history.History.page` has it.
        do: Does what the first argument names, with further arguments by name; see `snapserv.cell.loop.Cell`.
        interrupted: Whether somebody wants this to stop; asked once a millisecond.

    Raises:
        StepInterruptedError: Somebody does.
        SnapservError: It did not end as it did then.
    """
    listened = time.monotonic()
    result = None
    for done in range(action["repeat"]):
        result = _once(action, do)
        now = time.monotonic()
        if now - listened > LISTEN_EVERY_S:
            listened = now
            if interrupted():
                raise StepInterruptedError(f"interrupted after {done + 1:,} of {action['repeat']:,} times")
    return result


def _once(action: Mapping[str, Any], do: Callable[..., Any]) -> Any:
    kind, raised = action["kind"], action.get("raised", False)
    result = None
    try:
        if kind == "step":
            # A tick that raised was no completed one, and left state of its own.
            result = do("step", ticks=action["ticks"] + raised, inputs=action["inputs"])
            if not raised and result["ticks"] != action["ticks"]:
                raise SimulationError(f"the simulation finished after {result['ticks']} of {action['ticks']} ticks")
        elif kind == "write":
            do("write", field=action["field"], region=action["region"], value=action["value"])
        elif kind == "call":
            do("call", method=action["method"], args=action["args"], kwargs=action["kwargs"])
        else:
            do("begin", seed=action["seed"])
    except SnapservError as error:
        as_then = kind != "step" or error.details.get("ticks") == action["ticks"]
        if raised and as_then and not isinstance(error, StepInterruptedError):
            return None
        raise
    if raised:
        raise SimulationError("it raised when it was recorded, and it did not now")
    return result
