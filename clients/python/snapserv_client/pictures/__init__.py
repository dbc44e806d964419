"""Pictures of nodes: fields, how two nodes differ, what was recorded, whose pages are whose; and how they change.

Needs matplotlib: ``pip install 'snapserv-client[plot]'``. What is drawn has the same colours in all pictures: a
field its colour map, by its name; a small whole number its colour; a node its own, by its id.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .changing import film_expansion, film_past, film_rewind, film_step
    from .colours import node_colour
    from .still import draw_difference, draw_field, draw_pages, draw_records

_PLACES = {
    "draw_difference": "still",
    "draw_field": "still",
    "draw_pages": "still",
    "draw_records": "still",
    "film_expansion": "changing",
    "film_past": "changing",
    "film_rewind": "changing",
    "film_step": "changing",
    "node_colour": "colours",
}

__all__ = [
    "draw_difference",
    "draw_field",
    "draw_pages",
    "draw_records",
    "film_expansion",
    "film_past",
    "film_rewind",
    "film_step",
    "node_colour",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
