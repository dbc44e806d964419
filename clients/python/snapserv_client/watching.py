"""What a client wants looked at after each tick: readings to record, and conditions at which a run is to stop.

``when("served") >= 500`` is a condition on an output, ``when(field("state").mean()) > 0.5`` one on a field;
``&``, ``|`` and ``~`` join them. They go to the simulation as data: nothing is evaluated there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, TypeAlias

from .errors import BadRequestError
from .protocol import All, Compare, Condition, Holds, No, Reading, Some

__all__ = ["Until", "Watched", "condition", "field", "holds", "reading_of", "readings_of", "when"]

Reduction: TypeAlias = Literal["sum", "mean", "min", "max"]
_REDUCED = re.compile(r"(sum|mean|min|max)\(\s*([A-Za-z_]\w*)\s*\)")
_ELEMENT = re.compile(r"([A-Za-z_]\w*)\[\s*(-?\d+(?:\s*,\s*-?\d+)*)\s*\]")


class Field:
    """A field, of which a number is to be looked at."""

    def __init__(self, name: str) -> None:
        self._name = name

    def sum(self) -> Reading:
        """Return the sum of all elements."""
        return Reading(field=self._name, reduce="sum")

    def mean(self) -> Reading:
        """Return the mean of all elements."""
        return Reading(field=self._name, reduce="mean")

    def min(self) -> Reading:
        """Return the smallest element."""
        return Reading(field=self._name, reduce="min")

    def max(self) -> Reading:
        """Return the largest element."""
        return Reading(field=self._name, reduce="max")

    def __getitem__(self, at: int | tuple[int, ...]) -> Reading:
        """Return one element, by an index for each axis."""
        return Reading(field=self._name, at=(at,) if isinstance(at, int) else at)


Watched: TypeAlias = str | Reading
"""The name of an output, ``mean(field)`` or ``field[1, 2]`` as text, or what `field` gives."""


def field(name: str) -> Field:
    """Return a field: ``field("state").mean()``, ``field("state")[3, 4]``."""
    return Field(name)


def reading_of(watched: Watched) -> Reading:
    """Return what is meant: text is an output, ``sum(field)`` and the like, or an element of a field."""
    if isinstance(watched, Reading):
        return watched
    if found := _REDUCED.fullmatch(watched):
        how: Reduction = found[1]  # type: ignore[assignment]
        return Reading(field=found[2], reduce=how)
    if found := _ELEMENT.fullmatch(watched):
        return Reading(field=found[1], at=tuple(map(int, found[2].split(","))))
    return Reading(output=watched)


def readings_of(watched: Watched | Iterable[Watched]) -> list[Reading]:
    """Return what is meant by one of them, or by several."""
    return [*map(reading_of, (watched,) if isinstance(watched, str | Reading) else watched)]


class Until:
    """A condition at which a run stops. It has no truth value of its own: that is told tick by tick."""

    def __init__(self, condition: Condition) -> None:
        self.condition = condition

    def __and__(self, other: Until) -> Until:
        return Until(All([self.condition, other.condition]))

    def __or__(self, other: Until) -> Until:
        return Until(Some([self.condition, other.condition]))

    def __invert__(self) -> Until:
        return Until(No(self.condition))

    def __bool__(self) -> bool:
        raise BadRequestError("a condition is true or false of a tick", hint="join conditions with &, | and ~")

    def __repr__(self) -> str:
        return _said(self.condition)


class When:
    """A reading that is to be compared."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def _compared(self, op: Literal["<", "<=", "==", "!=", ">=", ">"], value: object) -> Until:
        if isinstance(value, bool | int | float | str):
            return Until(Compare(self._reading, op, value))
        plain = getattr(value, "item", None)  # a scalar of numpy's
        if plain is None:
            raise BadRequestError(
                f"{self._reading.label} {op} {value!r}: it is compared with a number, a truth value or a text"
            )
        return self._compared(op, plain())

    def __lt__(self, value: float) -> Until:
        return self._compared("<", value)

    def __le__(self, value: float) -> Until:
        return self._compared("<=", value)

    def __ge__(self, value: float) -> Until:
        return self._compared(">=", value)

    def __gt__(self, value: float) -> Until:
        return self._compared(">", value)

    def __eq__(self, value: object) -> Until:  # type: ignore[override]
        return self._compared("==", value)

    def __ne__(self, value: object) -> Until:  # type: ignore[override]
        return self._compared("!=", value)


def when(watched: Watched) -> When:
    """Return a reading to be compared with a number: ``when("served") >= 500``."""
    return When(reading_of(watched))


def holds(method: str) -> Until:
    """Return the condition that an exported method, which takes no arguments, returns true."""
    return Until(Holds(method))


_COMPARED = re.compile(r"\s*(.+?)\s*(<=|>=|==|!=|<|>)\s*(.+?)\s*")


def condition(text: str) -> Until:
    """Return the condition that a text says: ``served >= 500``, ``mean(state) > 0.5 and tick < 100``, ``is_over``.

    ``and`` binds closer than ``or``; there are no brackets. A word alone is an exported method.

    Raises:
        BadRequestError: It says none.
    """
    some = [_all(part) for part in re.split(r"\s+or\s+", text.strip())]
    return some[0] if len(some) == 1 else Until(Some([each.condition for each in some]))


def _all(text: str) -> Until:
    every = [_one(part) for part in re.split(r"\s+and\s+", text)]
    return every[0] if len(every) == 1 else Until(All([each.condition for each in every]))


def _one(text: str) -> Until:
    if text.startswith("not "):
        return ~_one(text[4:].strip())
    if found := _COMPARED.fullmatch(text):
        op: Literal["<", "<=", "==", "!=", ">=", ">"] = found[2]  # type: ignore[assignment]
        return Until(Compare(reading_of(found[1]), op, _value(found[3])))
    if re.fullmatch(r"[A-Za-z_]\w*", text):
        return holds(text)
    raise BadRequestError(
        f"{text!r} is no condition", hint="as in: served >= 500, or the name of an exported method"
    )


def _value(text: str) -> bool | int | float | str:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text.strip("'\"")


def _said(condition: Condition, *, inner: bool = False) -> str:
    if isinstance(condition, Compare):
        return f"{condition.reading.label} {condition.op} {condition.value!r}"
    if isinstance(condition, Holds):
        return condition.method
    if isinstance(condition, No):
        return f"not {_said(condition.of, inner=True)}"
    joined = (" and " if isinstance(condition, All) else " or ").join(
        _said(each, inner=True) for each in condition.of
    )
    return f"({joined})" if inner else joined
