"""Any Python object: ``object:MODULE:CLASS``, or ``object:MODULE:CLASS.METHOD`` where it steps by another name.

Parameters of the class are setup's, and parameters of the method are the inputs of a step. What the method returns
are the outputs. An object whose ``finished`` or ``done`` is ``True`` is stepped no further.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
from snapserv_client.plain import Value

from snapserv.errors import BadRequestError, SimulationError
from snapserv.simulation.base import Simulation

from .forwarding import Stepping, forwarded_by
from .wrapping import found, names, refuse_suspended, sendable


def adapt(rest: str) -> type[Simulation]:
    """Return the class that serves an object of the class that ``rest`` names.

    Raises:
        BadRequestError: Its method is not there, and which are is said; or it exports what is no method; or calling
            one runs nothing.
    """
    place, colon, name = rest.rpartition(":")
    class_name, _, method = name.partition(".")
    factory = found(f"{place}:{class_name}" if colon else rest, "class")
    kind = factory if inspect.isclass(factory) else _result(factory)
    if not inspect.isclass(kind):
        raise BadRequestError(f"{rest} is a function of unknown result", hint="annotate what it returns")
    stepping = method or "step"
    if not callable(getattr(kind, stepping, None)):
        public = [key for key, _ in inspect.getmembers(kind, callable) if not key.startswith("_")]
        raise BadRequestError(
            f"{kind.__name__} has no method {stepping!r}",
            hint=f"write object:MODULE:CLASS.METHOD with one of: {', '.join(public) or 'none'}",
        )
    refuse_suspended(getattr(kind, stepping), f"{kind.__name__}.{stepping}")
    forwarded_by(kind, ObjectSimulation, names(getattr(kind, "exported", ())))  # what is wrong is said before setup
    doc = inspect.getdoc(kind) or f"An object of {kind.__name__}."
    return type(
        kind.__name__,
        (ObjectSimulation,),
        {"factory": staticmethod(factory), "__doc__": doc, **Stepping.stepped_by(kind, stepping)},
    )


class ObjectSimulation(Stepping):
    """An object with a method that steps it."""

    def step(self, inputs: msgspec.Struct) -> Mapping[str, Value] | None:
        """Call its method."""
        result = self.advance(inputs)
        if result is None:
            return None
        if inspect.isawaitable(result) or inspect.isgenerator(result):
            raise SimulationError(f"{self.stepping} returned a {type(result).__name__}, which nobody runs")
        said: dict[str, Any] = sendable(result if isinstance(result, Mapping) else {"result": result})
        return said

    @property
    def finished(self) -> bool:  # type: ignore[override]  # the object says so, and nobody sets it
        """Whether the object is ``finished`` or ``done``, as a bool says."""
        for name in ("finished", "done"):
            if inspect.getattr_static(self.model, name, None) is not None:
                over = getattr(self.model, name)
                if isinstance(over, bool | np.bool_) and over:  # and no number or list of what is done
                    return True
        return False


def _result(function: Callable[..., Any]) -> Any:
    try:
        return typing.get_type_hints(function).get("return")
    except NameError:  # an annotation that means nothing here
        return None
