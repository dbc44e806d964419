"""What cannot change, so that a rewind may leave it as it is; and the little of it that can be put back.

A type does not promise that: a subclass of int has attributes, a function has cells, and ``rng.random`` is a
builtin that holds a generator. What holds nothing but what goes back anyway (the simulation, its fields, its
generator) is as good as unchanging.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import operator
import random
import sys
import types
import uuid
from typing import Any

import numpy as np

from ..simulation.base import Simulation

ATOMS = frozenset(
    {
        int, float, complex, bool, str, bytes, type(None), type(Ellipsis), type(NotImplemented), range,
        decimal.Decimal, uuid.UUID, datetime.date, datetime.datetime, datetime.time, datetime.timedelta,
        types.CodeType,
    }
)  # fmt: skip
BOUND_IN_C = (types.BuiltinFunctionType, types.MethodWrapperType)
_BASES = (int, float, complex, str, bytes, tuple, frozenset)
_Array = np.ndarray[Any, Any]


class Unchanging:
    """What of a simulation's state cannot change, or goes back by itself.

    Args:
        simulation: The one whose fields and generator go back.
    """

    def __init__(self, simulation: Simulation) -> None:
        self.fixed: dict[int, Any] = {}
        """What goes back without getting another identity, by id."""
        self._cells: dict[int, tuple[types.CellType, Any]] = {}
        self._namespaces: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}
        self._extents = [(array.ctypes.data, array.nbytes) for array in simulation._arrays.values()]
        rng = simulation._rng
        for each in (simulation, vars(simulation), simulation.arena, simulation._arrays, *_shared_generators()):
            self.fix(each)
        for array in simulation._arrays.values():
            self.fix(array)
        if rng is not None:
            self.fix(rng)
            self.fix(rng.bit_generator)

    def fix(self, value: Any) -> None:
        """Take note of something that keeps its identity."""
        self.fixed[id(value)] = value

    def holds(self, value: Any) -> bool:
        """Return whether a value cannot change but for what `put_back` puts back."""
        kind = type(value)
        if kind in ATOMS or id(value) in self.fixed or isinstance(value, (type, types.ModuleType)):
            return True
        if isinstance(value, np.ndarray):
            return self.in_arena(value) or _sealed(value)
        if isinstance(value, np.generic):
            return not isinstance(value, np.void) and kind.__module__ == "numpy"
        if isinstance(value, np.dtype):
            return not value.metadata
        if isinstance(value, types.FunctionType):
            return self._holds_function(value)
        if isinstance(value, (*BOUND_IN_C, types.MethodType)):
            return self.holds(value.__self__)
        if isinstance(value, enum.Enum):
            return self.holds(value.value) and self._holds_namespace(vars(value))
        if isinstance(value, _BASES) and not any(vars(each).get("__slots__") for each in kind.__mro__):
            parts = value if isinstance(value, (tuple, frozenset)) else ()
            return all(map(self.holds, parts)) and self._holds_namespace(getattr(value, "__dict__", {}))
        return False

    def in_arena(self, array: _Array) -> bool:
        """Return whether the memory of an array is that of a field, which goes back where it is."""
        low = array.__array_interface__["data"][0]
        return any(start <= low < start + size for start, size in self._extents)

    def put_back(self) -> None:
        """Have variables of functions, and attributes of what is otherwise unchanging, be what they were."""
        for cell, value in self._cells.values():
            cell.cell_contents = value
        for namespace, kept in self._namespaces.values():
            if len(namespace) != len(kept) or any(namespace.get(name, self) is not kept[name] for name in kept):
                namespace.clear()
                namespace.update(kept)

    def _holds_function(self, function: types.FunctionType) -> bool:
        if id(function) in self._namespaces:
            return True  # it is being looked at: it closes over itself
        self._namespaces[id(function)] = vars(function), dict(vars(function))
        kept = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values(), *vars(function).values()]
        for cell in function.__closure__ or ():
            try:
                kept.append(cell.cell_contents)
            except ValueError:
                return False  # a variable without a value has nothing that could be put back
            self._cells[id(cell)] = cell, cell.cell_contents
        return all(map(self.holds, kept))

    def _holds_namespace(self, namespace: dict[str, Any]) -> bool:
        if id(namespace) not in self._namespaces:
            self._namespaces[id(namespace)] = namespace, dict(namespace)
        return all(map(self.holds, namespace.values()))


class ClassStates:
    """The attributes of classes that a simulation may keep state in: they do not go back, so they must not change.

    Args:
        classes: Which.
    """

    def __init__(self, classes: list[type]) -> None:
        self._kept = [(kind, dict(vars(kind))) for kind in classes]
        self._contents = [
            (f"{kind.__name__}.{name}", value, value.copy())
            for kind, kept in self._kept
            for name, value in kept.items()
            if type(value) in (list, dict, set, bytearray) and not name.startswith("__")
        ]

    def changed(self) -> list[str]:
        """Return the names of those that have changed: are others, or are containers of others."""
        found = {name for name, value, kept in self._contents if not _same(value, kept)}
        for kind, kept in self._kept:
            now = vars(kind)
            if len(now) == len(kept) and all(map(operator.is_, now.values(), kept.values())):
                continue  # at once, since it is so nearly always
            for name in {*kept, *now}:
                if not name.startswith("__") and now.get(name, self) is not kept.get(name, self):
                    found.add(f"{kind.__name__}.{name}")
        return sorted(found)


def classes_of(simulation: Simulation, values: list[Any]) -> list[type]:
    """Return the author's classes: the simulation's own and those that are kept as values."""
    own = [kind for kind in type(simulation).__mro__ if kind not in Simulation.__mro__]
    return list({*own, *(value for value in values if isinstance(value, type) and value.__module__ != "builtins")})


def _same(value: Any, kept: Any) -> bool:
    """Return whether a container holds what a copy of it holds."""
    if isinstance(value, (set, bytearray)):
        return bool(value == kept)
    pairs = [(value, kept), (value.values(), kept.values())] if isinstance(value, dict) else [(value, kept)]
    return len(value) == len(kept) and all(all(map(operator.is_, now, before)) for now, before in pairs)


def _sealed(array: _Array) -> bool:
    plain = type(array) is np.ndarray and not array.dtype.hasobject and not array.dtype.metadata
    return plain and not array.flags.writeable and array.base is None


def _shared_generators() -> list[Any]:
    """Return the generators that are nobody's own, which `snapserv.simulation.streams` puts back."""
    found: list[Any] = [getattr(random, "_inst", None)] if "random" in sys.modules else []
    if "numpy.random" in sys.modules:
        found.append(getattr(np.random.mtrand, "_rand", None))
    return [each for each in found if each is not None]
