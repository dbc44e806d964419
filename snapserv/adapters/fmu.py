"""Functional mock-up units: ``fmu:FILE.fmu``, for co-simulation, of FMI 2.0 and 3.0.

What its description calls a parameter is a parameter of setup, an input an input of a step, an output an output.
Where a name is none that Python has (``body.m``), it is given in ``start``, and in ``set`` with a step.

Sources: the FMI standard, https://fmi-standard.org/docs/ ; FMPy, https://fmpy.readthedocs.io/
"""

from __future__ import annotations

import difflib
import keyword
import os
import tempfile
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import fmpy  # type: ignore[import-untyped,import-not-found,unused-ignore]
import msgspec
import numpy as np
from fmpy import simulation as fmi
from snapserv_client.plain import Value

from snapserv.errors import BadRequestError, NotFoundError, SimulationError
from snapserv.simulation.base import Simulation, exported

from .wrapping import sendable

_KINDS: dict[str, Any] = {"Boolean": bool, "String": str, "Binary": bytes, "Clock": bool}
_OWN = ("start", "step_size", "start_time", "set")


def adapt(rest: str) -> type[Simulation]:
    """Return the class that serves the unit in the file ``rest``.

    Raises:
        NotFoundError: There is no such file.
        BadRequestError: It is no unit, or none for co-simulation of FMI 2.0 or 3.0 on this platform.
    """
    if not os.path.isfile(rest):
        raise NotFoundError(f"no file {rest!r}", hint="fmu:FILE.fmu")
    try:
        described = fmpy.read_model_description(rest)
        platforms = fmpy.supported_platforms(rest)
    except Exception as cause:  # whatever reading a file raises that is none
        raise BadRequestError(f"{rest} cannot be read: {cause}", hint="fmu:FILE.fmu, of FMI 2.0 or 3.0") from cause
    if described.coSimulation is None or described.fmiVersion.startswith("1"):
        raise BadRequestError(
            f"{rest} is of FMI {described.fmiVersion}, {'' if described.coSimulation else 'not '}for co-simulation",
            hint="export it for co-simulation, of FMI 2.0 or 3.0",
        )
    if fmpy.platform not in platforms:
        raise BadRequestError(
            f"{rest} is for {', '.join(platforms) or 'no platform'}, and this is {fmpy.platform}",
            hint=f"export it for {fmpy.platform}",
        )
    variables = {each.name: each for each in described.modelVariables}
    said = {
        "path": os.path.abspath(rest),
        "described": described,
        "variables": variables,
        "Inputs": _struct(f"{described.modelName}Inputs", variables, "input", set=dict[str, Any] | None),
        "__doc__": described.description or f"The unit {described.modelName}.",
    }
    name = "".join(each if each.isalnum() else "_" for each in described.modelName) or "Unit"
    return type(name, (FMUSimulation,), said)


