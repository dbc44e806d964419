"""Deep copies of what goes back, which still refer to what stays: the simulation, its fields, its generator.

`copy.deepcopy` copies whatever it meets, so that an agent that knows its model would get a model of its own; and it
takes functions, bound methods of C and weak references for values. Here all that can be reached is looked at first:
what stays is told to deepcopy, what it would copy wrongly is copied rightly or refused, by what it is.
"""

from __future__ import annotations

import copy
import enum
import gc
import sys
import types
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..errors import BadRequestError
from .unchanging import ATOMS, BOUND_IN_C, Unchanging

_HINT = "restore a snapshot instead: a copy of it would not go on as a branch does"


def deep_copy(named: Mapping[str, Any], unchanging: Unchanging) -> dict[str, Any]:
    """Return copies of all values, one of each object: what they share they share afterwards.

    Args:
        named: The values by the names of the attributes that hold them.
        unchanging: What stays.

    Raises:
        BadRequestError: Something cannot be copied so that it goes on as a branch would; names the attribute.
    """
    survey = _Survey(unchanging)
    for name, value in named.items():
        survey.look_at(name, value)
    memo: dict[int, Any] = {**unchanging.fixed, **survey.fixed}
    copies: dict[str, Any] = {}
    for name, prepare in survey.prepared:
        _copied(name, lambda prepare=prepare: prepare(memo))  # type: ignore[misc]
    for name, value in named.items():
        copies[name] = _copied(name, lambda value=value: copy.deepcopy(value, memo))  # type: ignore[misc]
    for name, found in survey.sets:
        other = memo.get(id(found), found)
        if len(other) != len(found) or sys.getsizeof(other) != sys.getsizeof(found) or not _in_order(found, other):
            raise _refused(name, "a set whose order would be another one")
    return copies


class _Survey:
    """What there is behind some attributes."""

    def __init__(self, unchanging: Unchanging) -> None:
        self.fixed: dict[int, Any] = {}
        self.prepared: list[tuple[str, Callable[[dict[int, Any]], None]]] = []
        self.sets: list[tuple[str, set[Any]]] = []
        self._unchanging = unchanging
        self._seen: set[int] = set()
        self._kept: list[Any] = []  # ids are theirs while they live

    def look_at(self, name: str, value: Any) -> None:
        """Walk through all that can be reached from an attribute's value."""
        waiting = [value]
        while waiting:
            each = waiting.pop()
            if type(each) in ATOMS or id(each) in self._seen or id(each) in self._unchanging.fixed:
                continue
            self._seen.add(id(each))
            self._kept.append(each)
            waiting += self._parts(name, each)

    def _parts(self, name: str, value: Any) -> list[Any]:
        """Return what else is to be looked at; note what deepcopy would not do rightly."""
        holds = self._unchanging.holds
        if isinstance(value, (type, types.ModuleType)):
            self.fixed[id(value)] = value
        elif isinstance(value, np.ndarray):
            return self._array(name, value)
        elif isinstance(value, types.FunctionType):
            if not holds(value):
                raise _refused(name, f"the function {value.__qualname__}, which has variables that change")
            self.fixed[id(value)] = value
        elif isinstance(value, BOUND_IN_C):
            owner, method = value.__self__, value.__name__
            if owner is None or holds(owner):
                self.fixed[id(value)] = value
                return []
            bound = id(value)
            self.prepared.append(
                (name, lambda memo: memo.__setitem__(bound, getattr(copy.deepcopy(owner, memo), method)))
            )
            return [owner]
        elif isinstance(value, weakref.ReferenceType):
            there = value()
            if there is not None and not holds(there):
                raise _refused(name, f"a weak reference to a {type(there).__name__}")
        elif isinstance(value, weakref.ProxyTypes):
            raise _refused(name, "a weak proxy")
        elif isinstance(value, (set, frozenset)):
            by_address: Any = object.__hash__
            if any(type(each).__hash__ is by_address and not holds(each) for each in value):
                raise _refused(name, "a set of objects, whose order follows their addresses")
            self.sets.append((name, value))  # type: ignore[arg-type]
            return gc.get_referents(value)
        elif isinstance(value, enum.Enum):
            if not holds(value):
                raise _refused(name, f"{value}, a member of an enumeration with state of its own")
        elif isinstance(value, types.MethodType):
            return [value.__self__]
        else:
            return gc.get_referents(value)
        return []

    def _array(self, name: str, array: np.ndarray[Any, Any]) -> list[Any]:
        if self._unchanging.in_arena(array) or self._unchanging.holds(array):
            self.fixed[id(array)] = array
            return []
        if array.dtype.metadata or (array.dtype.hasobject and array.dtype.names is not None):
            raise _refused(name, f"an array of {array.dtype}")
        if getattr(array, "__dict__", None) and type(array).__deepcopy__ is np.ndarray.__deepcopy__:
            raise _refused(name, f"a {type(array).__name__} with attributes, which its copy would not have")
        base: Any = array.base
        if base is None:
            return array.ravel().tolist() if array.dtype.hasobject else []
        while isinstance(base, np.ndarray) and base.base is not None:
            base = base.base
        if not isinstance(base, np.ndarray):
            if not array.flags.writeable and isinstance(base, bytes):
                self.fixed[id(array)] = array
                return []
            raise _refused(name, f"an array in the memory of a {type(base).__name__}")
        if not (base.flags.c_contiguous or base.flags.f_contiguous) or type(array) is not np.ndarray:
            raise _refused(name, "a view of an array")
        if base.dtype.hasobject:
            raise _refused(name, "a view of an array of objects")
        owner, viewed = base, id(array)
        offset = array.__array_interface__["data"][0] - owner.__array_interface__["data"][0]

        def prepare(memo: dict[int, Any]) -> None:
            copied = copy.deepcopy(owner, memo)
            flat = copied.ravel(order="K").view(np.uint8)
            made = np.ndarray(array.shape, array.dtype, flat, offset, array.strides)
            made.flags.writeable = array.flags.writeable
            memo[viewed] = made

        self.prepared.append((name, prepare))
        return [owner]


def _in_order(found: set[Any], other: set[Any]) -> bool:
    """Return whether a set and its copy are gone through in one order: by hashes, since parts may be copies."""
    return [hash(each) for each in found] == [hash(each) for each in other]


def _copied(name: str, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except (BadRequestError, MemoryError):
        raise
    except Exception as cause:  # the author's own __deepcopy__ may raise anything
        raise _refused(name, f"what cannot be copied: {cause}") from cause


def _refused(name: str, what: str) -> BadRequestError:
    return BadRequestError(
        f"rewindable names {name}, which holds {what}", hint=_HINT, details={"attributes": [name]}
    )
