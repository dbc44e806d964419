"""Hashes of fields, read from outside: of a gibibyte in milliseconds, where most pages are still the base image's.

The hash of a field is the sum, modulo 2**128, of the XXH3 hashes (128 bits, https://xxhash.com) of its pages of
4 KiB, each seeded with its place in the field, the last one padded with zeros. A sum can be corrected: the pages of
the tree's first base image are hashed once, and of a node only those that it does not share with that. What a page
holds decides, and not who wrote it: a page that was written with equal bytes hashes equally.

Everything here may take long and runs in a worker thread; it touches nothing that the event loop changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from xxhash import xxh3_128_digest

from ..errors import NodeDiedError
from ..ext import memory
from .bases import Segments, bases_of
from .fields import FieldPlace, copy_bytes

PAGE = memory.PAGE
CHUNK_PAGES = 1 << 11
MODULUS = 1 << 128
_LOW_HALF = np.uint64((1 << 32) - 1)

Digests: TypeAlias = np.ndarray[Any, np.dtype[np.uint64]]
"""Hashes of pages, shape (pages, 2): the upper and the lower 64 bits of each."""
Pages: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]


class BaseHashes:
    """The hashes of all pages of a tree's first base image, made when they are needed first."""

    def __init__(self) -> None:
        self._fields: dict[str, tuple[Digests, int]] = {}

    def of(self, root: int, place: FieldPlace) -> tuple[Digests, int]:
        """Return the hashes of a field's pages, as the tree's root has them, and their sum."""
        found = self._fields.get(place.name)
        if found is None:
            digests = digests_of(root, place, np.arange(pages_of(place)))
            found = self._fields[place.name] = digests, sum_of(digests)
        return found


def hash_fields(
    places: Sequence[FieldPlace], pid: int, segments: Segments, *, root: int | None, base: BaseHashes
) -> dict[str, int]:
    """Return the hash of each field in the process ``pid``.

    Args:
        places: The fields.
        pid: Which process; it must stand still.
        segments: Where the arena's segments lie: (address, bytes).
        root: The process of the tree's root, which holds the first base image whole; None where there is no base
            image, or where the root has ended, and with it what keeps the image's name from being given away.
        base: What is known of that image.

    Raises:
        NodeDiedError: The process ended.
        UnsupportedError: This machine does not let one process read another.
    """
    hashes = {}
    for place in places:
        of_base, count, pages = 0, pages_of(place), None
        if root is not None and count:
            try:
                differing = _not_of_base(pid, root, place, segments)
            except (ProcessLookupError, FileNotFoundError) as cause:
                raise NodeDiedError("the node ended while it was hashed") from cause
            if len(differing) < count:
                known, total = base.of(root, place)
                of_base, pages = total - sum_of(known[differing]), differing
        pages = np.arange(count) if pages is None else pages
        hashes[place.name] = (of_base + sum_of(digests_of(pid, place, pages))) % MODULUS
    return hashes


def hash_plainly(content: bytes) -> int:
    """Return the hash of a field with these bytes: the definition."""
    pages = (content[at : at + PAGE].ljust(PAGE, b"\0") for at in range(0, len(content), PAGE))
    return sum(int.from_bytes(xxh3_128_digest(page, seed), "big") for seed, page in enumerate(pages)) % MODULUS


def pages_of(place: FieldPlace) -> int:
    """Return how many pages a field has."""
    return -(-place.nbytes // PAGE)


def digests_of(pid: int, place: FieldPlace, pages: Pages) -> Digests:
    """Return the hashes of some pages of a field, which are given in order."""
    found = np.empty((len(pages), 2), np.uint64)
    content = np.empty(min(len(pages), CHUNK_PAGES) * PAGE, np.uint8)
    tail = place.nbytes % PAGE
    for at in range(0, len(pages), CHUNK_PAGES):
        chunk = pages[at : at + CHUNK_PAGES]
        piece = content[: len(chunk) * PAGE]
        in_one = chunk[-1] - chunk[0] + 1 == len(chunk)
        starts = (chunk[:1] if in_one else chunk).astype(np.uint64) * np.uint64(PAGE) + np.uint64(place.address)
        copy_bytes(pid, starts, len(piece) // len(starts), piece)
        if tail and chunk[-1] == pages_of(place) - 1:
            piece[tail - PAGE :] = 0
        view = piece.data
        joined = b"".join(
            [xxh3_128_digest(view[low : low + PAGE], seed) for low, seed in _places_in(view, chunk.tolist())]
        )
        found[at : at + len(chunk)] = np.frombuffer(joined, ">u8").reshape(-1, 2)
    return found


def sum_of(digests: Digests) -> int:
    """Return the sum of hashes as one number, which may be larger than `MODULUS`."""
    if not len(digests):
        return 0
    high, low = (
        int((column & _LOW_HALF).sum()) + (int((column >> np.uint64(32)).sum()) << 32) for column in digests.T
    )
    return (high << 64) + low


def _places_in(view: memoryview, pages: list[int]) -> Iterator[tuple[int, int]]:
    return zip(range(0, len(view), PAGE), pages, strict=True)


def _not_of_base(pid: int, root: int, place: FieldPlace, segments: Segments) -> Pages:
    """Return the pages of a field that a process does not share with the tree's first base image, in order."""
    here, there = bases_of(pid), bases_of(root)
    end = place.address + pages_of(place) * PAGE
    found = [np.empty(0, np.int64)]
    for start, size in segments:
        low, high = max(start, place.address), min(start + size, end)
        if low >= high:
            continue
        if here.at(start) is not None and here.at(start) == there.at(start):
            ranges = memory.scan_private(pid, low, high).astype(np.int64)
        else:
            ranges = np.array([[low, high]])
        found += [np.arange(first, stop, PAGE) for first, stop in ranges]
    return (np.concatenate(found) - place.address) // PAGE
