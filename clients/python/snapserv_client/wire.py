"""Frames: how values and arrays are packed into a message and taken out again.

A message is a list of frames: ``b"SS1"``, a msgpack header, then raw buffers. An array stands in the header as
msgpack extension type 1, which names its dtype, its shape and the buffer that holds its bytes; a small one brings
its bytes along, since a frame costs more than they do. This module
knows nothing of verbs, and imports neither ZeroMQ nor anything of snapserv but its errors, since the processes
that hold simulations import it and must stay small.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, TypeVar

import msgpack
import msgspec
import numpy as np
from numpy.lib import format as npy_format

from .errors import BadRequestError, SnapservError, TooLargeError

MAGIC = b"SS1"
ARRAY_EXTENSION = 1

MAX_HEADER_BYTES = 1 << 20
MAX_BUFFERS = 256
MAX_MESSAGE_BYTES = 1 << 30
INLINE_BYTES = 512
MAX_INLINE_BYTES = 1 << 18
"""Arrays up to the first size are put into the header, until they are so many bytes together."""

Buffer: TypeAlias = bytes | bytearray | memoryview
Frames: TypeAlias = list[Buffer]
T = TypeVar("T")


def pack(header: Any) -> Frames:
    """Return the header frame for ``header`` followed by one buffer for each array in it.

    ``header`` may hold plain values, msgspec structs, numpy scalars and numpy arrays (C order is made where
    it is missing; object dtypes are refused).

    Raises:
        BadRequestError: A value that msgpack cannot carry, or an array of objects; the caller's fault.
        TooLargeError: More than `MAX_BUFFERS` arrays or a header above `MAX_HEADER_BYTES`.
    """
    buffers: list[Buffer] = []
    inline = 0

    def default(value: Any) -> Any:
        nonlocal inline
        if isinstance(value, np.ndarray):
            content = array_bytes(value)
            described: list[Any] = [dtype_to_wire(value.dtype), list(value.shape), len(buffers)]
            if len(content) <= INLINE_BYTES and inline < MAX_INLINE_BYTES:
                inline += len(content)
                described[2] = bytes(content)
            else:
                buffers.append(content)
            return msgpack.ExtType(ARRAY_EXTENSION, msgpack.packb(described))
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, msgspec.Struct):
            kind = value.__struct_config__
            named = {kind.tag_field: kind.tag} if kind.tag_field is not None else {}
            return {**named, **msgspec.structs.asdict(value)}
        raise BadRequestError(
            f"a value of type {type(value).__name__} cannot be sent",
            hint="plain values, numpy scalars and numpy arrays can",
        )

    try:
        packed: bytes = msgpack.packb(header, default=default)
    except (ValueError, OverflowError) as cause:
        raise BadRequestError(f"a value cannot be sent: {cause}") from cause
    if len(packed) > MAX_HEADER_BYTES:
        raise TooLargeError(
            f"the header is {len(packed):,} bytes, and {MAX_HEADER_BYTES:,} are allowed",
            hint="send large data as numpy arrays",
        )
    if len(buffers) > MAX_BUFFERS:
        raise TooLargeError(f"{len(buffers)} arrays in one message, and {MAX_BUFFERS} are allowed")
    return [packed, *buffers]


def unpack(header: Buffer, buffers: Sequence[Buffer] = ()) -> Any:
    """Return what `pack` was given; arrays are views of ``buffers``, or of the header's bytes, and not writable.

    Raises:
        BadRequestError: Bytes that are not one well-formed msgpack value, or an array that does not fit its
            buffer; the sender's fault.
        TooLargeError: A header above `MAX_HEADER_BYTES`.
    """
    if len(header) > MAX_HEADER_BYTES:
        raise TooLargeError(f"the header is {len(header):,} bytes, and {MAX_HEADER_BYTES:,} are allowed")

    def extension(code: int, data: bytes) -> Any:
        if code != ARRAY_EXTENSION:
            raise BadRequestError(f"msgpack extension type {code} is unknown; {ARRAY_EXTENSION} is an array")
        return _array_from_wire(data, buffers)

    try:
        return msgpack.unpackb(header, ext_hook=extension, strict_map_key=False)
    except SnapservError:
        raise
    except (ValueError, TypeError, RecursionError, UnicodeError, msgpack.UnpackException) as cause:
        raise BadRequestError(f"the header is not well-formed msgpack: {cause}") from cause


def array_bytes(array: np.ndarray[Any, Any]) -> memoryview:
    """Return the bytes of ``array`` in C order; a copy only where it is not contiguous."""
    if array.dtype.hasobject:
        raise BadRequestError(f"an array of dtype {array.dtype} cannot be sent: it holds Python objects")
    contiguous = np.ascontiguousarray(array)
    return contiguous.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")


def dtype_to_wire(dtype: np.dtype[Any]) -> Any:
    """Return the portable description of ``dtype``: a string such as ``"<f4"``, or a list of fields."""
    return npy_format.dtype_to_descr(dtype)


def dtype_from_wire(described: Any) -> np.dtype[Any]:
    """Return the dtype that `dtype_to_wire` described.

    Raises:
        BadRequestError: Not a dtype, or one that holds Python objects.
    """
    try:
        dtype = npy_format.descr_to_dtype(_tuples(described))
    except (TypeError, ValueError, KeyError, IndexError, SyntaxError, RecursionError) as cause:
        raise BadRequestError(f"not a dtype: {described!r}") from cause
    if dtype.hasobject:
        raise BadRequestError(f"dtype {dtype} holds Python objects, which are never sent")
    return dtype


def _tuples(described: Any) -> Any:
    """Turn the lists that msgpack made of a structured dtype's fields back into tuples."""
    if isinstance(described, list):
        return [
            tuple(_tuples(part) if index == 1 else _shape(part) for index, part in enumerate(field))
            if isinstance(field, list)
            else field
            for field in described
        ]
    return described


def _shape(part: Any) -> Any:
    return tuple(part) if isinstance(part, list) else part


def _array_from_wire(data: bytes, buffers: Sequence[Buffer]) -> np.ndarray[Any, Any]:
    described = msgpack.unpackb(data)
    if not (isinstance(described, list) and len(described) == 3):
        raise BadRequestError("an array is [dtype, shape, buffer], or its bytes in place of the buffer's number")
    dtype = dtype_from_wire(described[0])
    shape, index = described[1], described[2]
    if not (isinstance(shape, list) and all(type(size) is int and 0 <= size < 1 << 48 for size in shape)):
        raise BadRequestError(f"not a shape: {shape!r}")
    if isinstance(index, bytes):
        buffer: Buffer = index
    elif type(index) is int and 0 <= index < len(buffers):
        buffer = buffers[index]
    else:
        raise BadRequestError(f"an array names buffer {index!r}, and the message has {len(buffers)}")
    expected = dtype.itemsize
    for size in shape:
        expected *= size
    if len(buffer) != expected:
        raise BadRequestError(f"an array has {len(buffer)} bytes, and {dtype} {shape} needs {expected}")
    if not expected:
        return np.empty(shape, dtype)
    return np.frombuffer(buffer, dtype).reshape(shape)


def convert(value: Any, kind: type[T], *, what: str) -> T:
    """Return ``value`` checked against ``kind``.

    Raises:
        BadRequestError: It does not fit; the message names ``what``, the argument and what is allowed.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as cause:
        raise BadRequestError(f"{what}: {cause}".replace("`$.", "`")) from cause
