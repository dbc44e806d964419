"""A number, of what came back and may be anything."""

from __future__ import annotations

from .errors import BadRequestError
from .plain import Value


def number(value: Value) -> float:
    """Return a number that came back as a float, also one that is an array of shape [].

    Raises:
        BadRequestError: It is none.
    """
    if isinstance(value, int | float):
        return float(value)
    if value is not None and not isinstance(value, str | bytes | list | dict) and value.shape == ():
        return number(value.item())
    raise BadRequestError(f"{value!r} is no number")
