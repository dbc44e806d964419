"""How fields become variables of a dataset: their parts, data types, chunks and names of axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import NotFoundError, UnsupportedError
from .source import Array, Block, FieldFacts

CHUNK_BYTES = 8 << 20
"""At most so much is read at once, but for larger elements; chunks of long fields are half of it at least."""
WIDEST = {"f": 8, "c": 16}
"""Bytes of the widest numbers of a kind that Zarr has."""


@dataclass(frozen=True)
class Variable:
    """A field, or the part of one whose elements are structures.

    Attributes:
        name: What it is called.
        path: The names of structures' fields that lead to it; none where it is the whole field.
        dtype: Little-endian.
        shape: Sizes of its axes: the field's, and then those of subarrays.
        chunks: Likewise.
        dims: Names of its axes.
        attributes: Units, and what it means.
    """

    name: str
    path: tuple[str, ...]
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dims: tuple[str, ...]
    attributes: dict[str, Any]

    def of(self, block: Array) -> Array:
        """Return what a block of the field holds of this variable."""
        for name in self.path:
            block = block[name]
        if self.dtype.kind == "b":
            block = block.view(np.uint8) != 0  # whatever byte stands for true
        return np.ascontiguousarray(block, self.dtype).reshape(block.shape)

    def region(self, block: Block) -> Block:
        """Return where the values of a block of the field are in this variable."""
        return (*block, *(slice(0, size) for size in self.shape[len(block) :]))


@dataclass(frozen=True)
class Layout:
    """A field and the variables that it becomes; ``chunks`` are those of the field."""

    field: FieldFacts
    chunks: tuple[int, ...]
    variables: tuple[Variable, ...]

    def blocks(self, within: Block | None = None) -> Iterator[Block]:
        """Yield the field's chunks, in order; those that have a part in a region, all by default."""
        region = within if within is not None else tuple(slice(0, size) for size in self.field.shape)
        axes = zip(self.field.shape, self.chunks, region, strict=True)
        ranges = [
            [
                slice(start, min(start + chunk, size))
                for start in range(part.start // chunk * chunk, part.stop, chunk)
            ]
            for size, chunk, part in axes
        ]
        yield from itertools.product(*ranges)


def layouts_of(
    fields: Sequence[FieldFacts], chosen: Sequence[str] | None = None, *, in_memory: bool = False
) -> list[Layout]:
    """Return how fields become variables.

    Args:
        fields: All that there are.
        chosen: Names of those that are wanted; all by default.
        in_memory: Whether that is where they stay: then Zarr need have no type for what they hold.

    Raises:
        NotFoundError: There is no such field.
        UnsupportedError: A field holds what Zarr has no type for, or is called what no variable can be.
    """
    known = {field.name: field for field in fields}
    for name in chosen or ():
        if name not in known:
            raise NotFoundError(f"there is no field {name!r}", hint=f"fields: {', '.join(known) or 'none'}")
    wanted = fields if chosen is None else [known[name] for name in dict.fromkeys(chosen)]
    layouts = [_layout(field, in_memory=in_memory) for field in wanted]
    names = [variable.name for layout in layouts for variable in layout.variables]
    for layout in layouts:
        for variable in layout.variables:
            if names.count(variable.name) > 1:
                raise _unsupported(layout.field, f"{variable.name!r} would be the name of two variables")
    return _with_dimensions(layouts)


def dims_of(field: FieldFacts) -> tuple[str, ...]:
    """Return the names of a field's axes, as they are where it stands alone."""
    shape = field.shape
    whole = Variable(field.name, (), field.dtype, shape, shape, field.dims or ("",) * len(shape), {})
    (layout,) = _with_dimensions([Layout(field, shape, (whole,))])
    return layout.variables[0].dims


def labels_of(field: FieldFacts, dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return a field's units, and what it means, as attributes of values of this type."""
    labels = {}
    if field.units:
        # Of times, which have their unit in the data type, readers would take it for an encoding.
        labels["declared_units" if dtype.kind in "mM" else "units"] = field.units
    if field.doc:
        labels["long_name"] = field.doc
    return labels


def chunks_of(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Return the chunks of a field: each is one stretch of its memory, of at most `CHUNK_BYTES`."""
    chunks = [1] * len(shape)
    inner = max(1, itemsize)
    for axis in range(len(shape) - 1, -1, -1):
        size = max(1, shape[axis])
        most = max(1, CHUNK_BYTES // inner)
        chunks[axis] = math.ceil(size / math.ceil(size / most))
        if chunks[axis] < size:
            break
        inner *= size
    return tuple(chunks)


def _layout(field: FieldFacts, *, in_memory: bool) -> Layout:
    if field.dims and len(field.dims) != len(field.shape):
        raise _unsupported(field, f"it names {len(field.dims)} axes, and has {len(field.shape)}")
    chunks = chunks_of(field.shape, field.dtype.itemsize)
    leaves = list(_leaves(field, field.dtype))
    if not in_memory:
        leaves = [(path, _as_zarr_has_it(field, dtype), inner) for path, dtype, inner in leaves]
    if not leaves:
        raise _unsupported(field, "its structures have no fields")
    return Layout(field, chunks, tuple(_variable(field, chunks, *leaf) for leaf in leaves))


def _leaves(
    field: FieldFacts, dtype: np.dtype[Any], path: tuple[str, ...] = (), inner: tuple[int, ...] = ()
) -> Iterator[tuple[tuple[str, ...], np.dtype[Any], tuple[int, ...]]]:
    """Yield path, dtype and further axes of each part of a dtype that is no structure."""
    if dtype.subdtype is not None:
        base, axes = dtype.subdtype
        yield from _leaves(field, base, path, (*inner, *axes))
    elif dtype.names is not None:
        for name in dtype.names:
            yield from _leaves(field, dtype[name], (*path, name), inner)
    else:
        yield path, dtype, inner


def _as_zarr_has_it(field: FieldFacts, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a data type as Zarr has it, little-endian."""
    kind, size = dtype.kind, dtype.itemsize
    if kind not in "biufcmMSUV" or not size or size > WIDEST.get(kind, size):
        raise _unsupported(field, f"Zarr has no data type for {dtype}")
    if kind == "M" and np.datetime_data(dtype)[0] == "generic":
        raise _unsupported(field, "its times have no unit, so that nothing says what they mean")
    return np.dtype(dtype.newbyteorder("<").str)


def _variable(
    field: FieldFacts,
    chunks: tuple[int, ...],
    path: tuple[str, ...],
    dtype: np.dtype[Any],
    inner: tuple[int, ...],
) -> Variable:
    name = ".".join((field.name, *path))
    if "/" in name or "\0" in name or name.startswith("__") or not name.strip("."):
        raise _unsupported(field, f"a variable of Zarr cannot be called {name!r}")
    attributes = labels_of(field, dtype)
    if path:
        attributes.pop("units", None)  # they are of the whole
        attributes |= {"field": field.name, "part": list(path)}
    dims = (*(field.dims or ("",) * len(field.shape)), *("" for _ in inner))
    shape = (*field.shape, *inner)
    return Variable(name, path, dtype, shape, (*chunks, *(max(1, size) for size in inner)), dims, attributes)


def _with_dimensions(layouts: list[Layout]) -> list[Layout]:
    """Return layouts whose axes all have names, and each name one size, as readers of datasets want it.

    A name that is none, that stands for several sizes or that a variable has which is no coordinate along it, is
    made one of the variable's own.
    """
    variables = [variable for layout in layouts for variable in layout.variables]
    sizes: dict[str, set[int]] = {}
    for variable in variables:
        for dim, size in zip(variable.dims, variable.shape, strict=True):
            sizes.setdefault(dim, set()).add(size)
    ambiguous = {dim for dim, found in sizes.items() if not dim or len(found) > 1}
    ambiguous |= {variable.name for variable in variables if variable.dims != (variable.name,)} & sizes.keys()
    ambiguous |= {dim for variable in variables for dim in variable.dims if variable.dims.count(dim) > 1}
    if not ambiguous:
        return layouts

    def named(variable: Variable) -> Variable:
        dims = [
            dim if dim not in ambiguous else _own_name(variable, axis, dim)
            for axis, dim in enumerate(variable.dims)
        ]
        return replace(variable, dims=tuple(dims))

    return _with_dimensions([replace(layout, variables=tuple(map(named, layout.variables))) for layout in layouts])


def _own_name(variable: Variable, axis: int, dim: str) -> str:
    return f"{variable.name}_{dim if dim and variable.dims.count(dim) == 1 else f'dim_{axis}'}"


def _unsupported(field: FieldFacts, why: str) -> UnsupportedError:
    return UnsupportedError(
        f"the field {field.name} cannot be a variable: {why}",
        hint="name the fields that are wanted, without it",
        details={"field": field.name},
    )
