"""The random streams that are nobody's own: of the module ``random``, and of the functions of ``numpy.random``.

Python and numpy seed them from the system when the module is imported, and numpy imports its own only when somebody
draws. Where that is in a branch, its siblings would draw other numbers, and a replay others again. So from the end
of setup on, a module that is imported is seeded as the branch is.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from importlib.abc import Loader  # which loads some thirty modules more

MODULES = ("random", "numpy.random")
GETTERS = {"random": "getstate", "numpy.random": "get_state"}

_STOOD: dict[str, int] = {}
_DRAWN: set[str] = set()


def reseed(seed: int) -> None:
    """Seed those whose modules are there, and those whose modules are imported later."""
    _LATER.seed, _LATER.seeds = seed, True
    for name in MODULES:
        if name in sys.modules:
            _seed(name, sys.modules[name], seed)


def seed_later(seed: int) -> None:
    """Seed those whose modules are imported from now on."""
    _LATER.seed, _LATER.seeds = seed, True
    _find_first()


def watch() -> None:
    """Take note of where each stands now, or when its module is imported, for `drawn` to tell."""
    _find_first()
    for name in MODULES:
        if name in sys.modules:
            _note(name)


def drawn(name: str) -> bool:
    """Return whether anybody has drawn from one of them since `watch`, or seeded it."""
    if name not in _DRAWN and name in _STOOD and _state(name) != _STOOD[name]:
        _DRAWN.add(name)
    return name in _DRAWN


def states() -> dict[str, Any]:
    """Return where each of them stands whose module is there."""
    return {name: getattr(sys.modules[name], GETTERS[name])() for name in MODULES if name in sys.modules}


def put_back(states: Mapping[str, Any]) -> None:
    """Have them stand where they stood; those whose modules were not there yet begin again."""
    setters = {"random": "setstate", "numpy.random": "set_state"}
    for name in MODULES:
        if name in states:
            getattr(sys.modules[name], setters[name])(states[name])
        elif name in sys.modules:
            _seed(name, sys.modules[name], _LATER.seed)


def _find_first() -> None:
    if _LATER not in sys.meta_path:
        sys.meta_path.insert(0, _LATER)


def _state(name: str) -> int:
    if name == "random":
        return hash(sys.modules[name].getstate())
    state = sys.modules[name].get_state(legacy=False)
    key = state["state"].get("key")
    return hash((repr(state) if key is None else (key.tobytes(), state["state"]["pos"]), state["gauss"]))


def _note(name: str) -> None:
    _STOOD[name] = _state(name)


def _seed(name: str, module: ModuleType, seed: int) -> None:
    drawn(name)  # before it stands elsewhere
    if name == "random":
        module.seed(seed)
    else:  # which takes 32 bits, or an array of them
        module.seed(module.SeedSequence(seed).generate_state(8))
    if name in _STOOD:
        _note(name)


class _Seeding:
    """Loads a module as ``loader`` does, and seeds it when it has been executed."""

    def __init__(self, loader: Loader, name: str) -> None:
        self._loader = loader
        self._name = name

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        if _LATER.seeds:
            _seed(self._name, module, _LATER.seed)
        else:
            _note(self._name)

    def __getattr__(self, what: str) -> Any:
        return getattr(self._loader, what)


class _Later:
    """Finds the modules where they are found anyway, and has them seeded."""

    seed = 0
    seeds = False

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in MODULES:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        if spec is not None and spec.loader is not None:
            spec.loader = cast("Loader", _Seeding(spec.loader, name))
        return spec


_LATER = _Later()
