"""How an object becomes bytes: 32 bytes that say what it is and how its bytes hash, then zstd of msgpack.

The 32 bytes are the same in every format, so that a newer object is told from a damaged one.
"""

from __future__ import annotations

import struct
from typing import Any, TypeVar

import msgspec
import xxhash
import zstandard

from ..errors import StoreDamagedError, VersionMismatchError
from .format import FORMAT, Base, Image, Marker, Node, Session, Tree

MAGIC = b"\x89snapobj"
HEADER = struct.Struct("<8sHHI16s")
"""Magic, format, kind, bytes of msgpack, and XXH3-128 of these first 16 bytes and of all behind the header."""
HASHED = 16
LARGEST = 1 << 30
"""What an object may unpack to, in bytes."""
LEVEL = 3

KINDS: dict[type[Any], int] = {Marker: 1, Tree: 2, Node: 3, Session: 4, Image: 5, Base: 6}
"""The number that stands for each kind of object."""

_Kind = TypeVar("_Kind", Marker, Tree, Node, Session, Image, Base)


def pack_object(value: Marker | Tree | Node | Session | Image | Base) -> bytes:
    """Return the bytes of an object."""
    plain = msgspec.msgpack.encode(value)
    packed = zstandard.ZstdCompressor(level=LEVEL).compress(plain)
    start = HEADER.pack(MAGIC, FORMAT, KINDS[type(value)], len(plain), b"")[:HASHED]
    return start + _digest(start, packed) + packed


def unpack_object(key: str, data: bytes, kind: type[_Kind]) -> _Kind:
    """Return the object whose bytes these are.

    Args:
        key: Where they lay, for what is said of them.
        data: All bytes of it.
        kind: What it should be.

    Raises:
        StoreDamagedError: They are not what was written, or of another kind.
        VersionMismatchError: They are of a newer format.
    """
    if len(data) < HEADER.size or not data.startswith(MAGIC):
        raise damaged(key, "it does not begin as an object does")
    _, version, number, size, digest = HEADER.unpack_from(data)
    packed = memoryview(data)[HEADER.size :]
    if digest != _digest(data[:HASHED], packed):
        raise damaged(key, "its bytes have changed")
    refuse_newer(key, version)
    if number != KINDS[kind]:
        raise damaged(key, f"it is no {kind.__name__.lower()}")
    try:
        return msgspec.msgpack.decode(unzstd(packed, size), type=kind)
    except (zstandard.ZstdError, msgspec.MsgspecError) as cause:
        raise damaged(key, str(cause)) from cause


def unzstd(packed: memoryview, size: int) -> bytes:
    """Return what a zstd frame holds, which must be ``size`` bytes.

    Raises:
        zstandard.ZstdError: It does not hold that.
    """
    if size > LARGEST or zstandard.frame_content_size(packed) != size:
        raise zstandard.ZstdError(f"it should unpack to {size:,} bytes")
    return zstandard.ZstdDecompressor().decompress(packed)


def refuse_newer(key: str, version: int) -> None:
    """Refuse an object of a format that is not known here.

    Raises:
        VersionMismatchError: It is of one.
    """
    if version > FORMAT:
        raise VersionMismatchError(
            f"{key} is of format {version}, and only formats up to {FORMAT} are known here",
            hint="read it with the version of snapserv that wrote it, or a newer one",
            details={"key": key, "format": version, "known": FORMAT},
        )


def damaged(key: str, what: str) -> StoreDamagedError:
    """Return the error that says what is wrong with an object."""
    return StoreDamagedError(
        f"{key} is damaged: {what}",
        hint="snapserv store verify lists all that is damaged, and which nodes need it",
        details={"key": key},
    )


def missing(key: str) -> StoreDamagedError:
    """Return the error that says that an object is named, and not there."""
    return StoreDamagedError(
        f"{key} is missing",
        hint="snapserv store verify lists all that is missing, and which nodes need it",
        details={"key": key, "missing": True},
    )


def _digest(start: bytes, packed: bytes | memoryview) -> bytes:
    digest = xxhash.xxh3_128(start)
    digest.update(packed)
    return digest.digest()
