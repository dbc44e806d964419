"""The pages that an image holds, as a table: to compare another with, and to be written down as runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash
from snapserv_client.store.columns import Array, columns, pack_columns
from snapserv_client.store.format import PAGE, ZERO, Base, Image, Pack, Runs
from snapserv_client.store.packs import DIGEST
from snapserv_client.store.reader import Store

ZEROS = np.frombuffer(xxhash.xxh3_128_digest(bytes(PAGE)), DIGEST)[0]


@dataclass
class PageTable:
    """Pages in order of address; arrays of equal length.

    Attributes:
        packs: Those that are named.
        address: uint64.
        pack: Which of the packs, or `ZERO`; uint32.
        slot: Where in it; int64.
        digest: XXH3-128 of the page; V16.
    """

    packs: list[Pack]
    address: Array
    pack: Array
    slot: Array
    digest: Array

    @classmethod
    def empty(cls) -> PageTable:
        """Return a table of no pages."""
        return cls([], np.empty(0, "<u8"), np.empty(0, "<u4"), np.empty(0, np.int64), np.empty(0, DIGEST))

    @classmethod
    def of(cls, made: Image | Base, store: Store) -> PageTable:
        """Return the pages of what was written earlier."""
        runs = columns("runs", made.runs, len(made.packs))
        behind = np.repeat(np.cumsum(runs.pages) - runs.pages, runs.pages)
        step = np.arange(int(runs.pages.sum()), dtype=np.int64) - behind
        pack = np.repeat(runs.pack, runs.pages)
        slot = np.repeat(runs.slot, runs.pages) + step
        slot[pack == ZERO] = 0
        digest = np.empty(len(pack), DIGEST)
        digest[pack == ZERO] = ZEROS
        for number in np.unique(pack[pack != ZERO]).tolist():
            here = pack == number
            digest[here] = store.digests(made.packs[number])[slot[here]]
        address = np.repeat(runs.address, runs.pages) + step.astype(np.uint64) * np.uint64(PAGE)
        return cls(list(made.packs), address, pack, slot, digest)

    def runs(self) -> Runs:
        """Return the pages as runs."""
        if not len(self.address):
            return Runs()
        goes_on = (
            (self.address[1:] == self.address[:-1] + np.uint64(PAGE))
            & (self.pack[1:] == self.pack[:-1])
            & ((self.pack[1:] == ZERO) | (self.slot[1:] == self.slot[:-1] + 1))
        )
        first = np.flatnonzero(np.concatenate(([True], ~goes_on)))
        pages = np.diff(np.append(first, len(self.address)))
        return pack_columns(self.address[first], pages, self.pack[first], self.slot[first])

    def find(self, address: Array) -> Array:
        """Return the place of each address in the table, or -1; int64."""
        if not len(self.address):
            return np.full(len(address), -1)
        place = np.minimum(np.searchsorted(self.address, address), len(self.address) - 1)
        return np.where(self.address[place] == address, place, -1)


def digests_of(pages: Array) -> Array:
    """Return XXH3-128 of each page; V16, shape (n,) for uint8 of shape (n, 4096)."""
    view, digest = pages.data.cast("B"), xxhash.xxh3_128_digest
    return np.frombuffer(b"".join([digest(view[at : at + PAGE]) for at in range(0, len(view), PAGE)]), DIGEST)


def equal(a: Array, b: Array) -> Array:
    """Return which digests are equal: bool."""
    x, y = (each.view(np.uint64).reshape(-1, 2) for each in (np.ascontiguousarray(a), np.ascontiguousarray(b)))
    same: Array = (x == y).all(axis=1)
    return same


def joined(tables: Sequence[tuple[Array, Array, Array, Array]], packs: list[Pack]) -> PageTable:
    """Return a table of the packs that are used, of columns in order of address; see `PageTable`."""
    if not tables:
        return PageTable.empty()
    address, pack, slot, digest = (np.concatenate(column) for column in zip(*tables, strict=True))
    used = np.unique(pack[pack != ZERO])
    named: dict[Any, int] = {}
    for number in used.tolist():
        named.setdefault(packs[number].sha256, len(named))
    translated = np.full(len(packs) + 1, ZERO, np.uint32)
    for number in used.tolist():
        translated[number] = named[packs[number].sha256]
    by_name = {packs[number].sha256: packs[number] for number in used.tolist()}
    return PageTable(
        [by_name[sha256] for sha256 in named],
        address,
        translated[np.where(pack == ZERO, len(packs), pack)],
        slot,
        digest,
    )
