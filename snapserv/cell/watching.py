"""What is looked at after each tick of a request: what is recorded of it, and whether it is to be the last one.

It is loaded before the master freezes: a branch that had to load it would do so each time anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from snapserv_client.protocol import Condition, Every, Reading, Readings
from snapserv_client.wire import convert

from ..errors import SnapservError
from .recorder import Recorder
from .until import Test, telling

if TYPE_CHECKING:
    from ..simulation.base import Simulation

BOUND_EVERY = 1024
"""So many ticks that were looked at, and the recorder is held to its bound."""


class Watch:
    """The ticks of a request, as they are looked at.

    Args:
        simulation: What ticks.
        recorder: Where what is recorded is kept.
        asked: The request: ``record``, readings that it wants, ``every`` so many ticks; and ``until``, a condition.
        step: Where the request begins.

    Attributes:
        stopped: Whether the condition has held.
        error: Why no more ticks can be looked at, if that is so.

    Raises:
        BadRequestError: A reading or the condition is none.
        NotFoundError: It is of no field, or no exported method.
    """

    def __init__(self, simulation: Simulation, recorder: Recorder, asked: Mapping[str, Any], step: int) -> None:
        wanted = _wanted(asked)
        self._recorder = recorder
        self._test: Test | None = None
        if wanted.until is not None:
            self._test = telling(simulation, wanted.until)
        self._takings = recorder.begin(simulation, wanted.record, wanted.every)
        self._asked = self._takings[0].kept if wanted.record else None
        self._since = step
        self._left = BOUND_EVERY
        self.stopped = False
        self.error: SnapservError | None = None

    @property
    def looks(self) -> bool:
        """Whether there is anything to look at."""
        return bool(self._takings) or self._test is not None

    def after(self, outputs: Any, step: int) -> bool:
        """Look at a tick; return whether it was the last one, also where it cannot be told: see `error`."""
        try:
            if self._takings:
                self._recorder.take(self._takings, outputs, step)
                self._left -= 1
                if not self._left:
                    self._left = BOUND_EVERY
                    self._recorder.bound()
            if self._test is not None:
                self.stopped = self._test(outputs or {})
        except SnapservError as error:
            self.error = error
            return True
        return self.stopped

    def told(self) -> dict[str, Any]:
        """Return what there is to say at the end: the rows that were asked for, and whether it was stopped."""
        told: dict[str, Any] = {}
        if self._asked is not None:
            told["series"] = self._asked.since(self._since)
        if self._test is not None:
            told["stopped"] = self.stopped
        return told


class _Wanted(msgspec.Struct):
    record: Readings = []
    every: Every = 1
    until: Condition | None = None


def readings_of(asked: Mapping[str, Any]) -> list[Reading]:
    """Return the readings that a request asks for."""
    return _wanted(asked).record


def _wanted(asked: Mapping[str, Any]) -> _Wanted:
    return convert({name: asked[name] for name in _Wanted.__struct_fields__ if name in asked}, _Wanted, what="step")
