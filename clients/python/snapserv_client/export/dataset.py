"""A node as a Zarr dataset: `export_zarr`, and what it writes into a group."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from ..errors import BadRequestError
from ..labelled.attributes import ABOUT_STEP, attributes_of
from ..labelled.layout import Layout, Variable, layouts_of
from ..labelled.source import STEP, Array, Block, Changes, NodeSource
from ..sync import Branch, Snapshot
from .served import node_of_server

FORMAT = 1
"""The version of how a node is laid out; as the attribute `MARK`, what tells what we wrote from what others did."""
MARK = "snapserv_export"
ZSTD_LEVEL = 3


def export_zarr(
    source: Snapshot | Branch | NodeSource,
    path: str | os.PathLike[str],
    *,
    fields: Sequence[str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a node as a Zarr 3 group, which `xarray.open_zarr` shows as a labelled dataset; return where it is.

    It is read and written chunk by chunk, and appears there only when it is whole.

    Args:
        source: A node of a server, or a `NodeSource` such as `node_of_store` returns. Of a live branch a snapshot
            is taken first, and dropped at the end.
        path: The folder to make.
        fields: Names of the fields to write; all by default.
        overwrite: Whether to replace what an earlier export wrote there.

    Raises:
        BadRequestError: There is something already; with ``overwrite``, something that is no export. Or it cannot
            be written there.
        NotFoundError: There is no such field.
        UnsupportedError: A field holds what Zarr has no type for; ``details["field"]`` says which one.
    """
    target = _local(path)
    _check_place(target, overwrite=overwrite)
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(node_of_server(source)) if isinstance(source, Snapshot | Branch) else source
        layouts = layouts_of(opened.fields, fields)
        partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        stack.callback(shutil.rmtree, partial, ignore_errors=True)
        try:
            group = zarr.create_group(partial, zarr_format=3)
            write(group, opened, layouts, {}, lineage=True)
            with _quiet():
                zarr.consolidate_metadata(group.store)
            _put_in_place(partial, target, overwrite=overwrite)
        except OSError as cause:
            raise BadRequestError(
                f"cannot write {target}: {cause.strerror or cause}", hint="choose another place"
            ) from cause
    return target


def write(
    group: zarr.Group, source: NodeSource, layouts: Sequence[Layout], changes: Changes, *, lineage: bool
) -> None:
    """Write a node into a group: its fields, the coordinate ``step`` and its attributes.

    What the group has already is written only where it differs, and what does not belong to the node is removed.

    Args:
        group: Empty, or one that has been written so before.
        source: The node.
        layouts: The fields to write.
        changes: Where the node differs from the one that the group has, as far as it is known.
        lineage: Whether to list the node's ancestors.
    """
    known = dict(group.arrays())
    with _quiet(), zarr.config.set({"array.write_empty_chunks": True}):  # where 0.0 would stand for -0.0
        for layout in layouts:
            arrays = [_array(group, known.pop(each.name, None), each) for each in layout.variables]
            for block in _to_look_at(layout, changes, filled=all(filled for _, filled in arrays)):
                data = source.read(layout.field, block)
                for variable, (array, filled) in zip(layout.variables, arrays, strict=True):
                    _put(array, variable.region(block), variable.of(data), filled=filled)
        attributes = {MARK: FORMAT, **attributes_of(source.facts, source.lineage() if lineage else None)}
        if not any(STEP in (each.name, *each.dims) for layout in layouts for each in layout.variables):
            step = Variable(STEP, (), np.dtype("<i8"), (), (), (), dict(ABOUT_STEP))
            array, filled = _array(group, known.pop(STEP, None), step)
            _put(array, (), np.asarray(source.facts.step, "<i8"), filled=filled)
            attributes["coordinates"] = STEP
        for name in known:
            del group[name]
        group.attrs.put(attributes)


def _to_look_at(layout: Layout, changes: Changes, *, filled: bool) -> Iterator[Block]:
    """Yield the chunks of a field that may have to be written."""
    if not filled or layout.field.name not in changes:
        yield from layout.blocks()
    elif (region := changes[layout.field.name]) is not None:
        yield from layout.blocks(region)


def _array(group: zarr.Group, known: zarr.Array[Any] | None, variable: Variable) -> tuple[zarr.Array[Any], bool]:
    """Return the array of a variable, and whether it was there, with values, before."""
    if known is not None:
        named = known.metadata.dimension_names if known.metadata.zarr_format == 3 else None
        same = (known.dtype, known.shape, known.chunks, tuple(named or ()), dict(known.attrs))
        if same == (variable.dtype, variable.shape, variable.chunks, variable.dims, variable.attributes):
            return known, True
        del group[variable.name]
    made = group.create_array(
        variable.name,
        shape=variable.shape,
        chunks=variable.chunks,
        dtype=variable.dtype,
        dimension_names=variable.dims,
        compressors=ZstdCodec(level=ZSTD_LEVEL),
        attributes=variable.attributes,
    )
    return made, False


def _put(array: zarr.Array[Any], region: tuple[slice, ...], values: Array, *, filled: bool) -> None:
    if not filled or np.asarray(array[region]).tobytes() != values.tobytes():
        array[region] = values


def _local(path: str | os.PathLike[str]) -> Path:
    if "://" in os.fspath(path):
        raise BadRequestError(f"{os.fspath(path)} is no folder", hint="export to a folder, and copy it from there")
    return Path(path).absolute()


def _check_place(target: Path, *, overwrite: bool) -> None:
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise BadRequestError(
            f"there is something at {target} already", hint="overwrite replaces an earlier export"
        )
    if target.is_symlink() or not _is_ours(target):
        raise BadRequestError(f"{target} is no export of a node, and is not replaced", hint="choose another place")


def _is_ours(target: Path) -> bool:
    try:
        return MARK in zarr.open_group(target, mode="r", zarr_format=3).attrs
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _put_in_place(partial: Path, target: Path, *, overwrite: bool) -> None:
    """Move what was written to where it belongs; what was there goes when the new is in its place."""
    old = partial.with_name(f"{partial.name}.old")
    _check_place(target, overwrite=overwrite)
    if os.path.lexists(target):
        target.rename(old)
    try:
        partial.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Do without what zarr says of text, whose types are not standard yet, and of consolidated metadata."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=zarr.errors.UnstableSpecificationWarning)
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        yield
