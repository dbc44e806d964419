"""Writing to a field: what is written must fit as it is, since a cast could change it without a word.

What a field takes is what it can hold: rounded where it is of floats, whole everywhere else. docs/protocol.md has
the same as a table.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import BadRequestError
from ..memory.regions import resolve_region
from ..simulation.base import Simulation

Array = np.ndarray[Any, Any]

TAKES = {"b": "b", "i": "biu", "u": "biu", "f": "biuf", "c": "biufc", "S": "SU", "U": "SU", "M": "M", "m": "m"}
"""The kinds of arrays that a field of a kind takes, by numpy's letters for kinds.

Plain floats are taken for ints as well: in many a language a number does not say which it is.
"""


def write_field(simulation: Simulation, field: str, region: Any, value: Any) -> None:
    """Write a value to a region of a field.

    Args:
        simulation: Whose field.
        field: Its name.
        region: As the wire has it; all of the field for None.
        value: An array of the region's shape, or a single value that fills it; a list is taken for an array.

    Raises:
        NotFoundError: No such field.
        BadRequestError: A value of another shape, of a dtype that does not fit, or that the dtype cannot hold.
    """
    array = simulation.array(field)
    target = array[(*resolve_region(region, array.shape, what=field).select, ...)]
    try:
        given = _array(field, value, target.dtype)
        if given.shape not in ((), target.shape):
            raise BadRequestError(
                f"{field}: the value has shape {list(given.shape)}, and the region {list(target.shape)}"
            )
        target[...] = given if given.dtype == target.dtype else _fitted(field, given, target.dtype)
    except (TypeError, ValueError, OverflowError) as cause:
        raise BadRequestError(f"{field}: {cause}", hint=f"the field has dtype {array.dtype}") from cause


def _array(field: str, value: Any, dtype: np.dtype[Any]) -> Array:
    """Return a value as an array; a plain one as an array that a field of ``dtype`` takes.

    Raises:
        BadRequestError: It is plain, and no value of that dtype.
    """
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    if dtype.kind in "biu":
        return _ints(field, np.asarray(value, object), dtype)
    made = np.asarray(value)
    if made.dtype.kind not in TAKES.get(dtype.kind, ""):
        raise BadRequestError(f"{field}: {_short(value)} is no value of dtype {dtype}")
    return made


def _ints(field: str, values: Array, dtype: np.dtype[Any]) -> Array:
    """Return Python's own numbers, which are exact whatever their type, as ints or booleans."""
    least, most = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    for value in values.flat:
        if not isinstance(value, int | float):
            raise BadRequestError(f"{field}: {_short(value)} is no value of dtype {dtype}")
        if not (least <= value <= most and value == int(value)):
            raise BadRequestError(f"{field}: {value!r} does not fit dtype {dtype}")
    return np.array([int(value) for value in values.flat], dtype).reshape(values.shape)


def _fitted(field: str, given: Array, dtype: np.dtype[Any]) -> Array:
    """Return an array as one of another dtype that says the same.

    Raises:
        BadRequestError: There is none.
    """
    if dtype.names is not None and given.dtype.names == dtype.names:
        return _fitted_records(field, given, dtype)
    if given.dtype.kind not in TAKES.get(dtype.kind, ""):
        raise BadRequestError(
            f"{field}: the value has dtype {given.dtype}, and the field {dtype}", hint="convert it with astype"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        made = given.astype(dtype)
        differs = np.atleast_1d(_differs(given, made))
    if differs.any():
        first = np.atleast_1d(given)[differs][0]
        which = str(first) if dtype.kind in "Mm" else _short(first.item())
        several = f"{np.count_nonzero(differs):,} of {given.size:,} values do not fit: " if given.size > 1 else ""
        raise BadRequestError(f"{field}: {several}{which} does not fit dtype {dtype}")
    return made


def _fitted_records(field: str, given: Array, dtype: np.dtype[Any]) -> Array:
    """Return records of the same names as records of ``dtype``, each of whose fields fits."""
    made = np.zeros(given.shape, dtype)
    for name in dtype.names or ():
        into = made[name]  # of a subarray, its axes follow those of the records
        if given[name].shape != into.shape:
            shapes = list(given.dtype[name].shape), list(dtype[name].shape)
            raise BadRequestError(
                f"{field}.{name}: the value has elements of shape {shapes[0]}, and not {shapes[1]}"
            )
        one = given[name]
        into[...] = one if one.dtype == into.dtype else _fitted(f"{field}.{name}", one, into.dtype)
    return made


def _differs(given: Array, made: Array) -> Any:
    """Return, element by element, whether a cast has changed more than rounding does."""
    kind = made.dtype.kind
    if kind in "fc":
        return np.isfinite(given) & ~np.isfinite(made)
    back = made.astype(given.dtype)
    if kind in "iu":
        return (back != given) | ((made < 0) != (given < 0))
    if kind in "Mm":
        return (back != given) & ~(np.isnat(back) & np.isnat(given))
    return back != given


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"
