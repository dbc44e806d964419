"""What a process had in its memory, put together from its image: written pages on a base image, a file or zeros."""

from __future__ import annotations

import contextlib
import hashlib
import math
import tempfile
from collections.abc import Sequence
from typing import Any, BinaryIO, Protocol

import numpy as np
import zstandard

from ..arrays import dtype_from_wire
from ..errors import BadRequestError, NotFoundError, NotPortableError
from . import framing, keys
from .blobs import Blobs, stretches
from .columns import Array, Columns, columns
from .format import PAGE, Area, Base, FieldPlace, Image, Pack, Recorded, Runs


class Source(Protocol):
    """What images are read from: a `Store`."""

    def image(self, sha256: bytes) -> Image:
        """See `Store.image`."""

    def base(self, sha256: bytes) -> Base:
        """See `Store.base`."""

    def fill(self, of: Sequence[Pack], runs: Runs | Columns, into: Any, start: int = 0) -> None:
        """See `Store.fill`."""


def read(store: Source, sha256: bytes, address: int, size: int) -> Array:
    """Return what the process of an image has at an address; uint8, shape (size,). See `Store.read`."""
    if size < 0 or address < 0:
        raise BadRequestError(f"{size} bytes at {address}: neither may be less than zero")
    image = store.image(sha256)
    first, last = address - address % PAGE, -(-(address + size) // PAGE) * PAGE
    out = np.zeros(last - first if size else 0, np.uint8)
    at = first
    for area in image.areas:
        if area.start <= at < min(area.end, last) and size:
            end = min(area.end, last)
            _underneath(store, sha256, area, at, out[at - first : end - first])
            at = end
    if at < last and size:
        raise NotFoundError(f"the process has no memory at {at:#x}", details={"address": at})
    if size:
        key = keys.of_content(keys.IMAGES, sha256)
        store.fill(image.packs, columns(key, image.runs, len(image.packs)), out, first)
    return out[address - first : address - first + size]


def field(store: Source, sha256: bytes, place: FieldPlace) -> Array:
    """Return a field of the process of an image. See `Store.field`."""
    dtype = dtype_from_wire(place.dtype)
    data = read(store, sha256, place.address, dtype.itemsize * math.prod(place.shape))
    return np.ndarray(tuple(place.shape), dtype, data.copy() if data.ctypes.data % dtype.alignment else data)


def content(blobs: Blobs, key: str) -> bytes:
    """Return all bytes of an object that is named by them.

    Raises:
        StoreDamagedError: It is missing, or they are not what was written.
    """
    try:
        data = blobs.get(key)
    except NotFoundError as cause:
        raise framing.missing(key) from cause
    if hashlib.sha256(data).digest() != keys.sha256_of(key):
        raise framing.damaged(key, "its bytes have changed")
    return data


def layer(blobs: Blobs, sha256: bytes) -> BinaryIO:
    """Return a layer, unpacked while it is read. See `Store.layer`."""
    key = keys.of_content(keys.LAYERS, sha256)
    entry = blobs.head(key)
    if entry is None:
        raise framing.missing(key)
    with contextlib.ExitStack() as undo:
        file = undo.enter_context(tempfile.TemporaryFile())
        found = hashlib.sha256()
        for data in stretches(blobs, entry):
            found.update(data)
            file.write(data)
        if found.digest() != sha256:
            raise framing.damaged(key, "its bytes have changed")
        file.seek(0)
        undo.pop_all()
    return zstandard.ZstdDecompressor().stream_reader(file, closefd=True)


def actions(blobs: Blobs, recorded: Recorded) -> bytes:
    """Return the stream of actions of a recording. See `Store.actions`."""
    parts = []
    for piece in recorded.pieces:
        key = keys.of_content(keys.ACTIONS, piece.sha256)
        try:
            parts.append(framing.unzstd(memoryview(content(blobs, key)), piece.size))
        except zstandard.ZstdError as cause:
            raise framing.damaged(key, str(cause)) from cause
    return b"".join([*parts, recorded.actions])


def _underneath(store: Source, sha256: bytes, area: Area, address: int, out: Array) -> None:
    """Fill ``out`` with what an area of an image has where nothing was written to it."""
    image = store.image(sha256)
    offset = area.offset + address - area.start
    if area.kind in ("base", "file") and (area.of >= len(image.bases if area.kind == "base" else image.files)):
        raise framing.damaged(keys.of_content(keys.IMAGES, sha256), f"it names no {area.kind} {area.of}")
    if area.kind == "base":
        _of_base(store, image.bases[area.of], offset, out)
    elif area.kind == "file":
        file = image.files[area.of]
        if not file.content:
            raise NotPortableError(
                f"what is at {address:#x} is in the file {file.path}, which is not in the store",
                details={"path": file.path},
            )
        _of_base(store, file.content, offset, out)
    elif area.kind == "vdso":
        code = np.frombuffer(image.vdso, np.uint8)[offset : offset + len(out)]
        out[: len(code)] = code
    elif area.kind != "anonymous":
        raise NotPortableError(f"what is at {address:#x} is the {area.kind}, which is not in the store")


def _of_base(store: Source, sha256: bytes, offset: int, out: Array) -> None:
    base = store.base(sha256)
    key = keys.of_content(keys.BASES, sha256)
    store.fill(base.packs, columns(key, base.runs, len(base.packs)), out, offset)
