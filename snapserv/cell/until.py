"""Conditions that end a step: made into one function of a tick's outputs, which is called after each tick."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from snapserv_client.protocol import MOST_CONDITIONS, All, Compare, Condition, Holds, No, Some
from snapserv_client.wire import convert

from ..errors import BadRequestError
from ..simulation.calling import prepare_call
from ..simulation.readings import looking_at, refuse_missing

if TYPE_CHECKING:
    from ..simulation.base import Simulation

Test = Callable[[Mapping[str, Any]], bool]
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    ">": operator.gt,
}


def telling(simulation: Simulation, condition: Condition) -> Test:
    """Return what says of a tick's outputs whether a condition holds.

    What it returns raises BadRequestError where a tick does not put out what is compared, or what cannot be
    compared so, and SimulationError where an exported method raises.

    Raises:
        BadRequestError: It cannot be told.
        NotFoundError: There is no such field or exported method.
    """
    if _parts(condition) > MOST_CONDITIONS:
        raise BadRequestError(f"a condition may have {MOST_CONDITIONS} parts at most")
    return _telling(simulation, condition)


def held(simulation: Simulation, condition: Any, outputs: Mapping[str, Any] | None) -> bool | None:
    """Return whether a condition, as a message carries it, holds of what a tick has put out.

    None where there was no tick, and it is of outputs.

    Raises:
        BadRequestError: It cannot be told.
        NotFoundError: There is no such field or exported method.
        SimulationError: An exported method raised.
    """
    asked = convert({"until": condition}, _Asked, what="until").until
    if outputs is None and _is_of_outputs(asked):
        return None
    return telling(simulation, asked)(outputs or {})


def _telling(simulation: Simulation, condition: Condition) -> Test:
    if isinstance(condition, Compare):
        return _comparing(simulation, condition)
    if isinstance(condition, Holds):
        asked = prepare_call(simulation, condition.method)
        return lambda _: bool(asked())
    if isinstance(condition, No):
        inner = _telling(simulation, condition.of)
        return lambda outputs: not inner(outputs)
    tests = [_telling(simulation, each) for each in condition.of]
    if isinstance(condition, All):
        return lambda outputs: all(test(outputs) for test in tests)
    return lambda outputs: any(test(outputs) for test in tests)


def _comparing(simulation: Simulation, condition: Compare) -> Test:
    reading, value = condition.reading, condition.value
    look, compare = looking_at(simulation, reading), _OPERATORS[condition.op]
    if isinstance(value, str) and condition.op not in ("==", "!="):
        raise BadRequestError(f"{reading.label} {condition.op} {value!r}: texts are compared by == and != alone")

    def test(outputs: Mapping[str, Any]) -> bool:
        try:
            return bool(compare(look(outputs), value))
        except KeyError:
            raise refuse_missing(reading, outputs) from None
        except (TypeError, ValueError) as cause:
            raise BadRequestError(f"{reading.label} {condition.op} {value!r} cannot be told: {cause}") from cause

    return test


class _Asked(msgspec.Struct):
    until: Condition


def _is_of_outputs(condition: Condition) -> bool:
    if isinstance(condition, Compare):
        return condition.reading.output is not None
    if isinstance(condition, All | Some):
        return any(map(_is_of_outputs, condition.of))
    return isinstance(condition, No) and _is_of_outputs(condition.of)


def _parts(condition: Condition) -> int:
    if isinstance(condition, All | Some):
        return 1 + sum(map(_parts, condition.of))
    return 1 + _parts(condition.of) if isinstance(condition, No) else 1
