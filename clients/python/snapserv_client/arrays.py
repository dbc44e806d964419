"""Arrays as the wire describes them: their dtypes as text or lists, their bytes in C order.

Apart from `snapserv_client.wire`, which asks this only where there is an array: most requests have none, and numpy
takes longer to load than all the rest of a client.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from typing import Any, TypeAlias, TypeGuard

import numpy as np
from numpy.lib import format as npy_format

from .errors import BadRequestError

Array: TypeAlias = np.ndarray[Any, Any]

MAX_AXES = 64
"""As many as numpy's arrays can have."""
MAX_DTYPE_FIELDS = 1024
MAX_DTYPE_DEPTH = 8
MAX_DTYPE_TEXT = 256
MAX_QUOTED = 200
"""Characters of a value that an error repeats."""
PLAIN_KINDS = "biufSU"
MOST_PLAIN_FLOAT_BYTES = 8
"""The kinds of numpy's scalars whose plain values say as much; all others are sent as arrays of shape []."""
DTYPE_PATTERN = re.compile(r"[<>=|]?[?biufcmMOSUV][0-9]{0,9}(\[[0-9]{0,9}[a-zA-Z]{1,7}\])?")
"""What numpy's dtype.str looks like. numpy reads more than that, with a parser of its own: ``"2f4, 3i2"``."""


def is_array(value: Any) -> TypeGuard[Array]:
    """Return whether a value is an array of numpy's."""
    return isinstance(value, np.ndarray)


def plain_or_array(value: Any) -> Any:
    """Return an array as it is, and a scalar of numpy's as it is sent: a plain value, or an array of shape [].

    A plain value is what says as much.

    Raises:
        BadRequestError: It is neither.
    """
    if isinstance(value, np.ndarray):
        return value
    if not isinstance(value, np.generic | complex):
        raise BadRequestError(
            f"a value of type {type(value).__name__} cannot be sent",
            hint="plain values, numpy scalars and numpy arrays can",
        )
    array = np.asarray(value)
    kind, size = array.dtype.kind, array.dtype.itemsize
    plain = kind in PLAIN_KINDS and (kind != "f" or size <= MOST_PLAIN_FLOAT_BYTES)
    return array.item() if plain else array


def array_bytes(array: Array) -> memoryview:
    """Return the bytes of ``array`` in C order; a copy only where it is not contiguous."""
    if array.dtype.hasobject:
        raise BadRequestError(f"an array of dtype {array.dtype} cannot be sent: it holds Python objects")
    if array.dtype.names is not None and not array.flags.c_contiguous:
        array = array.view((np.void, array.dtype.itemsize))  # numpy copies members, and not what lies between them
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
    if isinstance(described, str):
        dtype = _plain_dtype(described)
    elif isinstance(described, list):
        _refuse_deep(described)
        try:
            dtype = npy_format.descr_to_dtype(_tuples(described))
        except (TypeError, ValueError, KeyError, IndexError, OverflowError) as cause:
            raise BadRequestError(f"not a dtype: {_short(described)}") from cause
    else:
        raise BadRequestError(f"not a dtype: {_short(described)}", hint='a text such as "<f4", or a list of fields')
    if dtype.hasobject:
        raise BadRequestError(f"dtype {dtype} holds Python objects, which are never sent")
    return dtype


@functools.lru_cache(maxsize=256)
def _plain_dtype(described: str) -> np.dtype[Any]:
    if not DTYPE_PATTERN.fullmatch(described):
        raise BadRequestError(f"not a dtype: {_short(described)}", hint='written as numpy does, such as "<f4"')
    try:
        return np.dtype(described)
    except (TypeError, ValueError, OverflowError) as cause:
        raise BadRequestError(f"not a dtype: {_short(described)}") from cause


def _refuse_deep(described: Any) -> None:
    """Refuse what describes more fields, or fields within fields deeper, than anybody needs."""
    level, parts = [described], 0
    for _ in range(2 * MAX_DTYPE_DEPTH):  # a list of fields, and each field a list
        level = [part for each in level if isinstance(each, list) for part in each]
        for part in level:
            if isinstance(part, str) and len(part) > MAX_DTYPE_TEXT:
                raise BadRequestError(f"a dtype with a name of {len(part):,} characters")
        parts += len(level)
        if parts > 3 * MAX_DTYPE_FIELDS + MAX_AXES:
            raise BadRequestError(f"a dtype of more than {MAX_DTYPE_FIELDS:,} fields")
        if not level:
            return
    raise BadRequestError(f"a dtype of fields within fields, more than {MAX_DTYPE_DEPTH} deep")


def _short(value: Any) -> str:
    """Return a value as text that fits into an error."""
    text = repr(value)
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…"


def _tuples(described: list[Any]) -> list[Any]:
    """Turn the lists that msgpack made of a structured dtype's fields back into tuples.

    Raises:
        BadRequestError: One is no list: numpy would take a text of two letters for a name and a type.
    """
    for field in described:
        if not isinstance(field, list):
            raise BadRequestError(f"not a field of a dtype: {_short(field)}")
    return [
        tuple(_type(part) if index == 1 else _shape(part) for index, part in enumerate(field))
        for field in described
    ]


def _type(part: Any) -> Any:
    """Return the type of a field: plain, or a list of fields."""
    return _tuples(part) if isinstance(part, list) else dtype_from_wire(part).str


def _shape(part: Any) -> Any:
    return tuple(part) if isinstance(part, list) else part


def array_from_wire(described: Any, buffers: Sequence[bytes | bytearray | memoryview], most: int) -> Array:
    """Return the array that ``[dtype, shape, buffer]`` describes: a view of its buffer.

    One of no elements, which needs no bytes, is not longer than ``most`` of them either.

    Raises:
        BadRequestError: It describes none, or one that its buffer does not fit.
    """
    if not (isinstance(described, list) and len(described) == 3):
        raise BadRequestError("an array is [dtype, shape, buffer], or its bytes in place of the buffer's number")
    dtype = dtype_from_wire(described[0])
    shape, index = described[1], described[2]
    if not (
        isinstance(shape, list)
        and len(shape) <= MAX_AXES
        and all(type(size) is int and 0 <= size < 1 << 48 for size in shape)
    ):
        raise BadRequestError(f"not a shape: {_short(shape)}")
    if not dtype.itemsize:
        raise BadRequestError(f"dtype {dtype} has no bytes, so nothing says how many elements there are")
    if isinstance(index, bytes):
        buffer: bytes | bytearray | memoryview = index
    elif type(index) is int and 0 <= index < len(buffers):
        buffer = buffers[index]
    else:
        raise BadRequestError(f"an array names buffer {_short(index)}, and the message has {len(buffers)}")
    expected = dtype.itemsize
    for size in shape:
        expected *= size
    if len(buffer) != expected:
        raise BadRequestError(f"an array has {len(buffer)} bytes, and {dtype} {shape} needs {expected}")
    if not expected:
        if dtype.itemsize * math.prod(size for size in shape if size) > most:
            raise BadRequestError(f"an array of nothing is too long: {shape}")
        return np.empty(shape, dtype)
    array = np.frombuffer(buffer, dtype).reshape(shape)
    array.flags.writeable = False  # whatever the buffer is: a message that came as it is can be written
    return array
