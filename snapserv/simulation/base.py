"""What an author subclasses: a simulation, its parameters and its inputs."""

from __future__ import annotations

import enum
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Never, TypeVar

import msgspec
import numpy as np
from snapserv_client.arrays import dtype_to_wire
from snapserv_client.plain import Array, Sendable, Value
from snapserv_client.protocol import FieldInfo, MethodInfo

from ..errors import BadRequestError, NotFoundError, SimulationError
from ..memory.arena import Arena
from .fields import Field, misnamed, nameless
from .inputs import watch
from .reseeding import Streams

if TYPE_CHECKING:
    from typing import Self

    from snapserv_client.plain import InputValues as Given

Method = TypeVar("Method", bound=Callable[..., object])


def exported(method: Method) -> Method:
    """Mark a method of a simulation as one that clients may run with ``call``."""
    method.__dict__["exported"] = True
    return method


def is_exported(method: object) -> bool:
    """Return whether clients may run a method."""
    return getattr(method, "exported", None) is True


class NoInputs(msgspec.Struct):
    """The inputs of a simulation that declares none."""


class Simulation:
    """Base class of simulations. Override ``setup`` and ``step``; see docs/writing-a-simulation.md.

    State is the fields, which live in the arena, and any other attribute, which is ordinary Python state.
    Both are forked with the process, so neither needs code to save or restore it.
    """

    Inputs: ClassVar[type[msgspec.Struct]] = NoInputs
    fields: ClassVar[dict[str, Field]] = {}
    rewindable: ClassVar[tuple[str, ...]] = ()
    """Attributes that ``rewind`` puts back besides fields and random generators: a deep copy of each is kept."""

    branch_dirs: ClassVar[tuple[str, ...]] = ()
    """Folders that belong to the node: each sees what it wrote there itself, and the user's own are not changed."""

    allow: ClassVar[tuple[str, ...]] = ()
    """Kinds of what a clone shares or loses that are meant, and so not refused; see docs/what-branches.md."""

    finished: bool = False
    """Whether there is nothing more to step: set it, and a request's ticks end there, without an error."""

    _arrays: dict[str, Array]
    _params: dict[str, Any]
    _arena: Arena
    _rng: np.random.Generator | None
    _streams: Streams

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        own = {name: value for name, value in vars(cls).items() if isinstance(value, Field)}
        for name in own:
            if hasattr(Simulation, name):
                raise misnamed(f"{cls.__name__}.{name}: a field may not be called like a part of Simulation")
        for field in nameless.pop((cls.__module__, cls.__qualname__), ()):
            raise misnamed(f"{cls.__name__}: its field of line {field.line} is hidden by what has its name")
        cls.fields = {**cls.fields, **own}

    if TYPE_CHECKING:
        setup: Callable[..., None]
        """Fill the fields and set other state; what it takes is the author's to say."""
    else:

        def setup(self) -> None:
            """Fill the fields and set other state, once a tree. Its keyword parameters are the simulation's."""

    def step(self, inputs: Never) -> Mapping[str, Sendable] | None:
        """Advance by one tick, in place.

        Args:
            inputs: The request's inputs, validated: an instance of ``Inputs``, which is what to annotate it with.

        Returns:
            Outputs for the client: plain values, numpy scalars and arrays; or None.
        """
        raise NotImplementedError(f"{type(self).__name__} has no step method")

    def example_inputs(self) -> Given:
        """Return inputs that a tick takes, for ``snapserv doctor`` to try one; none by default."""
        return {}

    def on_branch(self, seed: int | None) -> None:
        """Make a new branch different from its siblings, in its own process, before its first step.

        Args:
            seed: None where the branch keeps its random stream (``rng="same"``); otherwise a seed of its own,
                with which every random stream that was found has been reseeded already.
        """

    def on_snapshot(self) -> None:
        """Make ready to be copied, in the branch that a snapshot is about to be taken of: flush, or write down."""

    def on_drop(self) -> None:
        """Give back what is this branch's alone, in its own process, before it is ended on purpose.

        Not where it is killed or dies, nor when the server ends; and a snapshot, which runs no Python, has no say.
        """

    @property
    def rng(self) -> np.random.Generator:
        """The simulation's random generator, seeded from ``setup``'s parameter ``seed`` (0 without one)."""
        if self._rng is None:
            self._rng = np.random.default_rng(self._streams.seed)
        return self._rng

    @property
    def arena(self) -> Arena:
        """The memory that holds the fields."""
        return self._arena

    @classmethod
    def build(cls, arena: Arena | None = None, /, **params: Sendable | enum.Enum) -> Self:
        """Return an instance whose ``setup`` has run in this process, on an arena of its own by default.

        This is how a simulation is tested without a server. The arena is not sealed.

        Raises:
            BadRequestError: An unknown parameter or one of the wrong type; the caller's fault.
            OverBudgetError: The arena does not fit in this machine's memory.
            SimulationError: A field has a shape that stays unknown; the author's fault.
        """
        simulation = cls.__new__(cls)
        simulation._arrays = {}
        simulation._params = cls.bind(params)
        simulation._arena = Arena() if arena is None else arena
        simulation._rng = None
        simulation._streams = Streams(simulation._params.get("seed", 0))
        watch(cls.Inputs)  # once, here, rather than in each branch
        for field in cls.fields.values():
            shape = field.resolve(lambda name: simulation._params.get(name))
            if shape is not None:
                simulation._arrays[field.name] = simulation._arena.allocate(field.name, field.dtype, shape)
        simulation.setup(**simulation._params)
        for field in cls.fields.values():
            field.__get__(simulation, cls)
        return simulation

    @property
    def authors(self) -> object:
        """The object whose hooks are the author's: an adapter's is the one that it serves."""
        return self

    def has_hook(self, name: str) -> bool:
        """Return whether the author has written the hook ``name``, which is called like one of this class."""
        return getattr(type(self), name) is not getattr(Simulation, name)

    def find_streams(self, most: int | None = None) -> None:
        """Find the random streams that there are: at the end of setup, and where ticks may have made new ones.

        ``most`` is how many objects are looked at; all by default.
        """
        self._streams.look(self, most)

    def begin_branch(self, seed: int | None) -> tuple[list[str], list[str]]:
        """Give a branch its random streams, then call the author's ``reseed``, if there is one, and `on_branch`.

        With a seed, every stream that was found gets another state, in place; see `snapserv.simulation.reseeding`.
        Without one all of them stay what they are.

        Returns:
            The names of what was reseeded, and what may have been missed.
        """
        names: list[str] = []
        missed: list[str] = []
        if seed is not None:
            names, missed = self._streams.reseed(self, seed)
            names += self._reseed_own(seed)
            if self.has_hook("on_branch"):
                names.append(f"{type(self).__name__}.on_branch")
        self.on_branch(seed)
        return names, missed

    def streams_stand(self) -> list[tuple[str, bytes]]:
        """Return each random stream that was found, by its name, and where it stands: as bytes, to be compared."""
        return self._streams.stand()

    def _reseed_own(self, seed: int) -> list[str]:
        """Have the author's own ``reseed`` do what only it can, as for a stream in C; return its name."""
        reseed = getattr(self.authors, "reseed", None)
        if not callable(reseed):
            return []
        reseed(seed)
        return [f"{type(self.authors).__name__}.reseed"]

    # ------------------------------------------------------------------------------------ described for clients

    @classmethod
    def bind(cls, params: Mapping[str, Sendable | enum.Enum]) -> dict[str, Any]:
        """Return ``setup``'s parameters with defaults filled in, checked against its annotations.

        Raises:
            BadRequestError: Names the parameter, what was wrong and what is allowed.
        """
        kind = cls._params_struct()
        _refuse_unknown(params, kind.__struct_fields__, f"parameter of {cls.__name__}.setup")
        # Who builds one in Python gives members, and msgspec takes what they stand for.
        given = {name: value.value if isinstance(value, enum.Enum) else value for name, value in params.items()}
        try:
            bound = msgspec.convert(given, kind, strict=False)
        except msgspec.ValidationError as cause:
            from snapserv_client.refusals import in_words

            said = in_words(cause, value=given, kind=kind)
            raise BadRequestError(f"parameters of {cls.__name__}: {said}") from cause
        return {name: getattr(bound, name) for name in kind.__struct_fields__}

    @classmethod
    def convert_inputs(cls, raw: Given) -> msgspec.Struct:
        """Return ``raw`` as an instance of ``Inputs``.

        Raises:
            BadRequestError: Names the input, what was wrong and what is allowed.
        """
        _refuse_unknown(raw, cls.Inputs.__struct_encode_fields__, f"input of {cls.__name__}")
        try:
            return msgspec.convert(raw, cls.Inputs)
        except msgspec.ValidationError as cause:
            from snapserv_client.refusals import in_words

            said = in_words(cause, value=raw, kind=cls.Inputs)
            raise BadRequestError(f"inputs of {cls.__name__}: {said}") from cause

    @classmethod
    def describe_inputs(cls) -> dict[str, Value]:
        """Return the JSON schema of the inputs."""
        return _schema(cls.Inputs)

    @classmethod
    def describe_params(cls) -> dict[str, Value]:
        """Return the JSON schema of ``setup``'s parameters."""
        return _schema(cls._params_struct())

    @classmethod
    def describe_methods(cls) -> list[MethodInfo]:
        """Return the methods that clients may call."""
        return [
            MethodInfo(name, str(inspect.signature(method)), inspect.getdoc(method) or "")
            for name, method in inspect.getmembers(cls, callable)
            if is_exported(method)
        ]

    def describe_fields(self) -> list[FieldInfo]:
        """Return the fields with their shapes resolved."""
        return [
            FieldInfo(name, dtype_to_wire(array.dtype), list(array.shape), field.units, field.doc, list(field.dims))
            for name, field, array in ((name, field, self._arrays[name]) for name, field in self.fields.items())
        ]

    def array(self, name: str) -> Array:
        """Return the array of the field called ``name``.

        Raises:
            NotFoundError: No such field; the message lists those that exist.
        """
        try:
            return self._arrays[name]
        except KeyError:
            raise NotFoundError(
                f"{type(self).__name__} has no field {name!r}", hint=f"fields: {', '.join(self.fields) or 'none'}"
            ) from None

    def exported_method(self, name: str) -> Callable[..., Value]:
        """Return the bound method ``name``, if the author exported it.

        Raises:
            NotFoundError: No such method, or one that is not exported.
        """
        method = getattr(type(self), name, None)
        if not is_exported(method):
            names = ", ".join(info.name for info in self.describe_methods()) or "none"
            raise NotFoundError(
                f"{type(self).__name__} exports no method {name!r}", hint=f"exported methods: {names}"
            )
        bound: Callable[..., Any] = getattr(self, name)
        return bound

    @classmethod
    def _params_struct(cls) -> type[msgspec.Struct]:
        hints = typing.get_type_hints(cls.setup, include_extras=True)
        fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
        for parameter in list(inspect.signature(cls.setup).parameters.values())[1:]:
            if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                raise SimulationError(
                    f"{cls.__name__}.setup takes *{parameter.name}", hint="name every parameter of setup"
                )
            kind = hints.get(parameter.name, Any)
            if parameter.default is parameter.empty:
                fields.append((parameter.name, kind))
            else:
                fields.append((parameter.name, kind, parameter.default))
        return msgspec.defstruct(f"{cls.__name__}Params", fields, kw_only=True)

    def _allocate(self, field: Field) -> Array:
        def size(name: str) -> Any:
            return self._params.get(name, getattr(self, name, None))

        shape = field.resolve(size)
        if shape is None:
            raise SimulationError(
                f"{type(self).__name__}.{field.name}: the shape {field.shape} is not known yet",
                hint="each name in a shape is a parameter of setup, or an attribute set before the field is used",
            )
        array = self._arena.allocate(field.name, field.dtype, shape)
        self._arrays[field.name] = array
        return array


def _refuse_unknown(given: Mapping[str, Any], known: Sequence[str], what: str) -> None:
    for name in given:
        if name not in known:
            from difflib import get_close_matches

            close = get_close_matches(str(name), known, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise BadRequestError(f"{name!r} is no {what}", hint=f"{hint}allowed: {', '.join(known) or 'none'}")


def _schema(kind: type[msgspec.Struct]) -> dict[str, Any]:
    def plain(other: type) -> dict[str, Any]:
        return {"description": getattr(other, "__name__", str(other))}

    return msgspec.json.schema(kind, schema_hook=plain)
