"""What is wrong with a value, in words: readers know arguments and kinds of values, not how messages are checked.

msgspec says ``Expected `int`, got `str` - at `$.ticks```; here that is "ticks must be an integer, not text".
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin, get_type_hints

from .protocol import NAME_PATTERN

KINDS = {
    "int": "an integer",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "null": "null",
    "array": "a list",
    "object": "a map",
    "bytes": "bytes",
    "list": "a list",
    "dict": "a map",
    "numpy.ndarray": "an array",
}
GOT = {**KINDS, "bool": "a boolean"}
COUNTED = {"str": "character", "bytes": "byte", "array": "item", "object": "entry"}
BOUNDS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
OF_NAMES = "may have letters, digits and _.-, and begins with none of . and -"
MOST_QUOTED = 60

_PLACED = re.compile(r"(?P<said>.*?)(?: - at (?P<key>`key` in )?`\$(?P<path>[^`]*)`)?", re.DOTALL)
_KIND = re.compile(r"Expected `([^`]+)`(?:, got `([^`]+)`)?")
_BOUND = re.compile(r"Expected `([^`]+)` ([<>]=?) (\S+)")
_MULTIPLE = re.compile(r"Expected `[^`]+` that's a multiple of (\S+)")
_LENGTH = re.compile(r"Expected `([^`]+)` of length (?:([<>]=?) )?(\d+)(?:, got (\d+))?")
_PATTERN = re.compile(r"Expected `str` matching regex (.*)", re.DOTALL)
_CHOICE = re.compile(r"Invalid (?:enum )?value (.*)", re.DOTALL)
_FIELD = re.compile(r"Object (missing required|contains unknown) field `([^`]*)`")
_PART = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")


def in_words(cause: Exception, of: str = "", *, value: Any = None, kind: Any = None) -> str:
    """Return what a `msgspec.ValidationError` says.

    Args:
        cause: The error.
        of: What the value is called, if it has a name: what is wrong may be the whole of it.
        value: The value, of which the wrong part is repeated where that helps.
        kind: What it was held against: then what is allowed can be listed.
    """
    placed = _PLACED.fullmatch(str(cause))
    if placed is None:
        return str(cause)
    said, path = placed["said"], placed["path"] or ""
    subject = path.removeprefix(".") if path.startswith(".") else f"{of}{path}"
    subject = subject.replace("[...]", "") or "this"
    if "[...]" in path:
        subject = f"a value of {subject}"
    if placed["key"]:
        subject = f"a key of {subject}"
    if (field := _FIELD.fullmatch(said)) is not None:
        return _about_field(field[1] == "missing required", field[2], f" in {subject}" if path or of else "", kind)
    wrong = None if placed["key"] else _part(value, path)
    requirement = _requirement(said, wrong, path, kind)
    if requirement is None:  # said by whoever wrote the type
        return f"{subject}: {said}" if path or of else said
    return f"{subject} {requirement}"


def _requirement(said: str, wrong: Any, path: str, kind: Any) -> str | None:
    """Return what must be so of a value, and what it is; None where what is said is nothing of msgspec's."""
    quoted = "" if wrong is None else f", not {_short(wrong)}"
    if (found := _KIND.fullmatch(said)) is not None:
        got = f", not {GOT.get(found[2], f'a {found[2]}')}" if found[2] and found[2] != "float" else quoted
        return f"must be {_one_of(found[1])}{got or ', not a number'}"
    if (found := _BOUND.fullmatch(said)) is not None:
        return f"must be {BOUNDS[found[2]]} {_bound(found[3])}{quoted}"
    if (found := _MULTIPLE.fullmatch(said)) is not None:
        return f"must be a multiple of {_bound(found[1])}{quoted}"
    if (found := _LENGTH.fullmatch(said)) is not None:
        return _length(found[1], found[2], int(found[3]), found[4])
    if (found := _PATTERN.fullmatch(said)) is not None:
        is_name = found[1].strip("'") == NAME_PATTERN
        return f"{OF_NAMES}{quoted and quoted.replace(', not', '; it is')}" if is_name else f"must match {found[1]}"
    if (found := _CHOICE.fullmatch(said)) is not None:
        allowed = _allowed(kind, path)
        return f"must be {_one_of(' | '.join(allowed))}, not {found[1]}" if allowed else f"cannot be {found[1]}"
    if said.startswith("Invalid "):
        return f"must be a valid {said.removeprefix('Invalid ')}"
    return "is out of range" if said == "Integer value out of range" else None


def _about_field(missing: bool, name: str, where: str, kind: Any) -> str:
    if missing:
        return f"{name} is missing{where}"
    known = ", ".join(getattr(kind, "__struct_fields__", ())) if not where else ""
    return f"there is no {name!r}{where}" + (f"; there are: {known}" if known else "")


def _one_of(kinds: str) -> str:
    *others, last = " or ".join(KINDS.get(each, each) for each in kinds.split(" | ")).split(" or ")
    return f"{', '.join(others)} or {last}" if others else last


def _bound(text: str) -> str:
    number = float(text)
    return f"{int(number):,}" if number.is_integer() and abs(number) < 1e15 else text


def _length(kind: str, sign: str | None, count: int, got: str | None) -> str:
    if sign == ">=" and count == 1:
        return "must not be empty"
    unit = COUNTED.get(kind, "item")
    plural = unit if count == 1 else f"{unit[:-1]}ies" if unit.endswith("y") else f"{unit}s"
    amount = f"{BOUNDS[sign]} {count:,}" if sign else f"{count:,}"
    return f"must have {amount} {plural}" + (f", not {got}" if got else "")


def _part(value: Any, path: str) -> Any:
    """Return the part of a value at a path, if it is a number or text; None where it is something else."""
    for part in _PART.finditer(path):
        try:
            value = value[part[1]] if part[1] is not None else value[int(part[2])]
        except (KeyError, IndexError, TypeError, ValueError):
            return None
    return value if isinstance(value, str | int | float) else None


def _short(value: Any) -> str:
    text = f"{value:,}" if type(value) is int else repr(value)
    return text if len(text) <= MOST_QUOTED else f"{text[:MOST_QUOTED]}..."


def _allowed(kind: Any, path: str) -> list[str]:
    """Return the values that the argument at a path may have, where it is one of a few."""
    name = path.removeprefix(".")
    if kind is None or (name and not name.isidentifier()):
        return []
    try:
        hint = get_type_hints(kind, include_extras=True).get(name) if name else kind
    except Exception:  # noqa: BLE001 - an annotation that means nothing here, whatever it raises
        return []
    return list(_choices(hint))


def _choices(hint: Any) -> Iterator[str]:
    if get_origin(hint) is Literal:
        yield from map(repr, get_args(hint))
        return
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        yield from (repr(member.value) for member in hint)
    if hint is int:
        yield KINDS["int"]
    for part in get_args(hint):
        yield from _choices(part)
