"""Requests that look at nodes and leave them as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..protocol import DiffResult, PagesResult, ReadResult, ShowResult, VerifyResult
from .message import Array, RegionIndex, Request, convert, region_to_wire

__all__ = ["diff", "pages", "read", "read_handed", "show", "verify"]


def read(node: str | int, field: str, region: RegionIndex) -> Request[Array]:
    """Ask for a field or a region of it."""
    args = {"field": field, "region": region_to_wire(region)}
    return Request("read", node, args, _array)


def _array(ok: Any) -> Array:
    import numpy as np

    return np.asarray(convert(ok, ReadResult).value)


def read_handed(node: str | int, field: str, region: RegionIndex, *, handed: bool = True) -> Request[ReadResult]:
    """Ask for a field or a region of it, which may be handed over at the side channel where it is large."""
    args = {"field": field, "region": region_to_wire(region), "handed": handed}
    return Request("read", node, args, lambda ok: convert(ok, ReadResult))


def diff(node: str | int, other: str | int | None, fields: Sequence[str] | None) -> Request[DiffResult]:
    """Ask how two nodes differ."""
    args = {"other": other, "fields": None if fields is None else list(fields)}
    return Request("diff", node, args, lambda ok: convert(ok, DiffResult), long=True)


def pages(node: str | int, other: str | int | None, fields: Sequence[str] | None) -> Request[PagesResult]:
    """Ask which page is whose."""
    args = {"other": other, "fields": None if fields is None else list(fields)}
    return Request("pages", node, args, lambda ok: convert(ok, PagesResult), long=True)


def show(node: str | int) -> Request[ShowResult]:
    """Ask for all that there is to know of a node."""
    return Request("show", node, {}, lambda ok: convert(ok, ShowResult))


def verify(node: str | int, since: str | int | None, *, progress: bool) -> Request[VerifyResult]:
    """Ask whether a node can be reached again."""
    return Request(
        "verify", node, {"since": since, "progress": progress}, lambda ok: convert(ok, VerifyResult), long=True
    )
