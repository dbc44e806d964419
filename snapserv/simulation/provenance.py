"""Which code a simulation is: by what a recording tells whether it is of this one."""

from __future__ import annotations

import sys
import types
import zlib
from collections.abc import Iterator
from pathlib import Path

from .base import Simulation

OWN = "snapserv"
_EXAMPLES = f"{OWN}.examples"


def version_of(kind: type[Simulation]) -> str:
    """Return the ``__version__`` of the package that a simulation is of; empty where it has none."""
    for each in _authors(kind):
        package = sys.modules.get(each.__module__.partition(".")[0])
        version = getattr(package, "__version__", "")
        if isinstance(version, str) and version:
            return version
    return ""


def source_of(kind: type[Simulation]) -> str:
    """Return a checksum of the source of the modules that a simulation's classes are of, whatever their paths.

    It tells recordings of other code apart, and is no protection from anybody. Where a class has no file, as one of
    a notebook, its methods are what counts.
    """
    total, seen = 0, set()
    for each in _authors(kind):
        path = getattr(sys.modules.get(each.__module__), "__file__", None)
        if path in seen:
            continue
        try:
            content = Path(path or "").read_bytes()
            seen.add(path)
        except OSError:
            content = b"".join(_code_of(each))
        total = zlib.crc32(content, total)
    return f"{total:08x}"


def _authors(kind: type[Simulation]) -> Iterator[type | types.FunctionType]:
    """Yield what is not snapserv's own: the classes of a simulation, and of a model what makes it."""
    factory = getattr(kind, "factory", None)
    made_by = [factory] if isinstance(factory, (type, types.FunctionType)) else []
    for each in (*made_by, *kind.__mro__):
        module = each.__module__
        theirs = module.partition(".")[0] not in (OWN, "builtins") or module.startswith(_EXAMPLES)
        if theirs:
            yield each


def _code_of(kind: type | types.FunctionType) -> Iterator[bytes]:
    functions = [kind] if isinstance(kind, types.FunctionType) else vars(kind).values()
    for function in functions:
        code = getattr(function, "__code__", None)
        if code is not None:
            plain = [
                each for each in code.co_consts if isinstance(each, (int, float, str, bytes, bool, type(None)))
            ]
            yield code.co_code + repr((code.co_names, plain)).encode()
