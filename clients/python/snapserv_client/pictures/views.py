"""What is looked at of one node after the other: a field, or the frames that a simulation renders."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..errors import BadRequestError, NotFoundError
from .colours import VALUES
from .facts import Facts, server_of
from .maps import Drawn, is_frame
from .scales import NUMBERS, check_drawable
from .sheets import Array, commonest_of_blocks, mean_of_blocks

if TYPE_CHECKING:
    from ..requests import RegionIndex
    from .facts import Node

RENDER = "render"
"""The method that environments export; it returns a picture."""
MOST_DOTS = 640
"""Larger fields are made smaller as they come, since a film keeps all of them."""
MOST_CANDIDATES = 8
_NAMED = re.compile(r"([^\[\]]+)(?:\[([^\[\]]*)\])?")


class View:
    """What is looked at, from the moment when it is made.

    Args:
        node: One of the tree.
        of: A field, with a region behind it, as ``"cube[3,:,:]"``; or a method that renders. By default it is the
            method ``render`` where there is one, or else the first field of two dimensions, or one, that changes.

    Attributes:
        first: What it was like at first.
        drawn: How it is labelled.

    Raises:
        NotFoundError: There is none of that name.
        BadRequestError: There is nothing that can be drawn.
    """

    def __init__(self, node: Node, of: str | None = None) -> None:
        self._facts = Facts.of(node)
        methods = [method.name for method in server_of(node).spec(node.last.tree).methods]
        names = [of] if of is not None else [RENDER] if RENDER in methods else _fields_to_draw(self._facts)
        self._candidates = [self._found(name, methods, node) for name in names]
        self._choose(self._candidates[0])

    @property
    def name(self) -> str:
        """What it is called."""
        return self._chosen.drawn.name

    def settle(self, node: Node) -> None:
        """Where nothing was named, look from now on at what is different there."""
        if len(self._candidates) > 1:
            changed = (each for each in self._candidates if not np.array_equal(each.first, self._look(each, node)))
            self._choose(next(changed, self._candidates[0]))
            self._candidates = [self._chosen]

    def of(self, node: Node) -> Array:
        """Return what it looks like at a node now."""
        return _smaller(self._look(self._chosen, node), self._factor)

    def _choose(self, sight: Sight) -> None:
        self._chosen, first = sight, sight.first
        self._factor = max(1, -(-max(first.shape) // MOST_DOTS)) if first.ndim == 2 else 1
        self.first = _smaller(first, self._factor)
        axes = tuple(axis.coarser(self._factor) for axis in sight.drawn.axes)
        self.drawn = replace(sight.drawn, axes=axes)

    def _found(self, name: str, methods: list[str], node: Node) -> Sight:
        named, fields = _NAMED.fullmatch(name), [each.name for each in self._facts]
        what, region = (named[1], _region(named[2])) if named else (name, None)
        renders = what in methods and what not in fields
        if not renders and what not in fields:
            raise NotFoundError(f"there is no field {what!r}", hint=f"fields: {', '.join(fields) or 'none'}")
        sight = Sight(what, region, renders, Drawn(name, name))
        first = self._look(sight, node)
        if is_frame(first):
            return replace(sight, first=first)
        if renders:
            raise BadRequestError(f"{name} returns no picture", hint="name a field")
        check_drawable(first, name)
        drawn = replace(self._facts.drawn(what, region, first), name=name)
        return replace(sight, drawn=drawn, first=first)

    def _look(self, sight: Sight, node: Node) -> Array:
        if not sight.renders:
            return np.asarray(node.read(sight.field, sight.region))
        (child,) = node.expand([[]], read=[sight.field])  # in a child: a method may change what it is of
        found = np.asarray(child[sight.field])
        return found[:, :, :3] if is_frame(found) else found


@dataclass(frozen=True, eq=False)
class Sight:
    """Something that can be looked at: a field, a region of one, or what a method renders; as it was at first."""

    field: str
    region: RegionIndex
    renders: bool
    drawn: Drawn
    first: Array = dataclasses.field(default_factory=lambda: np.empty(0))


def _smaller(array: Array, factor: int) -> Array:
    if factor == 1:
        return array
    if array.dtype.kind != "f":
        few = int(array.max()) - int(array.min()) < len(VALUES)
        return commonest_of_blocks(array, factor) if few else np.ascontiguousarray(array[::factor, ::factor])
    return mean_of_blocks(array, factor).astype(np.float32)


def _fields_to_draw(facts: Facts) -> list[str]:
    for axes in (2, 1):
        fields = [each for each in facts if len(each.shape) == axes and each.dtype.kind in NUMBERS]
        if found := [each.name for each in fields if min(each.shape) > 1][:MOST_CANDIDATES]:
            return found
    raise BadRequestError(
        "there is no field of one or two dimensions to draw, and no method that renders",
        hint="name a field with a region: cube[3,:,:]",
    )


def _region(text: str | None) -> RegionIndex:
    if text is None:
        return None
    parts: list[int | slice] = []
    try:
        for part in text.split(","):
            bounds = [int(each) if each.strip() else None for each in part.split(":")]
            parts.append(bounds[0] if len(bounds) == 1 and bounds[0] is not None else slice(*bounds))
    except (ValueError, TypeError):
        raise BadRequestError(f"[{text}] is no region", hint="as in cube[3,:,0:64]") from None
    return tuple(parts)
