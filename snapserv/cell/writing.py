"""Writing to a field: what is written must fit as it is, since a cast could change it without a word."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import BadRequestError
from ..memory.regions import resolve_region
from ..simulation.base import Simulation


def write_field(simulation: Simulation, field: str, region: Any, value: Any) -> None:
    """Write a value to a region of a field.

    Args:
        simulation: Whose field.
        field: Its name.
        region: As the wire has it; all of the field for None.
        value: An array of the region's shape, or a number that fills it.

    Raises:
        NotFoundError: No such field.
        BadRequestError: A value of another shape, of a dtype that does not fit, or that the dtype cannot hold.
    """
    array = simulation.array(field)
    where = resolve_region(region, array.shape, what=field)
    target = array[where.select]
    try:
        # An array must fit as it is. A plain number may be any that the dtype can hold.
        given = value if hasattr(value, "dtype") else _scalar(value, array.dtype)
        if hasattr(value, "dtype") and not np.can_cast(value.dtype, array.dtype, "same_kind"):
            raise BadRequestError(
                f"{field}: the value has dtype {value.dtype}, and the field {array.dtype}",
                hint="convert it with astype",
            )
        if getattr(given, "shape", ()) not in ((), target.shape):
            raise BadRequestError(
                f"{field}: the value has shape {list(given.shape)}, and the region {list(target.shape)}"
            )
        array[where.select] = given
    except (TypeError, ValueError, OverflowError) as cause:
        raise BadRequestError(f"{field}: {cause}", hint=f"the field has dtype {array.dtype}") from cause


def _scalar(value: Any, dtype: Any) -> Any:
    made = np.asarray(value)
    if made.dtype.hasobject or (made.dtype.kind in "US") != (dtype.kind in "US"):
        raise BadRequestError(f"{value!r} is no value of dtype {dtype}")
    fitted = made.astype(dtype)
    if dtype.kind in "iub" and not np.array_equal(fitted, made):
        raise BadRequestError(f"{value!r} does not fit dtype {dtype}")
    return fitted
