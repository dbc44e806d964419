"""Any Python object: ``object:MODULE:CLASS``, or ``object:MODULE:CLASS.METHOD`` where it steps by another name.

Parameters of the class are setup's, and parameters of the method are the inputs of a step. What the method returns
are the outputs. An object that has a true ``finished`` or ``done`` is stepped no further.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import msgspec

from snapserv.errors import BadRequestError, SimulationError
from snapserv.simulation.base import Simulation, exported

from .wrapping import Wrapping, attribute, found, names, refuse_suspended, sendable, struct_of


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
    exports = {each: _forwarded(kind, each) for each in names(getattr(kind, "exported", ()))}
    inputs = struct_of(getattr(kind, stepping), f"{kind.__name__}Inputs", skip=_takes_self(kind, stepping))
    doc = inspect.getdoc(kind) or f"An object of {kind.__name__}."
    return type(
        kind.__name__,
        (ObjectSimulation,),
        {"factory": staticmethod(factory), "stepping": stepping, "Inputs": inputs, "__doc__": doc, **exports},
    )


class ObjectSimulation(Wrapping):
    """An object with a method that steps it."""

    stepping: ClassVar[str] = "step"

    def setup(self, **params: Any) -> None:
        """Make the object."""
        self.model = type(self).factory(**params)

    def step(self, inputs: msgspec.Struct) -> Mapping[str, Any] | None:
        """Call its method."""
        result = getattr(self.model, self.stepping)(**msgspec.structs.asdict(inputs))
        if result is None:
            return None
        if inspect.isawaitable(result) or inspect.isgenerator(result):
            raise SimulationError(f"{self.stepping} returned a {type(result).__name__}, which nobody runs")
        said: dict[str, Any] = sendable(result if isinstance(result, Mapping) else {"result": result})
        return said

    @property
    def finished(self) -> bool:  # type: ignore[override]  # the object says so, and nobody sets it
        """Whether the object is ``finished`` or ``done``."""
        for name in ("finished", "done"):
            if inspect.getattr_static(self.model, name, None) is not None:
                over = getattr(self.model, name)
                if not callable(over) and over:
                    return True
        return False

    @exported
    def get(self, name: str) -> Any:
        """Return an attribute of the object."""
        return attribute(self.model, name)


def _result(function: Callable[..., Any]) -> Any:
    try:
        return typing.get_type_hints(function).get("return")
    except NameError:  # an annotation that means nothing here
        return None


def _takes_self(kind: type, name: str) -> bool:
    return not isinstance(inspect.getattr_static(kind, name), staticmethod | classmethod)


def _forwarded(kind: type, name: str) -> Any:
    method = getattr(kind, name, None)
    if not callable(method):
        raise BadRequestError(
            f"{kind.__name__}.exported names {name!r}, which is no method of it",
            hint="attributes need not be exported: get returns them",
        )
    refuse_suspended(method, f"{kind.__name__}.{name}")
    if name != "get" and hasattr(ObjectSimulation, name):
        raise BadRequestError(
            f"{kind.__name__}.exported names {name!r}, which is a part of every simulation",
            hint="export a method of another name that calls it",
        )

    def forward(self: ObjectSimulation, *args: Any, **kwargs: Any) -> Any:
        return sendable(getattr(self.model, name)(*args, **kwargs))

    forward.__name__ = name
    forward.__annotations__ = getattr(method, "__annotations__", {})
    forward.__wrapped__ = method  # type: ignore[attr-defined]  # where those mean something
    forward.__doc__ = inspect.getdoc(method)
    signature = inspect.signature(method)
    if not _takes_self(kind, name):
        own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        signature = signature.replace(parameters=[own, *signature.parameters.values()])
    forward.__signature__ = signature  # type: ignore[attr-defined]
    return exported(forward)
