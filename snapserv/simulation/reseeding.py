"""The random streams that a simulation draws from: found wherever its objects hold them, and reseeded in place.

A stream is an object of its own, and whoever was handed it draws from it: another object in an attribute would
leave them the old one. So each is found, and set to another state where it is; see decision 0024.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..ext import reach
from . import naming, streams, writers
from .compiled import Compiled
from .owning import Owned

MOST_OBJECTS = 100_000
"""How many objects a branch looks at for streams that ticks have made: some 20 ms. A master looks at all."""
MOST_NAMES = 32
MASK = (1 << 64) - 1


class Streams:
    """What is known of the random streams of one simulation. ``seed`` is what its own ``rng`` begins with."""

    __slots__ = ("_c", "_compiled", "_drawn", "_found", "_owned", "_whole", "seed")

    def __init__(self, seed: Any) -> None:
        self.seed = seed
        self._found: list[tuple[Any, str]] = []
        self._owned: Owned | None = None
        self._whole = True
        self._c = reach.c_state()
        self._compiled = Compiled()
        self._drawn = False

    def look(self, simulation: Any, most: int | None = None) -> None:
        """Find the streams that there are now, besides those that were found before; and files, on the way.

        ``most`` is how many objects are looked at, the nearest first, without modules of installed packages; all by
        default.
        """
        wanted = (*_kinds(), writers.FILES)
        self._found = [each for each in self._found if sys.getrefcount(each[0]) > HELD_HERE]
        owned = self._owned = self._owned or Owned(simulation)
        owned.meet(_kinds())
        known = {id(stream) for stream, _ in self._found} | {id(stream) for stream in _of_nobody()}
        limit = () if most is None else (most,)
        modules = owned.modules if most is None else owned.near
        roots = [simulation, *modules, *(stream for stream, _ in owned.others)]
        found, self._whole = reach.reach(roots, wanted, np.ndarray, owned.__contains__, [self], *limit)
        names = {id(stream): name for stream, name in owned.others}
        for stream, holders in found:
            if isinstance(stream, writers.FILES):
                writers.note(stream)  # one that was not opened by `open`, and so is not known
                continue
            if id(stream) not in known and stream is not simulation._rng and _can_be_seeded(stream):
                named = len(self._found) < MOST_NAMES
                name = names.get(id(stream)) or (naming.name_of(stream, holders) if named else "")
                self._found.append((stream, name))

    def reseed(self, simulation: Any, seed: int) -> tuple[list[str], list[str]]:
        """Give each stream another one, in place, all of them derived from ``seed``.

        The simulation's own ``rng`` begins as ``numpy.random.default_rng(seed)`` does, the streams of the modules
        ``random`` and ``numpy.random`` as their ``seed`` has them, and all others as children of the seed, in the
        order in which they were found.

        Returns:
            The names of those that the simulation draws from, and what may not have been reached.
        """
        names, missed = [], []
        self.seed = seed
        if simulation._rng is not None:
            _reseed(simulation._rng, seed, ())
        served = simulation.authors is not simulation  # which knows nothing of an adapter's own
        if simulation._rng is not None or (self._owned is not None and self._owned.mentions("rng") and not served):
            names.append(f"{type(simulation).__name__}.rng (Generator)")
        names += self._reseed_nobodys(seed)
        done = {id(_bits(simulation._rng))}
        for index, (stream, name) in enumerate(self._found):
            if id(_bits(stream)) in done:
                continue
            done.add(id(_bits(stream)))
            try:
                _reseed(stream, seed, (index,))
            except Exception as cause:  # noqa: BLE001 - a class by others may refuse, each in its own way
                missed.append(f"{name or type(stream).__name__}: {type(cause).__name__}: {cause}")
            else:
                names.append(name)
        if not self._whole:
            missed.append(f"what is beyond the nearest {MOST_OBJECTS:,} objects, if ticks have made streams there")
        return naming.shortened(names), missed

    def stand(self) -> list[tuple[str, bytes]]:
        """Return each stream that was found, by its name, and where it stands: as bytes, to be compared."""
        return [(name or type(stream).__name__, _where(stream)) for stream, name in self._found]

    def _reseed_nobodys(self, seed: int) -> list[str]:
        """Seed the streams that belong to modules and to the C library; return those that somebody draws from."""
        owned = self._owned
        names = [
            name for name in streams.MODULES if streams.drawn(name) or (owned is not None and owned.mentions(name))
        ]
        streams.reseed(seed)
        self._drawn = self._drawn or reach.c_state() != self._c
        reach.seed_c((seed ^ seed >> 32) & 0xFFFF_FFFF)
        self._c = reach.c_state()
        if self._drawn:
            names.append("rand() of the C library")
        if self._compiled.reseed(seed):
            names.append("random and numpy.random in what numba compiles")
        torch = sys.modules.get("torch")
        if torch is not None and hasattr(torch, "manual_seed"):
            torch.manual_seed(seed & (1 << 63) - 1)
            names.append("torch")
        return names


def _held_here() -> int:
    """Return the count of references to a stream that nobody holds but a list of `Streams`, as it is seen there."""
    found = [(object(), "")]
    return next(iter([sys.getrefcount(each[0]) for each in found]))


HELD_HERE = _held_here()


def _kinds() -> tuple[type, ...]:
    """Return the types of streams that there can be: what is not imported has no instances, and need not be."""
    modules = {
        "random": ["Random"],
        "numpy.random": ["Generator", "RandomState", "BitGenerator"],
        "torch": ["Generator"],
    }
    loaded = [(sys.modules.get(module), names) for module, names in modules.items()]
    kinds = [getattr(module, name, None) for module, names in loaded for name in names]
    return tuple(kind for kind in kinds if isinstance(kind, type))


def _can_be_seeded(stream: Any) -> bool:
    """Return whether it is a stream at all: the system's, which is none, has the same interface."""
    return not (_is_pythons(stream) and isinstance(stream, sys.modules["random"].SystemRandom))


