"""The inputs of a request, handed to each of its ticks as they were sent, whatever an earlier tick did to its own.

What was sent is never handed out itself: lists and maps are made anew, and arrays are views that nobody can write
through. Inputs without any of these are one object for all ticks, which costs a tick nothing; their class tells
when a tick has assigned to an attribute of them, and then the next one gets another.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import msgspec
import numpy as np

_PLAIN = frozenset(
    {
        bool, int, float, complex, str, bytes, type(None), decimal.Decimal, uuid.UUID,
        datetime.date, datetime.datetime, datetime.time, datetime.timedelta,
    }
)  # fmt: skip
_WATCHED = "_snapserv_watched"

_assigned: list[str] = []
"""Which attributes of inputs were assigned to since somebody looked, in this process."""


class TakesInputs(Protocol):
    """What of a simulation is needed here."""

    Inputs: ClassVar[type[msgspec.Struct]]

    def convert_inputs(self, raw: Mapping[str, Any], /) -> msgspec.Struct:
        """Return ``raw`` as an instance of ``Inputs``."""


class EachTick:
    """One request's inputs. Whoever runs ticks takes the first ones, and others whenever ``stale`` is not empty.

    Args:
        simulation: Whose inputs; its ``convert_inputs`` makes an instance of them. `watch` has seen their class.
        raw: What was sent. Its arrays may be written by nobody from now on.
        ticks: How many at most; where it is one, nobody sees what that does to its inputs.

    Raises:
        BadRequestError: They do not fit; names the input.
    """

    __slots__ = ("_always", "_convert", "_raw", "_ready", "stale")

    def __init__(self, simulation: TakesInputs, raw: Mapping[str, Any], ticks: int) -> None:
        self._convert = simulation.convert_inputs
        self._raw = raw
        self._ready: msgspec.Struct | None = self._made()
        self._always = ticks > 1 and has_parts(self._ready)
        self.stale: list[str] = ["at first"] if self._always else _assigned
        self.stale.append("at first")

    def take(self) -> msgspec.Struct:
        """Return inputs as they were sent."""
        made = self._ready if self._ready is not None else self._made()
        self._ready = None
        if not self._always:
            self.stale.clear()
        return made

    def _made(self) -> msgspec.Struct:
        return self._convert(fresh(self._raw) if self._raw else {})


def fresh(value: Any) -> Any:
    """Return a value as it was sent with lists and maps of its own, and arrays through which nobody can write."""
    if type(value) is dict:  # first, and without abc, whose caches each branch would copy with its first step
        return {key: part if type(part) in _PLAIN else fresh(part) for key, part in value.items()}
    if isinstance(value, np.ndarray):
        return _sealed(value)
    if isinstance(value, Mapping):
        return {key: fresh(part) for key, part in value.items()}
    if isinstance(value, list):
        return [fresh(part) for part in value]
    if isinstance(value, tuple):
        return tuple(map(fresh, value))
    return value


def kept(value: Any) -> Any:
    """Return a copy of what the author's code handed out, which it may change as soon as it runs again."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, Mapping):
        return {key: kept(part) for key, part in value.items()}
    if isinstance(value, list):
        return [kept(part) for part in value]
    return tuple(map(kept, value)) if isinstance(value, tuple) else value


def has_parts(value: Any) -> bool:
    """Return whether inputs have parts that could be changed, beside their own attributes."""
    for name in value.__struct_fields__:
        part = getattr(value, name)
        if type(part) not in _PLAIN and not _plain(part):
            return True
    return False


def watch(kind: type[msgspec.Struct]) -> None:
    """Have a class of inputs tell when somebody assigns to an attribute of one."""
    if kind.__struct_config__.frozen or getattr(kind, _WATCHED, None) is kind:
        return
    assign, delete = kind.__setattr__, kind.__delattr__

    def __setattr__(self: msgspec.Struct, name: str, value: Any) -> None:  # noqa: N807 - it is one
        assign(self, name, value)
        _assigned.append(name)

    def __delattr__(self: msgspec.Struct, name: str) -> None:  # noqa: N807
        delete(self, name)
        _assigned.append(name)

    for name, told in (("__setattr__", __setattr__), ("__delattr__", __delattr__), (_WATCHED, kind)):
        setattr(kind, name, told)


def _sealed(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    view = array.view()
    view.flags.writeable = False
    return view


def _plain(value: Any) -> bool:
    kind = type(value)
    if kind in _PLAIN or isinstance(value, enum.Enum):
        return True
    if kind in (tuple, frozenset):
        return all(map(_plain, value))
    frozen = isinstance(value, msgspec.Struct) and kind.__struct_config__.frozen
    return frozen and not has_parts(value)
