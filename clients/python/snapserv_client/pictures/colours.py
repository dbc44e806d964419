"""Which colour what has, in every picture: fields by name, small whole numbers by value, nodes by id."""

from __future__ import annotations

from collections.abc import Iterator
from zlib import crc32

INK, SOFT, LINE, MISSING = "#1f2328", "#59636e", "#d1d9e0", "#c9d1d9"

MAPS = ("viridis", "magma", "cividis", "plasma")
"""Colour maps that are even to the eye, and to one that does not see all colours."""
DIVERGING = "RdBu_r"
"""For what is about 0: blue below, white at it, red above."""

VALUES = (
    "#e4e8ec", "#e8743b", "#3a3238", "#4477aa", "#f2c14e", "#5fad56",
    "#b4436c", "#7fc8c2", "#8d6a9f", "#b08968", "#1b998b", "#f4a6a0",
)  # fmt: skip
"""Of the whole numbers from 0 on, round and round."""

NODES = (
    "#4477aa", "#e07b39", "#2e8b57", "#9a62b8", "#1ba3b8",
    "#c2549d", "#8c6d31", "#7a8b2a", "#5b6ee1", "#6e7f8d",
)  # fmt: skip
"""Of nodes, by their ids; legible on white and in dark terminals. None is red, which says that one is dead."""
DASHES = ("-", "--", ":", "-.")
"""Of lines: nodes whose colour is the same have another one each."""


def node_colour(id: int) -> str:
    """Return the colour of a node, which it keeps for as long as it is there."""
    return NODES[id % len(NODES)]


def node_dashes(id: int) -> str:
    """Return how a node's lines are dashed."""
    return DASHES[id // len(NODES) % len(DASHES)]


def value_colour(value: int) -> str:
    """Return the colour of a small whole number."""
    return VALUES[value % len(VALUES)]


def field_colours(name: str) -> str:
    """Return the name of the colour map of a field."""
    return MAPS[crc32(name.encode()) % len(MAPS)]


PAGES = {
    "absent": "#ffffff",
    "base": "#b6cbe2",
    "shared": "#5fae6b",
    "elsewhere": "#e3c04f",
    "unproven": "#b48ead",
    "private": "#d6453d",
}
"""Of pages, by whose they are."""


def fixed_colours() -> Iterator[tuple[int, int, int]]:
    """Yield what stands for something, as red, green and blue; of text also the half tones at its edges."""
    for colour in (*VALUES, "#ffffff", MISSING, LINE):
        yield _parts(colour)
    for colour in (*NODES, INK, SOFT):
        yield _parts(colour)
        red, green, blue = _parts(colour)
        yield (red + 255) // 2, (green + 255) // 2, (blue + 255) // 2


def _parts(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue
