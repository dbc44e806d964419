"""What is recorded at a node, where anything is: most nodes record nothing, and have no recorder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .recorder import Recorder
from .watching import Watch, readings_of

if TYPE_CHECKING:
    from ..simulation.base import Simulation


class Records:
    """The recorder of a node, made when there is something to record: what is mapped is forked."""

    def __init__(self) -> None:
        self._recorder: Recorder | None = None
        self._aside: Recorder | None = None

    def watch(self, simulation: Simulation, request: Mapping[str, Any], step: int) -> Watch | None:
        """Return what looks at each tick of a request that begins at a step; None where nothing is to be looked at.

        Raises:
            BadRequestError: The request asks for what cannot be looked at.
            NotFoundError: It asks for a field, or an exported method, that is not there.
        """
        if self._recorder is None and not request.get("record") and request.get("until") is None:
            return None
        watch = Watch(simulation, self._made(), request, step)
        return watch if watch.looks else None

    def order(self, simulation: Simulation, request: Mapping[str, Any]) -> None:
        """Record something from now on, whoever steps: ``record``, readings, ``every`` so many ticks.

        Raises:
            BadRequestError: A reading is none.
            NotFoundError: It is of no field.
        """
        self._made().order(simulation, readings_of(request), request["every"])

    def tell(self, after: int) -> list[dict[str, Any]]:
        """Return all that was recorded later than a step, as a message carries it."""
        return [] if self._recorder is None else self._recorder.told(after)

    def cut(self, step: int) -> None:
        """Forget what is later than a step."""
        if self._recorder is not None:
            self._recorder.cut(step)

    def set_aside(self) -> None:
        """Record nothing until `take_over`, whatever stands: what is done again was recorded when it was done."""
        self._recorder, self._aside = None, self._recorder

    def hand_over(self, after: int, until: int) -> dict[str, Any] | None:
        """Return what was recorded between two steps, for `take_over` elsewhere; None where nothing ever was."""
        return None if self._recorder is None else self._recorder.hand_over(after, until)

    def take_over(self, told: dict[str, Any] | None) -> None:
        """Have what was set aside again and, where another node has told, what that recorded later."""
        self._recorder, self._aside = self._aside, None
        if told is not None:
            self._made().take_over(told)

    def _made(self) -> Recorder:
        if self._recorder is None:
            self._recorder = Recorder()
        return self._recorder
