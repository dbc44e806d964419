"""Fields and nodes as xarray has them: the one place where a DataArray is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..extras import need
from .attributes import ABOUT_STEP, attributes_of
from .layout import Layout, dims_of, labels_of, layouts_of
from .regions import axes_of
from .source import STEP, Array, FieldFacts, NodeFacts
from .told import facts_of, fields_of

if TYPE_CHECKING:
    import xarray as xr

    from ..requests import RegionIndex

__all__ = ["array_of", "dataset_of", "facts_of", "fields_of", "layouts_of", "need_xarray"]


def need_xarray() -> None:
    """Raise UnsupportedError where xarray is not installed; says how to get it."""
    need("xarray", "xarray")


def array_of(field: FieldFacts, values: Array, region: RegionIndex, step: int) -> xr.DataArray:
    """Return a field, or a region of it, with the names of its axes, its units and what it means.

    Args:
        field: What it is.
        values: What was read.
        region: The region that was; an axis that it has one index of is gone.
        step: Where its node stood: the coordinate ``step``.
    """
    import xarray as xr

    names = dims_of(field)
    dims = [names[axis] for axis in axes_of(region, len(names))]
    coordinates = {} if STEP in (field.name, *dims) else {STEP: _step(step)}
    return xr.DataArray(values, coordinates, dims, field.name, labels_of(field, field.dtype))


def dataset_of(
    facts: NodeFacts, lineage: Sequence[tuple[str, int]], layouts: Sequence[Layout], values: Mapping[str, Array]
) -> xr.Dataset:
    """Return a node as a dataset: a variable for each field, or for each part of one of structures.

    Args:
        facts: What is known of the node: its attributes.
        lineage: Names and steps of its ancestors and of itself.
        layouts: The variables.
        values: The fields, whole, by name.
    """
    import xarray as xr

    variables: dict[str, Any] = {
        each.name: (each.dims, each.of(values[layout.field.name]), each.attributes)
        for layout in layouts
        for each in layout.variables
    }
    taken = {name for layout in layouts for each in layout.variables for name in (each.name, *each.dims)}
    coordinates = {} if STEP in taken else {STEP: _step(facts.step)}
    return xr.Dataset(variables, coordinates, attributes_of(facts, lineage))


def _step(step: int) -> tuple[tuple[()], Array, dict[str, str]]:
    return (), np.asarray(step, np.int64), dict(ABOUT_STEP)