def _is_pythons(stream: Any) -> bool:
    return "random" in sys.modules and isinstance(stream, sys.modules["random"].Random)


def _of_nobody() -> Iterator[Any]:
    """Yield the streams that belong to modules, which are seeded with them."""
    if "random" in sys.modules:
        yield sys.modules["random"]._inst
    if "numpy.random" in sys.modules:
        yield np.random.mtrand._rand
        yield _bits(np.random.mtrand._rand)


def _bits(stream: Any) -> Any:
    """Return what a stream draws from: several generators of numpy may share one."""
    return getattr(stream, "_bit_generator", stream)


def _reseed(stream: Any, seed: int, key: tuple[int, ...]) -> None:
    """Set a stream, where it is, to the state in which one of its kind begins.

    Args:
        stream: Of any kind of `_kinds`.
        seed: What all are derived from.
        key: Which child of it; () is the seed itself.
    """
    if _is_pythons(stream):
        stream.seed(_mixed(seed, *key))
        return
    if hasattr(stream, "manual_seed"):
        stream.manual_seed(_mixed(seed, *key) >> 1)
        return
    bits = _bits(stream)
    fresh = type(bits)(np.random.SeedSequence(seed, spawn_key=key))
    bits.__setstate__(fresh.__getstate__())  # with the seed sequence, from which `spawn` makes children
    if isinstance(stream, np.random.RandomState):
        stream.set_state({**stream.get_state(legacy=False), "has_gauss": 0, "gauss": 0.0})


def _where(stream: Any) -> bytes:
    if hasattr(stream, "manual_seed"):
        return bytes(stream.get_state().tolist())
    return pickle.dumps(stream.getstate() if _is_pythons(stream) else _bits(stream).state)


def _mixed(*parts: int) -> int:
    """Return 64 bits that depend on all of some numbers, by splitmix64: numpy.random may not be there."""
    mixed = 0
    for part in parts:
        while True:
            mixed = (mixed + (part & MASK) + 0x9E3779B97F4A7C15) & MASK
            mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
            mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & MASK
            mixed ^= mixed >> 31
            part >>= 64
            if part in (0, -1):
                break
    return mixed
