"""What is wrong with a class can be said when it is loaded: before its setup has run, and by name."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import msgspec

from ..errors import SimulationError, SnapservError
from .base import Simulation, is_exported

if TYPE_CHECKING:
    from collections.abc import Callable

CALLED = {
    "step": "step(self, inputs)",
    "example_inputs": "example_inputs(self)",
    "on_branch": "on_branch(self, seed)",
    "on_snapshot": "on_snapshot(self)",
    "on_drop": "on_drop(self)",
}
"""The methods that snapserv calls by position, and how."""
SUSPENDED = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)


def check(kind: type[Simulation]) -> None:
    """Check what can be told of a simulation by looking at its class.

    Raises:
        SimulationError: It has no ``step``, or a method that cannot be called as it will be, or one that no call
            runs; its ``Inputs`` are no struct, or mean nothing; or a field is hidden, or hides a method.
    """
    name = kind.__name__
    if kind.step is Simulation.step:
        raise SimulationError(f"{name} has no step", hint="write step(self, inputs), which advances it by one tick")
    for method, called in CALLED.items():
        _check_taken(kind, method, called)
    exported = (method for method, value in inspect.getmembers(kind, callable) if is_exported(value))
    for method in ("setup", *CALLED, *exported):
        if is_suspended(getattr(kind, method)):
            raise SimulationError(
                f"{name}.{method} is a coroutine or a generator: calling it runs nothing",
                hint="write it with def and without yield; what waits belongs into another process",
            )
    if not (inspect.isclass(kind.Inputs) and issubclass(kind.Inputs, msgspec.Struct)):
        raise SimulationError(
            f"{name}.Inputs is no msgspec.Struct",
            hint="write class Inputs(msgspec.Struct), with a type for each input",
        )
    _check_fields(kind)
    _check_described(kind.describe_inputs, f"{name}.Inputs")
    _check_described(kind.describe_params, f"{name}.setup")


def is_suspended(method: Callable[..., Any]) -> bool:
    """Return whether calling a method runs nothing of it yet: it is a coroutine, or a generator."""
    return any(check(method) for check in SUSPENDED)


def _check_taken(kind: type[Simulation], name: str, called: str) -> None:
    method = getattr(kind, name)
    if not callable(method):
        raise SimulationError(f"{kind.__name__}.{name} is no method", hint=f"write {called}, or call it otherwise")
    given = called.count(",") + 1
    if isinstance(inspect.getattr_static(kind, name), staticmethod | classmethod):
        given -= 1
    try:
        signature = inspect.signature(method)
    except ValueError:  # not written in Python
        return
    try:
        signature.bind(*range(given))
    except TypeError as cause:
        raise SimulationError(
            f"{kind.__name__}.{name}{signature} cannot be called as it is: {cause}", hint=f"write {called}"
        ) from None


def _check_fields(kind: type[Simulation]) -> None:
    for name, field in kind.fields.items():
        there = [vars(base)[name] for base in kind.__mro__ if name in vars(base)]
        if there[0] is not field or any(callable(each) for each in there):
            raise SimulationError(
                f"{kind.__name__}.{name} is a field and something else as well",
                hint="call one of the two otherwise",
            )


def _check_described(describe: Callable[[], Any], what: str) -> None:
    try:
        describe()
    except SnapservError:
        raise
    except Exception as cause:
        raise SimulationError(
            f"the annotations of {what} mean nothing: {type(cause).__name__}: {cause}",
            hint="import what they name where the class is, and use types that msgspec converts",
        ) from cause
