"""Frames: how values and arrays are packed into a message and taken out again.

A message is a list of frames: ``b"SS1"``, a msgpack header, then raw buffers. An array stands in the header as
msgpack extension type 1, which names its dtype, its shape and the buffer that holds its bytes; a small one brings
its bytes along, since a frame costs more than they do. This module
knows nothing of verbs, and imports neither ZeroMQ nor anything of snapserv but its errors, since the processes
that hold simulations import it and must stay small; and `snapserv_client.arrays`, with numpy, where it meets one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn, TypeAlias, TypeVar

import msgpack
import msgspec

from .errors import BadRequestError, SnapservError, TooLargeError

MAGIC = b"SS1"
ARRAY_EXTENSION = 1

MAX_HEADER_BYTES = 1 << 20
MAX_BUFFERS = 256
MAX_MESSAGE_BYTES = 1 << 30
MAX_ARRAYS = 1 << 14
MAX_CONTAINERS = 1 << 16
"""Arrays, and lists and maps, in a request: each costs its receiver far more time than its few bytes."""
INLINE_BYTES = 512
MAX_INLINE_BYTES = 1 << 18
"""Arrays up to the first size are put into the header, until they are so many bytes together."""

MOST_KEYS = 16
"""So many keys of a header are looked at for the id, where it cannot be unpacked; a request has four."""
MOST_KEY_BYTES = 8
ID_KEYS = frozenset((b"\xa2id", b"\xd9\x02id", b"\xda\x00\x02id", b"\xdb\x00\x00\x00\x02id"))
"""The text ``id``, in each length of its length."""
INT_STARTS = frozenset((*range(0x80), *range(0xCC, 0xD4), *range(0xE0, 0x100)))
"""What an int begins with."""
SMALL_HEADER_BYTES = 1 << 10
"""Below this size no header can do harm, whatever it says of itself."""

Buffer: TypeAlias = bytes | bytearray | memoryview
Frames: TypeAlias = list[Buffer]
T = TypeVar("T")

_Packer: type[msgpack.Packer] = msgpack.Packer
_unpackb = msgpack.unpackb


def pack(header: Any) -> Frames:
    """Return the header frame for ``header`` followed by one buffer for each array in it.

    ``header`` may hold plain values, msgspec structs, numpy arrays (C order is made where it is missing; object
    dtypes are refused) and numpy scalars: numbers, text and bytes as plain values, others as arrays of shape [],
    as Python's own complex numbers are.

    Raises:
        BadRequestError: A value that msgpack cannot carry, or an array of objects; the caller's fault.
        TooLargeError: More than `MAX_BUFFERS` arrays or a header above `MAX_HEADER_BYTES`.
    """
    try:
        packed: bytes = _Packer().pack(header)
        if len(packed) <= MAX_HEADER_BYTES:
            return [packed]
    except Exception:  # noqa: BLE001 - it holds more than plain values, or what cannot be sent: that is told below
        pass
    return _pack_all(header)


def _pack_all(header: Any) -> Frames:
    """Do what `pack` does for any header; most are plain, and need none of this."""
    buffers: list[Buffer] = []
    inline = 0

    def default(value: Any) -> Any:
        nonlocal inline
        if isinstance(value, msgspec.Struct):
            kind = value.__struct_config__
            named = {kind.tag_field: kind.tag} if kind.tag_field is not None else {}
            return {**named, **msgspec.structs.asdict(value)}
        from .arrays import array_bytes, dtype_to_wire, is_array, plain_or_array

        sent = plain_or_array(value)
        if not is_array(sent):
            return sent
        content = array_bytes(sent)
        described: list[Any] = [dtype_to_wire(sent.dtype), list(sent.shape), len(buffers)]
        if len(content) <= INLINE_BYTES and inline < MAX_INLINE_BYTES:
            inline += len(content)
            described[2] = bytes(content)
        else:
            buffers.append(content)
        return msgpack.ExtType(ARRAY_EXTENSION, msgpack.packb(described))

    try:
        packed = msgpack.packb(header, default=default)
    except (ValueError, TypeError, OverflowError, RecursionError) as cause:
        raise BadRequestError(f"a value cannot be sent: {cause}") from cause
    if len(packed) > MAX_HEADER_BYTES:
        raise TooLargeError(
            f"the header is {len(packed):,} bytes, and {MAX_HEADER_BYTES:,} are allowed",
            hint="send large data as numpy arrays",
        )
    if len(buffers) > MAX_BUFFERS:
        raise TooLargeError(f"{len(buffers)} arrays in one message, and {MAX_BUFFERS} are allowed")
    return [packed, *buffers]


def unpack(header: Buffer, buffers: Sequence[Buffer] = (), *, request: bool = False) -> Any:
    """Return what `pack` was given; arrays are views of ``buffers``, or of the header's bytes, and not writable.

    Time and memory follow the size of the header, whatever it says of itself.

    Args:
        header: The header frame.
        buffers: The frames after it.
        request: Whether to bound the numbers of arrays, lists and maps, which in a reply only follow its size.

    Raises:
        BadRequestError: Bytes that are not one well-formed msgpack value, or an array that does not fit its
            buffer; the sender's fault.
        TooLargeError: A header above `MAX_HEADER_BYTES`, more arrays, lists or maps than a request may have, or
            more than there is memory for.
    """
    if len(header) < SMALL_HEADER_BYTES:
        try:
            return _unpackb(header, ext_hook=_not_plain, strict_map_key=False)
        except Exception:  # noqa: BLE001 - it has arrays, or is malformed: that is told below
            pass
    return _unpack_all(header, buffers, request=request)


def _not_plain(code: int, data: bytes) -> NoReturn:
    raise ValueError


def _unpack_all(header: Buffer, buffers: Sequence[Buffer], *, request: bool) -> Any:
    """Do what `unpack` does for any header; those that are small and plain need none of this."""
    if len(header) > MAX_HEADER_BYTES:
        raise TooLargeError(f"the header is {len(header):,} bytes, and {MAX_HEADER_BYTES:,} are allowed")
    arrays = containers = 0

    def extension(code: int, data: bytes) -> Any:
        nonlocal arrays
        arrays += 1
        if request and arrays > MAX_ARRAYS:
            raise TooLargeError(f"more than {MAX_ARRAYS:,} arrays in a request", hint="send fewer, larger arrays")
        if code != ARRAY_EXTENSION:
            raise BadRequestError(f"msgpack extension type {code} is unknown; {ARRAY_EXTENSION} is an array")
        from .arrays import array_from_wire

        _refuse_hollow(data)
        return array_from_wire(msgpack.unpackb(data), buffers, MAX_MESSAGE_BYTES)

    def count(container: Any) -> Any:
        nonlocal containers
        containers += 1
        if containers > MAX_CONTAINERS:
            raise TooLargeError(
                f"more than {MAX_CONTAINERS:,} lists and maps in a request", hint="send large data as numpy arrays"
            )
        return container

    counted = count if request and len(header) > MAX_CONTAINERS else None
    try:
        _refuse_hollow(header)
        return msgpack.unpackb(
            header, ext_hook=extension, object_hook=counted, list_hook=counted, strict_map_key=False
        )
    except SnapservError:
        raise
    except (ValueError, TypeError, RecursionError, UnicodeError, msgpack.UnpackException) as cause:
        raise BadRequestError(f"the header is not well-formed msgpack: {cause}") from cause
    except MemoryError as cause:
        raise TooLargeError("there is no memory to unpack the header") from cause


def _refuse_hollow(packed: Buffer) -> None:
    """Raise ValueError where arrays and maps are declared longer than they are.

    Unpacking makes a list as long as declared at once: a thousand of them within each other, each said to be as
    long as the header, would take gigabytes and seconds. Skipping makes nothing, and ends with the bytes.
    """
    if len(packed) < SMALL_HEADER_BYTES:
        return
    unpacker = msgpack.Unpacker(read_size=len(packed), max_buffer_size=len(packed))
    unpacker.feed(packed)
    unpacker.skip()


def leading_id(header: Buffer) -> int:
    """Return the ``id`` of a header that begins with it, without reading on, or 0."""
    unpacker = msgpack.Unpacker(max_buffer_size=SMALL_HEADER_BYTES)
    unpacker.feed(memoryview(header)[:32])
    try:
        unpacker.read_map_header()
        found = unpacker.unpack() if unpacker.unpack() == "id" else 0
    except (ValueError, TypeError, UnicodeError, msgpack.UnpackException):
        return 0
    return found if type(found) is int else 0


def readable_id(header: Buffer) -> int:
    """Return the ``id`` among the first keys of a header that cannot be unpacked, whatever else is wrong, or 0.

    Nothing is made of what it passes over: neither arrays nor text, and no list is as long as it says it is.
    """
    view = memoryview(header)[:MAX_HEADER_BYTES]
    unpacker = msgpack.Unpacker(read_size=max(1, len(view)), max_buffer_size=MAX_HEADER_BYTES)
    unpacker.feed(view)
    try:
        for _ in range(min(unpacker.read_map_header(), MOST_KEYS)):
            start = unpacker.tell()
            unpacker.skip()
            named = bytes(view[start : min(unpacker.tell(), start + MOST_KEY_BYTES)]) in ID_KEYS
            if named and view[unpacker.tell()] in INT_STARTS:
                return int(unpacker.unpack())
            unpacker.skip()
    except (ValueError, TypeError, IndexError, msgpack.UnpackException):
        pass
    return 0


def convert(value: Any, kind: type[T], *, what: str) -> T:
    """Return ``value`` checked against ``kind``.

    Raises:
        BadRequestError: It does not fit; the message names ``what``, the argument and what is allowed.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as cause:
        from .refusals import in_words

        raise BadRequestError(f"{what}: {in_words(cause, value=value, kind=kind)}") from cause
