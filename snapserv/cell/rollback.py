"""A branch's mark: where `rewind` takes it back to, in place, in time that follows what was written since.

The fields go back by `Arena.rewind`. Of everything else, a rewind must not forget anything without saying so:
random generators go back, attributes that the author named in ``rewindable`` go back (`snapserv.cell.copying`), and
values that cannot change need not (`snapserv.cell.unchanging`). Where there is other state, the branch is refused
its mark, and ``restore`` does what cannot be done here.
"""

from __future__ import annotations

import contextlib
from types import MemberDescriptorType
from typing import Any, TypeAlias

from ..errors import BadRequestError
from ..simulation import streams
from ..simulation.base import Simulation
from .copying import deep_copy
from .unchanging import ClassStates, Unchanging, classes_of

Slots: TypeAlias = list[tuple[str, MemberDescriptorType]]

_FRAMEWORKS = frozenset({"_arrays", "_params", "_arena", "_rng", "_streams"})


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
        self._slots = _slots_of(type(simulation))
        named = set(type(simulation).rewindable) - {"rng"}
        missing = [name for name in named if not hasattr(simulation, name)]
        if missing:
            raise BadRequestError(f"rewindable names {missing}, which {type(simulation).__name__} does not have")
        self._plain = {
            name: value for name, value in _state_of(simulation, self._slots).items() if name not in named
        }
        self._unchanging = Unchanging(simulation)
        changing = sorted(name for name, value in self._plain.items() if not self._unchanging.holds(value))
        if changing:
            raise BadRequestError(
                f"{type(simulation).__name__} keeps state that rewind would leave as it is: {', '.join(changing)}",
                hint="restore a snapshot instead; or name it in rewindable, make it a field, or an array read-only",
                details={"attributes": changing},
            )
        for value in self._plain.values():
            self._unchanging.fix(value)
        self._named = deep_copy({name: getattr(simulation, name) for name in named}, self._unchanging)
        self._classes = ClassStates(classes_of(simulation, [*self._plain.values()]))
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
        now = {name: value for name, value in _state_of(simulation, self._slots).items() if name not in self._named}
        changed = self._classes.changed()
        changed += sorted(
            name for name in {*now, *self._plain} if now.get(name, self) is not self._plain.get(name, self)
        )
        if changed:
            raise BadRequestError(
                f"{type(simulation).__name__} has changed what rewind would leave as it is: {', '.join(changed)}",
                hint="restore a snapshot instead, or name it in rewindable",
                details={"attributes": changed},
            )
        again = deep_copy(self._named, self._unchanging) if self._named else {}
        pages = simulation.arena.rewind(self._arena)
        self._unchanging.put_back()
        for name, value in again.items():
            setattr(simulation, name, value)
        self._generators.put_back()
        return pages


def _state_of(simulation: Simulation, slots: Slots) -> dict[str, Any]:
    """Return the attributes that are the author's: all but the fields and the parameters, and the generator."""
    found = {name: value for name, value in vars(simulation).items() if name not in _FRAMEWORKS}
    for name, slot in slots:
        with contextlib.suppress(AttributeError):  # nothing was put into it
            found[name] = slot.__get__(simulation)
    return found


def _slots_of(kind: type) -> Slots:
    """Return what a class and its bases declare in ``__slots__``, which is in no dict."""
    members = {name: member for each in kind.__mro__ for name, member in vars(each).items()}
    return [(name, member) for name, member in members.items() if isinstance(member, MemberDescriptorType)]


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
