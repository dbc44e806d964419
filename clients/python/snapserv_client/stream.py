"""Actions as a stream of msgpack: how a node keeps what was done to it, and how a store does. See docs/store.md.

For each run of equal actions there are three values: how often it was done, ``[kind, ticks, raised]``, and what
was asked. Nothing that was written changes when something is done later, but the last run's count. Arrays are
extensions that hold ``[dtype, shape, bytes]``. Cells import this: it needs as little as they do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgpack
import numpy as np

from .arrays import array_bytes, dtype_from_wire, dtype_to_wire, plain_or_array
from .wire import ARRAY_EXTENSION, INLINE_BYTES

STEP, WRITE, CALL, BEGIN = range(4)
KINDS = ("step", "write", "call", "begin")


def runs(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield how often each action was done in a row, and the action as it was packed.

    Raises:
        ValueError: It is no such stream.
    """
    unpacker = msgpack.Unpacker(max_buffer_size=len(stream), strict_map_key=False, ext_hook=msgpack.ExtType)
    unpacker.feed(stream)
    at = 0
    while at < len(stream):
        try:
            repeat = unpacker.unpack()
            start = unpacker.tell()
            unpacker.skip()
            unpacker.skip()
        except msgpack.UnpackException as cause:
            raise ValueError("the stream ends within an action") from cause
        at = unpacker.tell()
        if not isinstance(repeat, int) or repeat < 1:
            raise ValueError(f"an action that was done {repeat!r} times")
        yield repeat, stream[start:at]


def action_of(packed: bytes) -> tuple[dict[str, Any], list[int]]:
    """Return an action as the protocol writes it, and the sizes of the arrays in it that need a buffer."""
    ((kind, ticks, raised), asked), sizes = values_of(packed)
    action: dict[str, Any] = {"kind": KINDS[kind]}
    if kind == STEP:
        action |= {"ticks": ticks, "inputs": asked, "raised": raised}
    elif kind == WRITE:
        action |= dict(zip(("field", "region", "value"), asked, strict=True))
    elif kind == CALL:
        action |= {**dict(zip(("method", "args", "kwargs"), asked, strict=True)), "raised": raised}
    else:
        action["seed"] = asked
    return action, sizes


def values_of(packed: bytes) -> tuple[list[Any], list[int]]:
    """Return the values that were packed one after the other, and the sizes of their arrays that need a buffer."""
    sizes: list[int] = []

    def array(_: int, data: bytes) -> Any:
        dtype, shape, content = msgpack.unpackb(data, max_bin_len=len(data))
        if len(content) > INLINE_BYTES:
            sizes.append(len(content))
        kind = dtype_from_wire(dtype)
        return np.frombuffer(content, kind).reshape(shape) if content else np.empty(shape, kind)

    unpacker = msgpack.Unpacker(ext_hook=array, strict_map_key=False, max_buffer_size=len(packed))
    unpacker.feed(packed)
    return list(unpacker), sizes


def ticks_of(packed: bytes) -> int:
    """Return how many ticks an action completed, each time that it was done."""
    unpacker = msgpack.Unpacker()
    unpacker.feed(packed[:16])
    ticks: int = unpacker.unpack()[1]
    return ticks


def plain(value: Any) -> Any:
    """Return what msgpack cannot carry as what it can, without a loss; what a stream's packer asks where it must.

    Raises:
        TypeError: It has no such form.
    """
    if isinstance(value, np.ndarray):
        described = [dtype_to_wire(value.dtype), list(value.shape), bytes(array_bytes(value))]
        return msgpack.ExtType(ARRAY_EXTENSION, msgpack.packb(described))
    if isinstance(value, np.generic | complex):
        said = plain_or_array(value)
        return plain(said) if isinstance(said, np.ndarray) else said
    raise TypeError(f"{type(value).__name__} cannot be packed")
