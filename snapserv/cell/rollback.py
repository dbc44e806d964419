"""A branch's mark: where `rewind` takes it back to, in place, in time that follows what was written since.

The fields go back by `Arena.rewind`. Of everything else, a rewind must not forget anything without saying so:
random generators go back, attributes that the author named in ``rewindable`` go back, and values that cannot change
need not. Where there is other state, the branch is refused its mark, and ``restore`` does what cannot be done here.
"""

from __future__ import annotations

import copy
import types
from typing import Any

import numpy as np

from ..errors import BadRequestError
from ..simulation import streams
from ..simulation.base import Simulation

_IMMUTABLE = (
    int,
    float,
    complex,
    bool,
    str,
    bytes,
    type(None),
    np.generic,
    np.dtype,
    range,
    type,
    types.ModuleType,
)
_FRAMEWORKS = frozenset({"_arrays", "_params", "_arena", "_rng", "_streams"})
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType)


class BranchMark:
    """One moment of one branch.

    Args:
        simulation: The branch's.
        step: At which step it stands.

    Raises:
        BadRequestError: The simulation keeps state that a rewind would leave as it is; the message names it.
        OverBudgetError: The pages that are private already do not fit in memory a second time.
    """

    def __init__(self, simulation: Simulation, step: int) -> None:
        self.step = step
        self._simulation = simulation
        named = set(type(simulation).rewindable) - {"rng"}
        missing = [name for name in named if not hasattr(simulation, name)]
        if missing:
            raise BadRequestError(f"rewindable names {missing}, which {type(simulation).__name__} does not have")
        self._plain = {name: value for name, value in _state_of(simulation).items() if name not in named}
        changing = sorted(name for name, value in self._plain.items() if not _cannot_change(value))
        if changing:
            raise BadRequestError(
                f"{type(simulation).__name__} keeps state that rewind would leave as it is: {', '.join(changing)}",
                hint="restore a snapshot instead; or name it in rewindable, make it a field, or an array read-only",
                details={"attributes": changing},
            )
        # One deepcopy of all of them, so that what they share they share afterwards.
        self._named = copy.deepcopy({name: getattr(simulation, name) for name in named})
        self._generators = _Generators(simulation)
        self._arena = simulation.arena.mark()

    @property
    def kept_bytes(self) -> int:
        """How much was private already at the mark, and is kept as a copy."""
        return int(self._arena.content.nbytes)

    def rewind(self) -> int:
        """Put the simulation back; return how many pages were put back.

        Raises:
            BadRequestError: An attribute has appeared, vanished or been replaced that ``rewindable`` does not name;
                nothing has changed.
        """
        simulation = self._simulation
        now = {name: value for name, value in _state_of(simulation).items() if name not in self._named}
        changed = sorted(
            name for name in {*now, *self._plain} if now.get(name, self) is not self._plain.get(name, self)
        )
        if changed:
            raise BadRequestError(
                f"{type(simulation).__name__} has changed what rewind would leave as it is: {', '.join(changed)}",
                hint="restore a snapshot instead, or name it in rewindable",
                details={"attributes": changed},
            )
        pages = simulation.arena.rewind(self._arena)
        if self._named:
            for name, value in copy.deepcopy(self._named).items():
                setattr(simulation, name, value)
        self._generators.put_back()
        return pages


def _state_of(simulation: Simulation) -> dict[str, Any]:
    """Return the attributes that are the author's: all but the fields and the parameters, and the generator."""
    return {name: value for name, value in vars(simulation).items() if name not in _FRAMEWORKS}


class _Generators:
    """The states of the generators that a simulation may draw from: its own, Python's and numpy's global ones."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._own = simulation._rng
        self._own_state: Any = None if self._own is None else self._own.bit_generator.state
        self._streams = streams.states()

    def put_back(self) -> None:
        self._simulation._rng = self._own
        if self._own is not None:
            self._own.bit_generator.state = self._own_state
        streams.put_back(self._streams)


def _cannot_change(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return not value.flags.writeable and value.base is None and not value.dtype.hasobject
    if isinstance(value, (tuple, frozenset)):
        return all(map(_cannot_change, value))
    return isinstance(value, (*_IMMUTABLE, *_FUNCTIONS))
