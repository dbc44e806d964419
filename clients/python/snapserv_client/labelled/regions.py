"""What a region leaves of a field: which of its axes, and where along each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..requests import RegionIndex


def parts_of(region: RegionIndex, axes: int) -> list[int | slice]:
    """Return for each axis its index or its slice."""
    given = [] if region is None else list(region) if isinstance(region, tuple) else [region]
    parts = [part for part in given if part is not Ellipsis]
    return [*parts, *[slice(None)] * (axes - len(parts))]


def axes_of(region: RegionIndex, axes: int) -> list[int]:
    """Return the axes that are left: those with one index are gone."""
    return [axis for axis, part in enumerate(parts_of(region, axes)) if isinstance(part, slice)]


def places_along(region: RegionIndex, shape: tuple[int, ...]) -> list[range]:
    """Return the indices that are left of each axis that is."""
    parts = zip(parts_of(region, len(shape)), shape, strict=True)
    return [range(size)[part] for part, size in parts if isinstance(part, slice)]
