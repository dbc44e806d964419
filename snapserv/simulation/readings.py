"""What is looked at after a tick: an output, or a number of a field; found once, and then asked of each tick."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from ..errors import BadRequestError
from ..memory.regions import resolve_region

if TYPE_CHECKING:
    from snapserv_client.protocol import Reading

    from .base import Simulation

Look = Callable[[Mapping[str, Any]], Any]
"""Takes a tick's outputs, and returns what is read after it."""


def looking_at(simulation: Simulation, reading: Reading) -> Look:
    """Return what takes a reading of a simulation.

    What it returns raises KeyError where a tick does not put out what was asked for: see `refuse_missing`.

    Raises:
        BadRequestError: It is none, or one of more than a number.
        NotFoundError: There is no such field.
    """
    if (reading.field is None) == (reading.output is None):
        raise BadRequestError("a reading is of an output or of a field", hint="give one of both")
    if reading.field is None:
        if reading.reduce is not None or reading.at is not None:
            raise BadRequestError(
                f"output {reading.output!r} is read as it is", hint="only fields have a reduction or an element"
            )
        return itemgetter(reading.output)
    array = simulation.array(reading.field)
    if reading.at is not None:
        if reading.reduce is not None:
            raise BadRequestError(f"{reading.label}: one element has no {reading.reduce}")
        if len(reading.at) != array.ndim:
            raise BadRequestError(
                f"{reading.label}: {len(reading.at)} indices, and the field has {array.ndim} axes",
                hint=f"shape {list(array.shape)}",
            )
        resolve_region(reading.at, array.shape, what=reading.field)
        at = reading.at
        return lambda _: array[at]
    if array.dtype.kind not in "biufc":
        raise BadRequestError(f"{reading.label}: elements of {array.dtype} are no numbers")
    if reading.reduce is None:
        if array.size != 1:
            raise BadRequestError(
                f"{reading.label} has {array.size:,} elements", hint="say which: sum, mean, min, max or one element"
            )
        return lambda _: array.item()
    if not array.size:
        raise BadRequestError(f"{reading.label}: the field has no elements")
    reduced = getattr(array, reading.reduce)
    return lambda _: reduced()


def refuse_missing(reading: Reading, outputs: Mapping[str, Any]) -> BadRequestError:
    """Return the error for a tick that does not put out what is to be read."""
    known = ", ".join(sorted(map(str, outputs))) or "none"
    return BadRequestError(f"{reading.output!r} is no output of this tick", hint=f"outputs: {known}")
