"""Attributes of somebody else's object: read by name, and set to what a client sends, if that fits.

A name may lead further, through attributes, keys and places: ``lakes.0.depth``.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import numbers
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any, NamedTuple

import numpy as np

from snapserv.errors import BadRequestError, NotFoundError

from .wrapping import names, sendable

_MISSING = object()
_PLAIN = (str, bytes, numbers.Number)


def attributes(model: Any) -> dict[str, Any]:
    """Return the public attributes that a model itself has, in its dict or in slots."""
    slots = (slot for kind in type(model).__mro__ for slot in names(vars(kind).get("__slots__", ())))
    found = {slot: getattr(model, slot) for slot in slots if hasattr(model, slot)} | getattr(model, "__dict__", {})
    return {name: value for name, value in found.items() if not name.startswith("_")}


def attribute(holders: Sequence[Any], name: str) -> Any:
    """Return what a name leads to, as far as it can be sent.

    Args:
        holders: The objects that may have it, the first of them first.
        name: Of a public attribute, or a path of such names, keys and places in lists.

    Raises:
        NotFoundError: There is none of that name; the hint lists those that there are.
    """
    return sendable(_found(holders, name).value)


class Setting(NamedTuple):
    """A value that is to be put where a name leads; nothing has happened yet."""

    put: Callable[[], None]
    name: str


def settings(holders: Sequence[Any], values: Mapping[str, Any]) -> list[Setting]:
    """Return what puts values where names lead, all of which fit.

    A number takes the place of a number, text of text, a list of a list, and so on; an array keeps its memory, its
    shape and its dtype. What was None takes anything.

    Raises:
        NotFoundError: There is none of a name: what is not there yet cannot be set.
        BadRequestError: A value does not fit what is there, or that cannot be set.
    """
    return [_setting(_found(holders, name), name, value) for name, value in values.items()]


class _Found(NamedTuple):
    """What a name leads to: the object or container that has it, by which key, and whether that is an attribute."""

    holder: Any
    key: Any
    is_attribute: bool
    value: Any


def _found(holders: Sequence[Any], name: str) -> _Found:
    first, *rest = name.split(".")
    holder = next((each for each in holders if _has(each, first)), None)
    if holder is None:
        known = sorted({key for each in holders for key in attributes(each)})
        raise NotFoundError(f"no attribute {first!r}", hint=f"attributes: {', '.join(known) or 'none'}")
    found = _Found(holder, first, True, getattr(holder, first))
    for at, part in enumerate(rest, 1):
        within = _within(found.value, part)
        if within is None:
            path = ".".join([first, *rest][:at])
            raise NotFoundError(f"{path} has no {part!r}", hint=_hint(found.value))
        found = within
    return found


def _has(model: Any, name: str) -> bool:
    return not name.startswith("_") and hasattr(model, name) and not callable(getattr(model, name))


def _within(value: Any, part: str) -> _Found | None:
    if isinstance(value, Mapping):
        key: Any = next((each for each in value if str(each) == part), _MISSING)
        return None if key is _MISSING else _Found(value, key, False, value[key])
    if part.isdecimal() and hasattr(value, "__getitem__") and hasattr(value, "__len__"):
        return _Found(value, int(part), False, value[int(part)]) if int(part) < len(value) else None
    return _Found(value, part, True, getattr(value, part)) if _has(value, part) else None


def _hint(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"keys: {', '.join(map(str, value)) or 'none'}"
    if hasattr(value, "__getitem__") and hasattr(value, "__len__"):
        return f"places: 0 to {len(value) - 1}" if len(value) else "it is empty"
    return f"attributes: {', '.join(sorted(attributes(value))) or 'none'}"


def _setting(found: _Found, name: str, value: Any) -> Setting:
    if isinstance(found.value, np.ndarray) and found.value.ndim:
        array, fitting = found.value, _fitting_array(name, found.value, value)
        if not array.flags.writeable:
            raise BadRequestError(f"{name} is an array that cannot be written")

        def fill() -> None:
            array[...] = fitting

        return Setting(fill, name)
    fitting = _fitting(name, found.value, value)
    holder, key = found.holder, found.key
    if found.is_attribute:
        _refuse_fixed(holder, key, name)
        return Setting(lambda: setattr(holder, key, fitting), name)
    if isinstance(holder, np.ndarray):
        fitting = _fitting_array(name, holder[key : key + 1], [value])[0]
    elif not isinstance(holder, MutableMapping | MutableSequence):
        raise BadRequestError(f"{name} is in a {type(holder).__name__}, which cannot be changed")

    def put() -> None:
        holder[key] = fitting

    return Setting(put, name)


def _refuse_fixed(holder: Any, key: str, name: str) -> None:
    kind = type(holder)
    there = inspect.getattr_static(kind, key, None)
    if isinstance(there, property) and there.fset is None:
        raise BadRequestError(f"{name} is computed, and cannot be set", hint="set what it is computed of")
    if dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise BadRequestError(
            f"{name} is part of a frozen {kind.__name__}", hint="export a method that replaces it"
        )


def _fitting(name: str, current: Any, value: Any) -> Any:
    """Return a value as what takes the place of another one."""
    match current:
        case None:
            return value
        case enum.Enum():
            kind = type(current)
            found = next((each for each in kind if value in (each.value, each.name)), None)
            if found is None:
                raise _misfit(name, current, value, f"one of {', '.join(each.name for each in kind)}")
            return found
        case bool() | np.bool_():
            if isinstance(value, bool | np.bool_):
                return bool(value)
        case np.generic():
            return _fitting_array(name, np.asarray(current), value)[()]
        case numbers.Number():
            if isinstance(value, numbers.Number) and not isinstance(value, bool | np.bool_):
                return value
        case str() | bytes():
            if isinstance(value, type(current)):
                return value
        case np.ndarray():
            return _fitting_array(name, current, value)
        case _ if type(current) in (list, tuple, set, frozenset):
            if isinstance(value, list | tuple):
                return type(current)(value)
        case _ if type(current) is dict:
            if isinstance(value, Mapping):
                return dict(value)
        case _:
            raise BadRequestError(
                f"{name} is a {type(current).__name__}, in whose place nothing can be sent",
                hint="set what it has (name.attribute), or export a method that changes it",
            )
    raise _misfit(name, current, value, f"a {type(current).__name__}")


def _fitting_array(name: str, current: np.ndarray[Any, Any], value: Any) -> np.ndarray[Any, Any]:
    try:
        given = np.asarray(value)
        if given.shape != current.shape and given.shape != ():
            raise _misfit(name, current, value, f"shape {current.shape}")
        if given.dtype.kind in "OSU" or current.dtype.kind not in "biufc":
            raise _misfit(name, current, value, f"an array of {current.dtype}")
        with np.errstate(over="ignore", invalid="ignore"):
            fitting = given.astype(current.dtype)
    except (TypeError, ValueError, OverflowError) as cause:
        raise _misfit(name, current, value, f"an array of {current.dtype}") from cause
    is_rounded = current.dtype.kind in "fc" and given.dtype.kind in "biufc"
    same = np.isclose(fitting, given, rtol=1e-6, equal_nan=True) if is_rounded else fitting == given
    if not np.all(same) or (current.dtype.kind == "b") != (given.dtype.kind == "b"):
        raise _misfit(name, current, value, f"values of {current.dtype}")
    return fitting


def _misfit(name: str, current: Any, value: Any, wanted: str) -> BadRequestError:
    said = repr(value)
    return BadRequestError(
        f"{name} is {_said(current)}, and {said if len(said) < 60 else said[:57] + '...'} does not fit",
        hint=f"wanted is {wanted}",
    )


def _said(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}, shape {value.shape}"
    return f"{value!r}" if isinstance(value, _PLAIN) else f"a {type(value).__name__}"
