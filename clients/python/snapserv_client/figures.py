"""Values as people read them: numbers with as many digits as say something, arrays by what they are and span.

For eyes alone: what programs read is the value itself.
"""

from __future__ import annotations

import datetime
import itertools
import math
from collections.abc import Mapping
from typing import Any

DIGITS = 6
"""Significant digits of a fraction; whole numbers have all of theirs."""
PLAIN_FROM, PLAIN_BELOW = 1e-4, 1e15
"""Between these a number is written out, and outside with an exponent."""
UNITS = ("KiB", "MiB", "GiB", "TiB")
MOST_VALUES = 8
"""An array of no more elements is shown by its values."""
MOST_TEXT = 500
MOST_DEPTH = 4
KINDS = {"i": "int", "u": "uint", "f": "float", "c": "complex"}
NUMBERS = "biuf"
"""Kinds of numpy's dtypes whose elements have a least and a greatest one."""


def number(value: float) -> str:
    """Return a number: ``1,234,567``, ``0.3``, ``12,345.7``, ``1.5e-07``."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if not value or not math.isfinite(value):
        return "0" if not value else str(value)
    size = abs(value)
    if not PLAIN_FROM <= size < PLAIN_BELOW:
        return f"{value:.{DIGITS}g}"
    before = len(str(int(size))) if size >= 1 else 0
    leading = 0 if size >= 1 else -math.floor(math.log10(size)) - 1
    text = f"{value:,.{max(0, DIGITS - before) + leading}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def mebibytes(size: int) -> str:
    """Return a size in MiB, without the unit; what is there is never shown as nothing."""
    mib = size / (1 << 20)
    return f"{mib:,.1f}" if mib >= 0.05 or not size else f"{mib:.2g}"


def space(size: int) -> str:
    """Return how much memory or storage something takes, with the unit that suits it: ``36 KiB``, ``1.5 MiB``."""
    if size < 1 << 10:
        return f"{size:,} B"
    unit = next((unit for unit in UNITS if size < 1000 << (10 * (UNITS.index(unit) + 1))), UNITS[-1])
    amount = size / (1 << (10 * (UNITS.index(unit) + 1)))
    return f"{amount:,.0f} {unit}" if unit == "KiB" else f"{amount:,.1f} {unit}"


def duration(seconds: float) -> str:
    """Return how long something has lasted: ``12 s``, ``3 min 20 s``, ``5 h 12 min``, ``3 d 4 h``."""
    for unit, size, below, part in (("d", 86_400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= size:
            return f"{int(seconds // size):,} {unit} {int(seconds % size // part)} {below}"
    return f"{seconds:.0f} s"


def counted(count: int, what: str) -> str:
    """Return so many of something: ``1 node``, ``2 nodes``, ``3 branches``."""
    plural = "" if count == 1 else "es" if what.endswith("ch") else "s"
    return f"{count:,} {what}{plural}"


def moment(seconds: float) -> str:
    """Return when something was, for people: by the clock of this place."""
    return datetime.datetime.fromtimestamp(seconds).isoformat(" ", "seconds")


def said(value: Any, depth: int = 0) -> str:
    """Return any value that a simulation can put out, on a line: text as it is, the rest as short as it can be."""
    if isinstance(value, str):
        return value if not depth else repr(value)
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, complex):
        return f"{number(value.real)}{'-' if value.imag < 0 else '+'}{number(abs(value.imag))}j"
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if hasattr(value, "dtype"):
        return array(value)
    if depth >= MOST_DEPTH:
        return "..."
    if isinstance(value, Mapping):
        return f"{{{_first([f'{key}: {said(value[key], depth + 1)}' for key in _some(value)], len(value))}}}"
    if isinstance(value, list | tuple):
        return f"[{_first([said(each, depth + 1) for each in _some(value)], len(value))}]"
    text = str(value)
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}..."


def _some(values: Any) -> list[Any]:
    return list(itertools.islice(values, MOST_VALUES))


def _first(shown: list[str], count: int) -> str:
    more = [f"... {count - len(shown):,} more"] if count > len(shown) else []
    return ", ".join([*shown, *more])


def array(value: Any) -> str:
    """Return an array of numpy's on a line: what it is, and its values where they are few, else what it spans."""
    if not value.shape:
        return _element(value[()] if hasattr(value, "ndim") else value)
    if value.size <= MOST_VALUES:
        return f"{kind(value)}: {_values(value)}" if value.size else f"{kind(value)}, empty"
    found = summary(value)
    return f"{kind(value)}: {', '.join(f'{name} {text}' for name, text in found.items())}" if found else kind(value)


def kind(value: Any) -> str:
    """Return an array's dtype and shape: ``float64 [512, 512]``."""
    return f"{value.dtype} {list(value.shape)}"


def extremes(value: Any) -> dict[str, Any]:
    """Return the least, mean and greatest element of an array of numbers, plain; nothing of any other."""
    if not value.size or value.dtype.kind not in NUMBERS:
        return {}
    return {"min": value.min().item(), "mean": value.mean(dtype="f8").item(), "max": value.max().item()}


def summary(value: Any) -> dict[str, str]:
    """Return the least, mean and greatest element of an array of numbers, and how many are none."""
    import numpy as np

    if not value.size or value.dtype.kind not in NUMBERS:
        return {}
    if value.dtype.kind == "b":
        return {"true": f"{int(value.sum()):,} of {value.size:,}"}
    none = int(np.isnan(value).sum()) if value.dtype.kind == "f" else 0
    there = value[~np.isnan(value)] if none else value
    with np.errstate(all="ignore"):
        found = {name: number(_plain(each)) for name, each in extremes(there).items()}
    return {**found, "nan": f"{none:,} of {value.size:,}"} if none else found


def _values(value: Any) -> str:
    return ", ".join(_element(each) if each.ndim == 0 else f"[{_values(each)}]" for each in map(_array_of, value))


def _array_of(value: Any) -> Any:
    import numpy as np

    return np.asarray(value)


def _element(value: Any) -> str:
    plain = _plain(value)
    return said(plain, 1) if not hasattr(plain, "dtype") else str(plain)


def _plain(value: Any) -> Any:
    """Return a scalar of numpy's as Python's; those of more than 8 bytes are rounded."""
    plain = value.item() if hasattr(value, "item") else value
    if hasattr(plain, "dtype"):
        return complex(plain) if plain.dtype.kind == "c" else float(plain) if plain.dtype.kind == "f" else plain
    return plain


def dtype_name(described: Any) -> str:
    """Return a dtype, as the protocol describes it, by the name that numpy gives it: ``<f8`` is ``float64``."""
    if not isinstance(described, str):
        return f"structure of {', '.join(str(part[0]) for part in described)}"
    code = described.lstrip("<>=|")
    if code == "b1":
        return "bool"
    if code[:1] in KINDS and code[1:].isdigit():
        return f"{KINDS[code[0]]}{8 * int(code[1:])}"
    return code