class FMUSimulation(Simulation):
    """A functional mock-up unit. A tick is a communication step."""

    path: ClassVar[str]
    described: ClassVar[Any]
    variables: ClassVar[Mapping[str, Any]]

    def setup(self, **params: Any) -> None:
        """Load the unit, set its parameters, and initialize it.

        Its own are ``start``, start values by name of whatever has one; ``step_size`` of a communication step, in
        the unit's time, what the unit proposes by default; and ``start_time``. The others are the unit's.
        """
        start, step_size, start_time = (params.pop(name) for name in ("start", "step_size", "start_time"))
        chosen = {**start, **{name: each for name, each in params.items() if each != self._begins_at(name)}}
        values = {name: self._fitting(name, value) for name, value in chosen.items()}
        self.step_size, self.time = step_size or self._proposed("stepSize", 0.01), start_time
        folder = fmpy.extract(self.path, unzipdir=tempfile.mkdtemp(prefix="fmu-"))
        self.unit = fmi.instantiate_fmu(folder, self.described, "CoSimulation", require_functions=False)
        left = self._apply(values, fmi.settable_in_instantiated)
        if self.described.fmiVersion.startswith("2"):
            self.unit.setupExperiment(startTime=start_time)
            self.unit.enterInitializationMode()
        else:
            self.unit.enterInitializationMode(startTime=start_time)
        left = self._apply(left, fmi.settable_in_initialization_mode)
        self.unit.exitInitializationMode()
        if left:
            raise BadRequestError(f"{', '.join(left)} cannot be set at the start", hint="they are computed")

    def step(self, inputs: msgspec.Struct) -> dict[str, Value]:
        """Set inputs and what is to be set besides, then do a communication step.

        Raises:
            BadRequestError: A value does not fit, or cannot be set between steps.
            SimulationError: The unit refused a value, or the step.
        """
        given = {name: value for name, value in msgspec.structs.asdict(inputs).items() if value is not None}
        values = {**given.pop("set", {}), **given}
        fitting = {name: self._fitting(name, value) for name, value in values.items()}
        self._put(fitting)
        try:
            said = self.unit.doStep(currentCommunicationPoint=self.time, communicationStepSize=self.step_size)
        except fmpy.fmi1.FMICallException as cause:
            raise SimulationError(f"the unit refused a step at {self.time:g}: {cause}") from cause
        self.time += self.step_size
        if said is not None:  # of FMI 3.0: event, terminates, returned early, last successful time
            self.finished, self.time = bool(said[1]), float(said[3]) if said[2] else self.time
        return self.outputs()

    @exported
    def outputs(self) -> dict[str, Value]:
        """Return the time, and every output."""
        named = {name: self._value(each) for name, each in self.variables.items() if each.causality == "output"}
        return {**named, "time": self.time}

    @exported
    def get(self, name: str) -> Value:
        """Return the value of a variable."""
        found: Value = self._value(self._variable(name))
        return found

    @exported
    def set(self, name: str, value: Value) -> Value:
        """Set an input or a tunable parameter; return what it is then."""
        self._put({name: self._fitting(name, value)})
        return self.get(name)

    @exported
    def describe(self) -> dict[str, Value]:
        """Return every variable: what it is, its type, unit and start value."""
        return {
            name: sendable(
                {
                    "causality": each.causality,
                    "variability": each.variability,
                    "type": each.type,
                    "unit": each.unit or "",
                    "start": each.start,
                    "doc": each.description or "",
                }
            )
            for name, each in self.variables.items()
        }

    @classmethod
    def _params_struct(cls) -> type[msgspec.Struct]:
        positive = Annotated[float, msgspec.Meta(ge=0)]
        more = {"start": (dict[str, Any], msgspec.field(default_factory=dict)), "step_size": (positive, 0.0)}
        own = _struct(f"{cls.__name__}Params", cls.variables, "parameter")
        fields = [(name, *kind) for name, kind in {**more, "start_time": (float, 0.0)}.items()]
        return msgspec.defstruct(own.__name__, fields, bases=(own,), kw_only=True)

    def _proposed(self, name: str, otherwise: float) -> float:
        proposed = getattr(self.described.defaultExperiment, name, None)
        return float(proposed) if proposed else otherwise

    def _begins_at(self, name: str) -> Any:
        return _typed(self.variables[name])

    def _variable(self, name: str) -> Any:
        if name not in self.variables:
            close = difflib.get_close_matches(name, self.variables, n=3)
            hint = f"did you mean {' or '.join(close)}?" if close else "describe lists them"
            raise NotFoundError(f"no variable {name!r}", hint=hint)
        return self.variables[name]

    def _fitting(self, name: str, value: Any) -> Any:
        variable = self._variable(name)
        kind = _kind(variable)
        fits = isinstance(value, kind | int if kind is float else kind) and (kind is bool) == isinstance(
            value, bool
        )
        if variable.dimensions:
            return np.ravel(value).tolist()
        if not fits:
            raise BadRequestError(f"{name}: {value!r}", hint=f"{variable.type} is wanted")
        return value

    def _put(self, values: Mapping[str, Any]) -> None:
        for name in values:
            variable = self.variables[name]
            if variable.causality != "input" and variable.variability != "tunable":
                raise BadRequestError(
                    f"{name} is a {variable.variability or ''} {variable.causality or 'local variable'}, "
                    "and cannot be set between steps",
                    hint="inputs and tunable parameters can; others at the start",
                )
        self._apply(values, lambda variable: True)

    def _apply(self, values: Mapping[str, Any], settable: Any) -> dict[str, Any]:
        try:
            left: dict[str, Any] = fmi.apply_start_values(self.unit, self.described, dict(values), settable)
        except fmpy.fmi1.FMICallException as cause:
            raise SimulationError(f"the unit refused {', '.join(values)}: {cause}") from cause
        return left

    def _value(self, variable: Any) -> Any:
        version = 2 if self.described.fmiVersion.startswith("2") else 3
        kind = {"Enumeration": "Integer" if version == 2 else "Int64"}.get(variable.type, variable.type)
        size = int(np.prod([each.start for each in variable.dimensions], dtype=int)) if variable.dimensions else 1
        more = {"nValues": size} if version == 3 and size > 1 else {}
        values = getattr(self.unit, f"get{kind}")([variable.valueReference], **more)
        values = [bool(each) if kind == "Boolean" else each for each in values]
        values = [
            each.decode(errors="replace") if isinstance(each, bytes) and kind == "String" else each
            for each in values
        ]
        return values[0] if size == 1 else np.array(values)


def _struct(name: str, variables: Mapping[str, Any], causality: str, **more: Any) -> type[msgspec.Struct]:
    """Return a struct with a field for each variable of a causality whose name is one in Python.

    A parameter's default is where it starts; that of an input is None, which leaves it as it is.
    """
    fields: list[tuple[str, Any, Any]] = []
    for each in variables.values():
        usable = each.name.isidentifier() and not keyword.iskeyword(each.name) and each.name not in _OWN
        if each.causality == causality and usable:
            kind = Any if each.dimensions else _kind(each)
            default = _typed(each) if causality == "parameter" else None
            fields.append((each.name, kind if kind is Any or default is not None else kind | None, default))
    fields += [(key, kind, None) for key, kind in more.items()]
    return msgspec.defstruct("".join(c if c.isalnum() else "_" for c in name), fields, kw_only=True)


def _kind(variable: Any) -> Any:
    return _KINDS.get(variable.type, float if "Float" in variable.type or variable.type == "Real" else int)


def _typed(variable: Any) -> Any:
    """Return where a variable starts, as a value; None where its description does not say, or it is an array."""
    start = variable.start
    if start is None or variable.dimensions:
        return None
    return str(start).lower() in ("true", "1") if _kind(variable) is bool else _kind(variable)(start)
