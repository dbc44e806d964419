"""Exported methods, called for a client: what it sent is held against their annotations before anything runs."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from ..errors import BadRequestError
from .blame import AuthorsCode

if TYPE_CHECKING:
    from .base import Simulation


class _Taken(NamedTuple):
    """What a method takes: its signature, what arguments are held against, and whether it can do without any."""

    signature: inspect.Signature
    kinds: Mapping[str, Any]
    needs_nothing: bool


_TAKEN: dict[Callable[..., Any], _Taken] = {}


def prepare_call(
    simulation: Simulation, name: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> Callable[[], Any]:
    """Return what runs an exported method of a simulation with such arguments, and returns what that returns.

    It raises what the method raises, as `AuthorsCode` has it.

    Raises:
        NotFoundError: No such method, or one that is not exported.
        BadRequestError: It takes no such arguments: names one that is missing, unknown or of another type.
    """
    method = simulation.exported_method(name)
    signature, kinds, needs_nothing = _taken_by(simulation, name)
    if needs_nothing and not args and not kwargs:
        return lambda: _run(simulation, name, method)
    try:
        bound = signature.bind(*args, **(kwargs or {}))
        for parameter, value in bound.arguments.items():
            kind = kinds.get(parameter, Any)
            bound.arguments[parameter] = _converted(value, kind, signature.parameters[parameter])
    except msgspec.ValidationError as cause:
        from snapserv_client.refusals import in_words

        raise BadRequestError(
            f"{name}: {in_words(cause, parameter, kind=kind)}", hint=f"it takes {signature}"
        ) from cause
    except TypeError as cause:
        raise BadRequestError(f"{name}: {cause}", hint=f"it takes {signature}") from cause

    return lambda: _run(simulation, name, method, *bound.args, **bound.kwargs)


def learn_what_is_taken(simulation: Simulation) -> None:
    """Look at all exported methods, once, so that no branch has to: that takes each of them half a millisecond."""
    for each in simulation.describe_methods():
        _taken_by(simulation, each.name)


def _run(simulation: Simulation, name: str, method: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    with AuthorsCode(f"{type(simulation).__name__}.{name}"):
        return method(*args, **kwargs)


def _taken_by(simulation: Simulation, name: str) -> _Taken:
    function = getattr(type(simulation), name)
    taken = _TAKEN.get(function)
    if taken is None:
        signature = inspect.signature(simulation.exported_method(name))
        variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        needs_nothing = all(
            each.default is not each.empty or each.kind in variable for each in signature.parameters.values()
        )
        taken = _TAKEN[function] = _Taken(signature, _kinds(function), needs_nothing)
    return taken


def _kinds(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a method that something can be held against."""
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception:  # noqa: BLE001 - an annotation that means nothing here, whatever it raises
        return {}
    return {name: kind for name, kind in hints.items() if _can_be_sent(kind)}


def _can_be_sent(kind: Any) -> bool:
    """Return whether msgspec knows a type, or what is within it: nobody can send one that it does not."""
    try:
        msgspec.json.schema(kind, schema_hook=_arrays_only)
    except Exception:  # noqa: BLE001 - there is no one error for it
        return False
    return True


def _arrays_only(kind: Any) -> dict[str, Any]:
    if (typing.get_origin(kind) or kind) is not np.ndarray:
        raise NotImplementedError
    return {"type": "array"}


def _converted(value: Any, kind: Any, parameter: inspect.Parameter) -> Any:
    if parameter.kind is parameter.VAR_POSITIONAL:
        return tuple(msgspec.convert(each, kind, dec_hook=_array) for each in value)
    if parameter.kind is parameter.VAR_KEYWORD:
        return {name: msgspec.convert(each, kind, dec_hook=_array) for name, each in value.items()}
    return msgspec.convert(value, kind, dec_hook=_array)


def _array(kind: Any, value: Any) -> Any:
    """Return an array of numbers that came as a list, as from a command line."""
    if isinstance(value, list | int | float):
        array = np.asarray(value)
        return value if array.dtype.hasobject or array.dtype.kind in "SU" else array
    return value
