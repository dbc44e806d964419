"""Which of the modules that are loaded are the simulation's own: its classes', and those beside them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import BuiltinMethodType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

BOUND = (MethodType, BuiltinMethodType)
INSTALLED = ("site-packages", "dist-packages")
OURS = ("snapserv", "snapserv_client")
"""Packages whose modules are a simulation's own only where its classes are in them."""

GLOBAL_DRAWS = frozenset(
    {"beta", "binomial", "choice", "exponential", "gamma", "lognormal", "multinomial", "normal", "permutation"}
    | {"poisson", "rand", "randint", "randn", "random_sample", "seed", "shuffle", "standard_normal", "uniform"}
)
"""Functions of ``numpy.random`` that draw from its own stream; the usual ones."""


class Owned:
    """The modules of a simulation's own: ``modules``, in the order in which they were met, by name.

    ``near`` are those of them that its author wrote, and those of its classes, without the rest of an installed
    package. ``others`` are the random streams that modules by others have as globals, and what those are called.
    """

    def __init__(self, simulation: Any) -> None:
        places = {kind.__module__ for each in (simulation, simulation.authors) for kind in type(each).__mro__}
        self._places = {
            name for name in places if not name.startswith(("snapserv.simulation", "snapserv.adapters"))
        }
        self._packages = {_top(name) for name in self._places} - {*OURS, *sys.stdlib_module_names}
        self._met: set[str] = set()
        self._names: set[str] = set()
        self._mentioned: set[str] = set()
        self.modules: list[ModuleType] = []
        self.near: list[ModuleType] = []
        self.others: list[tuple[Any, str]] = []

    def meet(self, kinds: tuple[type, ...]) -> None:
        """Look at the modules that were imported since the last time; ``kinds`` are those of random streams."""
        if len(sys.modules) == len(self._met):
            return
        new = sorted(sys.modules.keys() - self._met)
        self._met.update(new)
        for name in new:
            module = sys.modules[name]
            if type(module) is not ModuleType:
                continue
            if self._owns(name, module):
                self.modules.append(module)
                if name in self._places or not _is_installed(module):
                    self.near.append(module)
                self._names.add(module.__name__)
                self._mentioned.update(_mentioned(module))
            elif _top(name) not in (*OURS, *sys.stdlib_module_names, "__main__"):
                self.others += [
                    (value, f"{name}.{key} ({type(value).__name__})")
                    for key, value in vars(module).items()
                    if issubclass(type(value), kinds)
                ]

    def __contains__(self, kind: type) -> bool:
        return getattr(kind, "__module__", None) in self._names

    def mentions(self, what: str) -> bool:
        """Whether the code of these modules names ``rng``, or draws from the stream of ``random`` or of numpy."""
        return what in self._mentioned

    def _owns(self, name: str, module: ModuleType) -> bool:
        if name in self._places or _top(name) in self._packages:
            return _top(name) not in sys.stdlib_module_names
        if _top(name) in (*OURS, *sys.stdlib_module_names, "__main__"):
            return False
        return not _is_installed(module)


def _is_installed(module: ModuleType) -> bool:
    """Return whether a module is no author's: in a folder of installed packages, or in no file at all."""
    file = vars(module).get("__file__")
    return not isinstance(file, str) or any(folder in file for folder in INSTALLED)


def _top(name: str) -> str:
    return name.partition(".")[0]


def _mentioned(module: ModuleType) -> Iterator[str]:
    random = sys.modules.get("random")
    for value in vars(module).values():
        bound = type(value) in BOUND and random is not None and value.__self__ is random._inst
        if bound or (random is not None and value is random):
            yield "random"
        if issubclass(type(value), type) and value.__module__ == module.__name__:
            for member in vars(value).values():
                yield from _mentioned_in(_function(member))
        else:
            yield from _mentioned_in(value)


def _function(member: Any) -> Any:
    """Return the function behind what a class has in its dict; of others only the type is asked: they may raise."""
    if issubclass(type(member), property):
        return member.fget
    return member.__func__ if issubclass(type(member), classmethod | staticmethod) else member


def _mentioned_in(function: Any) -> Iterator[str]:
    codes = [function.__code__] if type(function) is FunctionType else []
    while codes:
        code = codes.pop()
        codes += [each for each in code.co_consts if isinstance(each, CodeType)]
        names = frozenset(code.co_names)
        if "rng" in names:
            yield "rng"
        if "random" in names and names & GLOBAL_DRAWS:
            yield "numpy.random"
