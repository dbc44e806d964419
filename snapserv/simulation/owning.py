"""Which of the modules that are loaded are the simulation's own: its classes', and those beside them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

INSTALLED = ("site-packages", "dist-packages")
OURS = ("snapserv", "snapserv_client")
"""Packages whose modules are a simulation's own only where its classes are in them."""

GLOBAL_DRAWS = frozenset(
    {"beta", "binomial", "choice", "exponential", "gamma", "lognormal", "multinomial", "normal", "permutation"}
    | {"poisson", "rand", "randint", "randn", "random_sample", "seed", "shuffle", "standard_normal", "uniform"}
)
"""Functions of ``numpy.random`` that draw from its own stream; the usual ones."""


class Owned:
    """The modules of a simulation's own, by name in order: ``modules``."""

    def __init__(self, simulation: Any) -> None:
        self._count = len(sys.modules)
        places = {kind.__module__ for each in (simulation, simulation.authors) for kind in type(each).__mro__}
        self._places = {
            name for name in places if not name.startswith(("snapserv.simulation", "snapserv.adapters"))
        }
        self._packages = {_top(name) for name in self._places} - {*OURS, *sys.stdlib_module_names}
        loaded = sorted((name, each) for name, each in sys.modules.items() if type(each) is ModuleType)
        self.modules = [module for name, module in loaded if self._owns(name, module)]
        self._names = {module.__name__ for module in self.modules}
        self._others = [module for name, module in loaded if name not in self._names and _is_installed(name)]
        self._mentioned = set(_mentioned(self.modules))

    @property
    def outdated(self) -> bool:
        """Whether modules have been imported since."""
        return len(sys.modules) != self._count

    def __contains__(self, kind: type) -> bool:
        return getattr(kind, "__module__", None) in self._names

    def mentions(self, what: str) -> bool:
        """Whether the code of these modules names ``rng``, or draws from the stream of ``random`` or of numpy."""
        return what in self._mentioned

    def streams_of_others(self, kinds: tuple[type, ...]) -> Iterator[tuple[Any, str]]:
        """Yield the random streams that installed modules by others have as globals, and their names."""
        for module in self._others:
            for name, value in vars(module).items():
                if isinstance(value, kinds):
                    yield value, f"{module.__name__}.{name} ({type(value).__name__})"

    def _owns(self, name: str, module: ModuleType) -> bool:
        if name in self._places or _top(name) in self._packages:
            return _top(name) not in sys.stdlib_module_names
        if _top(name) in (*OURS, *sys.stdlib_module_names, "__main__"):
            return False
        file = vars(module).get("__file__")
        return isinstance(file, str) and not any(folder in file for folder in INSTALLED)


def _top(name: str) -> str:
    return name.partition(".")[0]


def _is_installed(name: str) -> bool:
    return _top(name) not in (*OURS, *sys.stdlib_module_names, "__main__")


def _mentioned(modules: list[ModuleType]) -> Iterator[str]:
    random = sys.modules.get("random")
    for module in modules:
        for value in vars(module).values():
            if random is not None and (value is random or getattr(value, "__self__", None) is random._inst):
                yield "random"
            if isinstance(value, type) and value.__module__ == module.__name__:
                for member in vars(value).values():
                    yield from _mentioned_in(getattr(member, "fget", getattr(member, "__func__", member)))
            else:
                yield from _mentioned_in(value)


def _mentioned_in(function: Any) -> Iterator[str]:
    codes = [function.__code__] if isinstance(function, FunctionType) else []
    while codes:
        code = codes.pop()
        codes += [each for each in code.co_consts if isinstance(each, CodeType)]
        names = frozenset(code.co_names)
        if "rng" in names:
            yield "rng"
        if "random" in names and names & GLOBAL_DRAWS:
            yield "numpy.random"
