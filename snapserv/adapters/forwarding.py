"""What every adapter has: hooks, methods and attributes of the object that it serves, as clients may use them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import msgspec
from snapserv_client.plain import Value

from snapserv.errors import BadRequestError
from snapserv.simulation.base import Simulation, exported

from . import sdl
from .attributes import Setting, attribute, settings
from .wrapping import names, refuse_suspended, sendable, struct_of

OWN = frozenset({"get", "set"})
"""What an adapter exports that the object may do otherwise."""
SET = "set"
"""The input that sets attributes, where the object's own method takes none that is called so."""


class Forwarding(Simulation):
    """A simulation whose hooks and methods are those of the object that it serves.

    Of that object, ``on_branch(seed)``, ``on_snapshot()``, ``on_drop()`` and ``reseed(seed)`` are called where it
    has them, and clients may call what its attribute ``exported`` names. An adapter calls `export` when it is made.
    """

    @property
    def holders(self) -> Sequence[object]:
        """The objects that may have an attribute of a name, the first of them first."""
        return [self.authors]

    def export(self) -> None:
        """Have clients call those methods of the object that it lists as ``exported``.

        Raises:
            BadRequestError: It lists what is no method, or one that runs nothing when it is called.
        """
        kind = type(self)
        if forwarded := forwarded_by(type(self.authors), kind, names(getattr(self.authors, "exported", ()))):
            self.__class__ = type(kind.__name__, (kind,), {**forwarded, "__doc__": kind.__doc__})

    @exported
    def get(self, name: str) -> Value:
        """Return an attribute; a name may lead further, through keys and places: ``lakes.0.depth``."""
        found: Value = attribute(self.holders, name)
        return found

    @exported
    def set(self, name: str, value: Value) -> Value:
        """Set an attribute that is there to a value of its kind, and return what it is then."""
        self.put(self.prepare_settings({name: value}))
        found: Value = attribute(self.holders, name)
        return found

    def prepare_settings(self, values: Mapping[str, Value] | None) -> list[Setting]:
        """Return what sets attributes, all of which fit; nothing has happened yet.

        Raises:
            NotFoundError: One is not there.
            BadRequestError: A value does not fit.
        """
        return settings(self.holders, values) if values else []

    def put(self, prepared: Sequence[Setting]) -> None:
        """Set what was prepared."""
        for each in prepared:
            each.put()

    def has_hook(self, name: str) -> bool:
        """Return whether the object has a hook, or a subclass of the adapter."""
        return getattr(type(self), name) is not getattr(Forwarding, name) or self._hook(name) is not None

    def on_branch(self, seed: int | None) -> None:
        """Call the object's ``on_branch``."""
        hook = self._hook("on_branch")
        if hook is not None:
            hook(seed)

    def on_snapshot(self) -> None:
        """Call the object's ``on_snapshot``."""
        hook = self._hook("on_snapshot")
        if hook is not None:
            hook()

    def on_drop(self) -> None:
        """Call the object's ``on_drop``."""
        hook = self._hook("on_drop")
        if hook is not None:
            hook()

    def _hook(self, name: str) -> Callable[..., Any] | None:
        hook = getattr(self.authors, name, None)
        return hook if callable(hook) else None


class Wrapping(Forwarding):
    """A model made by somebody else's class or function, whose parameters are setup's."""

    factory: ClassVar[Callable[..., Any]]
    supplied: ClassVar[int] = 0
    """How many of the factory's first parameters the adapter supplies."""
    model: Any

    def setup(self, **params: Value) -> None:
        """Make the model."""
        sdl.play_nothing()
        self.model = self.make(**params)
        self.export()
        sdl.let_go()

    def make(self, **params: Any) -> Any:
        """Return the model."""
        return type(self).factory(**params)

    @property
    def authors(self) -> object:
        """The model."""
        return self.model

    @classmethod
    def _params_struct(cls) -> type[msgspec.Struct]:
        return struct_of(cls.factory, f"{cls.__name__}Params", skip=cls.supplied)


class Stepping(Wrapping):
    """A model whose method for a step has parameters: they are the inputs."""

    stepping: ClassVar[str]
    takes_set: ClassVar[bool]

    @staticmethod
    def stepped_by(kind: type, stepping: str) -> dict[str, Any]:
        """Return what a subclass says of the method for a step: what it is called, and its inputs."""
        inputs = struct_of(getattr(kind, stepping), f"{kind.__name__}Inputs", skip=takes_self(kind, stepping))
        takes_set = SET in inputs.__struct_fields__
        if not takes_set:
            more = [(SET, dict[str, Any] | None, None)]
            inputs = msgspec.defstruct(inputs.__name__, more, bases=(inputs,), kw_only=True)
        return {"stepping": stepping, "takes_set": takes_set, "Inputs": inputs}

    def advance(self, inputs: msgspec.Struct) -> Any:
        """Set attributes, if that is asked for, then call the method; return what it returns."""
        arguments = msgspec.structs.asdict(inputs)
        if not self.takes_set:
            self.put(self.prepare_settings(arguments.pop(SET)))
        result = getattr(self.model, self.stepping)(**arguments)
        sdl.let_go()
        return result


def forwarded_by(kind: type, adapter: type[Forwarding], listed: Sequence[str]) -> dict[str, Any]:
    """Return methods for an adapter that call those of the object, by their names.

    Raises:
        BadRequestError: One is no method, or a part of every simulation, or calling it runs nothing.
    """
    return {name: _forwarded(kind, adapter, name) for name in listed}


def takes_self(kind: type, name: str) -> bool:
    """Return whether the first parameter of a method is the object."""
    return not isinstance(inspect.getattr_static(kind, name), staticmethod | classmethod)


def _forwarded(kind: type, adapter: type[Forwarding], name: str) -> Any:
    method = getattr(kind, name, None)
    if not callable(method):
        raise BadRequestError(
            f"{kind.__name__}.exported names {name!r}, which is no method of it",
            hint="attributes need not be exported: get returns them",
        )
    refuse_suspended(method, f"{kind.__name__}.{name}")
    if name not in OWN and hasattr(adapter, name):
        raise BadRequestError(
            f"{kind.__name__}.exported names {name!r}, which is a part of every simulation",
            hint="export a method of another name that calls it",
        )

    def forward(self: Forwarding, *args: Any, **kwargs: Any) -> Any:
        result = sendable(getattr(self.authors, name)(*args, **kwargs))
        sdl.let_go()
        return result

    forward.__name__ = name
    forward.__annotations__ = getattr(method, "__annotations__", {})
    forward.__wrapped__ = method  # type: ignore[attr-defined]  # where those mean something
    forward.__doc__ = inspect.getdoc(method)
    signature = inspect.signature(method)
    if not takes_self(kind, name):
        own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        signature = signature.replace(parameters=[own, *signature.parameters.values()])
    forward.__signature__ = signature  # type: ignore[attr-defined]
    return exported(forward)
