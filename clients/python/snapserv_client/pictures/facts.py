"""What is known of fields when they are drawn: their units, what they mean, and what is along their axes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np

from ..labelled.regions import parts_of, places_along
from ..labelled.source import FieldFacts
from ..labelled.told import fields_of
from .maps import Axis, Drawn, is_frame
from .sheets import Array

if TYPE_CHECKING:
    from ..requests import RegionIndex
    from ..sync import Branch, Server, Snapshot

    Node: TypeAlias = Branch | Snapshot


class Facts:
    """What is known of the fields of a node.

    Args:
        fields: All that it has.
        read: Returns one by its name: those that are along the axes of others.
    """

    def __init__(self, fields: Iterable[FieldFacts], read: Callable[[str], Array]) -> None:
        self._fields = {field.name: field for field in fields}
        self._read = read

    @staticmethod
    def of(node: Node) -> Facts:
        """Return what a server tells of the fields of its node."""
        return Facts(fields_of(server_of(node).spec(node.last.tree)), node.read)

    def __getitem__(self, name: str) -> FieldFacts:
        return self._fields[name]

    def __iter__(self) -> Iterator[FieldFacts]:
        return iter(self._fields.values())

    def drawn(self, name: str, region: RegionIndex, array: Array) -> Drawn:
        """Return how a field, or a region of it, is to be labelled."""
        field = self._fields[name]
        meaning = field.doc or field.name
        if is_frame(array):
            return Drawn(name, meaning)
        dims = field.dims or ("",) * len(field.shape)
        left = [dim for dim, part in zip(dims, parts_of(region, len(dims)), strict=True) if isinstance(part, slice)]
        others = ("row", "column") if len(left) == 2 else ("index",)
        axes = [
            self._axis(dim, places, other)
            for dim, places, other in zip(left, places_along(region, field.shape), others, strict=False)
        ]
        return Drawn(name, meaning, field.units, tuple(axes) or (Axis("index"),))

    def _axis(self, dim: str, places: range, other: str) -> Axis:
        """Return what is along an axis: its coordinate, where a field of that name is one and even, or indices."""
        field = self._fields.get(dim)
        if field is not None and field.dims == (dim,) and field.dtype.kind in "iuf" and len(places) > 1:
            found = np.asarray(self._read(dim), np.float64)[places.start : None : places.step][: len(places)]
            apart = np.diff(found)
            if np.isfinite(found).all() and apart[0] and np.allclose(apart, apart[0], rtol=1e-6, atol=0):
                units = f" [{field.units}]" if field.units else ""
                return Axis(f"{dim}{units}", float(found[0]), float(apart[0]))
        return Axis(dim or other, float(places.start), float(places.step))


def server_of(node: Node) -> Server:
    """Return the server of a node."""
    return cast("Server", node._server)


def cut(region: RegionIndex, field: FieldFacts) -> str:
    """Return a region as it is written, where it is not all of a field."""
    if region is None:
        return ""
    parts = parts_of(region, len(field.shape))
    return f"[{', '.join(_bounds(part) for part in parts)}]"


def _bounds(part: int | slice) -> str:
    if not isinstance(part, slice):
        return str(part)
    ends = ":".join("" if each is None else str(each) for each in (part.start, part.stop))
    return ends if part.step is None else f"{ends}:{part.step}"
