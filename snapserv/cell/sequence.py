"""A sequence of inputs in one request: a tick with each, and what each of them puts out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import StepInterruptedError
from ..ext import fork
from ..simulation.blame import blame
from ..simulation.inputs import EachTick, kept
from .history import STEP
from .rollout import refuse_finished
from .ticks import LISTEN_EVERY_S, PROGRESS_EVERY_S, Asker, Ticks

_KINDS = "biufc"


def run_inputs(ticks: Ticks, request: Mapping[str, Any], asker: Asker) -> dict[str, Any]:
    """Do a tick with each of the inputs that a request has, until the simulation is finished or is to stop.

    Each is an action of the history, as if it had been asked for by itself.

    Args:
        ticks: Whose time it is.
        request: ``inputs``; its ``number``, ``before``, ``total``, ``within_s`` and what is to be looked at are as
            `Ticks.run` takes them.
        asker: Who may stop it, and is told how far it has come.

    Returns:
        What `Ticks.run` does; ``outputs`` has a column for each output, with a row for each tick.

    Raises:
        SnapservError: What the simulation met, or who stopped it; the details say how far it came.
    """
    simulation, history, number = ticks.simulation, ticks.history, request["number"]
    before, total = request["before"], request["total"]
    if not before:
        refuse_finished(simulation)
    given = [EachTick(simulation, each, 1) for each in request["inputs"]]  # all of them fit, or nothing is done
    watch = ticks.watch(request)
    said: list[Any] = []
    began = reported = time.monotonic()
    listen = began + LISTEN_EVERY_S
    within_s: float | None = request["within_s"]
    for inputs, raw in zip(given, request["inputs"], strict=True):
        if (said or before) and simulation.finished:
            break
        asked = history.pack(raw)
        try:
            outputs = ticks.tick(inputs.take())
        except EOFError:
            raise
        except BaseException as cause:
            error = blame(cause, f"{type(simulation).__name__}.step")
            error.details |= {"step": ticks.step, "ticks": before + len(said)}
            history.add(STEP, asked, raised=True)
            error.details["action"] = history.trail.count - 1
            raise error from cause
        history.add(STEP, asked, ticks=1, told=outputs)
        said.append(kept(outputs))
        if watch is not None and watch.after(outputs, ticks.step):
            break
        now = time.monotonic()
        if now < listen:
            continue
        listen = now + LISTEN_EVERY_S
        done = before + len(said)
        if asker.waiting(fork.INTERRUPT, number):
            raise StepInterruptedError(
                f"interrupted after {done:,} of {total:,} ticks", details={"step": ticks.step, "ticks": done}
            )
        if now - reported >= PROGRESS_EVERY_S and done < total:
            reported = now
            asker.send(fork.PROGRESS, {"done": done, "total": total})
        if within_s is not None and now >= began + within_s:
            break
    told: dict[str, Any] = {
        "step": ticks.step,
        "ticks": len(said),
        "outputs": columns(said),
        "elapsed_us": round((time.monotonic() - began) * 1e6),
    }
    if watch is not None:
        if watch.error is not None:
            watch.error.details |= {"step": ticks.step, "ticks": before + len(said), "whole": True}
            raise watch.error
        told |= watch.told()
    return told


def columns(said: list[Any]) -> dict[str, Any]:
    """Return what ticks have put out, as a column for each output: an array, where all rows of it are alike."""
    if not all(each is None or isinstance(each, Mapping) for each in said):
        return {"output": column(said)}
    names = dict.fromkeys(name for each in said for name in each or ())
    return {name: column([(each or {}).get(name) for each in said]) for name in names}


def column(values: list[Any]) -> Any:
    """Return values as one array where they are numbers of one type, or arrays of one shape and type."""
    (kind, *others) = set(map(type, values))
    alike = kind is not np.ndarray or len({(each.dtype, each.shape) for each in values}) == 1
    if others or not alike or not (kind in (bool, int, float, np.ndarray) or issubclass(kind, np.generic)):
        return values
    made = np.array(values)
    return made if made.dtype.kind in _KINDS else values
