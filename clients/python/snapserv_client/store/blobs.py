"""What a store lies in: keys with bytes, in a folder or in an object store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview
TIMEOUT_S = 60.0


class Entry(NamedTuple):
    """An object that is there.

    Attributes:
        key: Its key.
        size: In bytes.
        modified: When it was written, in seconds since 1970 by the clock of what it lies in.
    """

    key: str
    size: int
    modified: float


CHUNK_BYTES = 8 << 20
"""How much of an object that is read whole is read at a time."""


class Spool(Protocol):
    """A file that becomes an object when all of it is written, and else is gone."""

    def write(self, data: Buffer) -> None:
        """Append to it."""

    def keep(self, key: str) -> None:
        """Make it the object of that key; it is durable when this returns."""

    def discard(self) -> None:
        """Give it up, if it was not kept."""


class Blobs(Protocol):
    """Objects by key. An object is there as a whole, or not at all, and durable when what writes it returns.

    Everything raises `StoreUnavailableError` where the store cannot be reached, is full or refuses; a folder also
    `UntrustedError` where something in it could be somebody else's.
    """

    url: str
    gap: int
    """How many bytes are better read than skipped."""

    def get(self, key: str) -> bytes:
        """Return all bytes of an object.

        Raises:
            NotFoundError: It is not there.
        """

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[Buffer]:
        """Return stretches of an object, given as (start, size); what lies behind its end is left out.

        Raises:
            NotFoundError: It is not there.
        """

    def get_all(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Return many objects in order, or None where one is not there."""

    def put(self, key: str, data: Buffer) -> None:
        """Write an object, in the place of what is there."""

    def put_new(self, key: str, data: Buffer) -> bool:
        """Write an object if there is none; return whether it was written."""

    def spool(self) -> Spool:
        """Return a file to write an object to."""

    def entries(self, prefix: str) -> list[Entry]:
        """Return all objects whose key begins so, which ends with a slash or is empty, in order of keys."""

    def head(self, key: str) -> Entry | None:
        """Return what is known of an object, or None where it is not there."""

    def absent(self, keys: Iterable[str]) -> list[str]:
        """Return those keys of which there is no object."""

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no matter."""


def stretches(blobs: Blobs, entry: Entry) -> Iterator[Buffer]:
    """Return all bytes of an object, `CHUNK_BYTES` at a time; fewer, if it is shorter than it was.

    Raises:
        NotFoundError: It is not there.
    """
    for start in range(0, entry.size, CHUNK_BYTES):
        yield from blobs.get_ranges(entry.key, [(start, min(CHUNK_BYTES, entry.size - start))])
