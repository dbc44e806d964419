"""What a random stream is called: by who holds it, as ``Walk.rng (Generator)``."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from types import FunctionType, ModuleType
from typing import Any

HEAP_TYPE = 1 << 9
MOST_NAMES = 32
NAMED = (ModuleType, FunctionType, type)


def name_of(stream: Any, holders: Sequence[Any]) -> str:
    """Return the name of a stream, which the first of ``holders`` holds, which the second holds, and so on."""
    kind = type(stream).__name__
    held = stream
    for holder, beyond in zip(holders, [*holders[1:], None], strict=True):
        # Of what there is only the type is asked: an object may answer for its class itself, and raise.
        is_named = issubclass(type(holder), NAMED)
        if is_named or _is_of_a_class(holder):
            attribute = next((name for name, value in _attributes(holder) if value is held), None)
            named = holder if is_named else type(holder)
            owner = named.__name__ if isinstance(named, ModuleType) else named.__qualname__
            return f"{owner}.{attribute} ({kind})" if attribute is not None else f"{owner} ({kind})"
        is_namespace = issubclass(type(beyond), type) or _namespace(beyond) is holder
        if not (issubclass(type(holder), dict) and is_namespace):
            held = holder
    return kind


def shortened(names: Sequence[str]) -> list[str]:
    """Return names, equal ones once with their number, and of many only some."""
    counts = Counter(name for name in names if name)
    listed = [name if count == 1 else f"{name} × {count:,}" for name, count in counts.items()]
    rest = sum(1 for name in names if not name)
    if len(listed) > MOST_NAMES:
        rest += len(listed) - MOST_NAMES
        listed = listed[:MOST_NAMES]
    return [*listed, f"{rest:,} more"] if rest else listed


def _is_of_a_class(holder: Any) -> bool:
    """Return whether it is an instance of somebody's class, and no container or function of Python's own."""
    kind = type(holder)
    return bool(kind.__flags__ & HEAP_TYPE) and kind.__module__.partition(".")[0] not in sys.stdlib_module_names


def _namespace(holder: Any) -> Any:
    try:
        return object.__getattribute__(holder, "__dict__")
    except AttributeError:
        return None


def _attributes(holder: Any) -> Iterator[tuple[str, Any]]:
    yield from (_namespace(holder) or {}).items()
    for kind in type(holder).__mro__:
        slots = vars(kind).get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            member: Any = vars(kind).get(slot)
            if hasattr(member, "__get__"):
                try:
                    yield slot, member.__get__(holder, type(holder))
                except AttributeError:
                    continue
