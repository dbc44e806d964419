"""Objects that do something as they are collected: whether it matters when that is.

Objects in a cycle end when Python's collector comes by. It does not look at what a branch inherits (decision
0007), and it comes by at other moments than in a run that was never copied. Nobody can tell, unless something
happens then: a ``__del__`` of the author's own class is called, or somebody is told by a weak reference.
"""

from __future__ import annotations

import gc
import sys
import types
import weakref
from collections import Counter
from collections.abc import Iterator
from typing import Any

from .machine import Finding

WHAT = "finalizers"
MOST_TRIED = 100
"""Of one class; what they reach is looked at for each of them."""
MOST_REACHED = 10_000
_SHARED = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.CodeType, types.FrameType)
"""What leads everywhere, and is never garbage: a class to its module's globals, and so to all that is there."""
_INSTALLED = (sys.prefix, sys.base_prefix)


def look_at(simulation: Any) -> Finding:
    """Say what ends by the collector, and is noticed, of what there is after setup and a tick."""
    tried: Counter[str] = Counter()
    found = set()
    for what, each in _noticed():
        tried[what] += 1
        if what not in found and tried[what] <= MOST_TRIED and _is_in_a_cycle(each, simulation):
            found.add(what)
    if not found:
        return Finding(WHAT, "ok", "nothing that anybody would notice")
    return Finding(
        WHAT,
        "weak",
        f"in cycles: {', '.join(sorted(found))}",
        "a branch collects it at other moments, and what it inherits never: close such objects by hand, or keep "
        "them out of cycles",
    )


def _noticed() -> Iterator[tuple[str, Any]]:
    """Yield the objects of the author's classes whose end is noticed, and by what."""
    for each in gc.get_objects():
        kind = type(each)
        if issubclass(kind, weakref.ref):
            target = each() if each.__callback__ is not None else None
            if target is not None and not isinstance(target, type) and _is_authors(type(target)):
                yield f"{type(target).__qualname__} behind a weak reference that tells", target
        elif hasattr(kind, "__del__") and _is_authors(kind):
            yield f"{kind.__qualname__}.__del__", each


def _is_authors(kind: type) -> bool:
    """Return whether a class is of no installed package."""
    module = sys.modules.get(kind.__module__)
    path = getattr(module, "__file__", None)
    return path is not None and not path.startswith(_INSTALLED) and not kind.__module__.startswith("snapserv")


def _is_in_a_cycle(thing: Any, simulation: Any) -> bool:
    """Return whether an object leads back to itself, though not by way of the simulation, which lives on."""
    if thing is simulation:
        return False
    seen = {id(simulation)}
    waiting = [thing]
    while waiting and len(seen) < MOST_REACHED:
        for each in gc.get_referents(waiting.pop()):
            if each is thing:
                return True
            if id(each) not in seen and gc.is_tracked(each) and not isinstance(each, _SHARED):
                seen.add(id(each))
                waiting.append(each)
    return False
