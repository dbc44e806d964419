"""What adapters share: classes that targets name, structs from signatures, and values that can be sent."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from functools import partial
from typing import Any

import msgspec
import numpy as np
from snapserv_client.wire import pack

from snapserv.errors import BadRequestError, TooLargeError
from snapserv.simulation.checking import is_suspended
from snapserv.simulation.modules import load_object

ADDRESS = re.compile(r" at 0x[0-9a-f]+")
"""What ``repr`` says of an object besides: another in every run, and in every replay."""
IMMUTABLE = (str, int, float, bool, type(None), bytes)
VARIABLE = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def found(rest: str, wanted: str) -> Callable[..., Any]:
    """Return the class or function that the target behind a scheme names.

    Raises:
        SnapservError: What `snapserv.simulation.modules.load_object` met.
        BadRequestError: It cannot be called.
    """
    factory = load_object(rest, wanted=wanted, fits=callable)
    if not callable(factory):
        raise BadRequestError(f"{rest} is a {type(factory).__name__}", hint=f"name a class or function: {wanted}")
    made: Callable[..., Any] = factory
    return made


def struct_of(function: Callable[..., Any], name: str, *, skip: int = 0) -> type[msgspec.Struct]:
    """Return a struct with a field for each parameter of a function or class, with their types and defaults.

    Args:
        function: What is called.
        name: Of the struct.
        skip: How many of the first parameters are left out.
    """
    try:
        hints = typing.get_type_hints(
            function.__init__ if inspect.isclass(function) else function, include_extras=True
        )
    except NameError:  # an annotation that means nothing here
        hints = {}
    made = _factories(function)
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for parameter in list(inspect.signature(function).parameters.values())[skip:]:
        if parameter.kind in VARIABLE:
            continue
        kind = hints.get(parameter.name, Any)
        if not _convertible(kind):
            kind = Any
        if parameter.default is parameter.empty:
            fields.append((parameter.name, kind))
        elif parameter.name in made and type(parameter.default).__module__ == "dataclasses":
            fields.append((parameter.name, kind, msgspec.field(default_factory=made[parameter.name])))
        elif isinstance(parameter.default, IMMUTABLE):
            fields.append((parameter.name, kind, parameter.default))
        else:
            fields.append((parameter.name, kind, msgspec.field(default_factory=partial(copy, parameter.default))))
    return msgspec.defstruct(name, fields, kw_only=True)


def _factories(function: Callable[..., Any]) -> dict[str, Callable[[], Any]]:
    """Return what makes the defaults of a dataclass's fields, where something does."""
    if not (inspect.isclass(function) and dataclasses.is_dataclass(function)):
        return {}
    found = dataclasses.fields(function)
    return {each.name: each.default_factory for each in found if each.default_factory is not dataclasses.MISSING}


def _convertible(kind: Any) -> bool:
    try:
        msgspec.json.schema(kind)
    except (TypeError, msgspec.ValidationError, NameError):
        return False
    return True


def sendable(value: Any) -> Any:
    """Return a value with whatever no message can carry as text."""
    if isinstance(value, Mapping):
        return {str(key): sendable(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [sendable(part) for part in value]
    return value if _can_be_sent(value) else ADDRESS.sub("", repr(value))


def _can_be_sent(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return not value.dtype.hasobject
    try:
        pack(value)
    except BadRequestError:
        return False  # an integer beyond 64 bits, say, or a numpy scalar that is no plain value
    except TooLargeError:
        return True  # whoever sends it says so, and its text would be no smaller
    return True


def names(given: str | Iterable[str]) -> list[str]:
    """Return names that somebody has listed, or the one that stands alone."""
    return [given] if isinstance(given, str) else list(given)


def refuse_suspended(method: Callable[..., Any], name: str) -> None:
    """Check that calling a method runs it.

    Raises:
        BadRequestError: It is a coroutine or a generator, which somebody would have to drive.
    """
    if is_suspended(method):
        raise BadRequestError(
            f"{name} is a coroutine or a generator: calling it runs nothing",
            hint="add a method that drives it, and returns what came of it",
        )
