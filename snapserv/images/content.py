"""New pages on their way into a store: of processes, and of files whose content is to lie there."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import numpy as np
from snapserv_client.store.columns import Array
from snapserv_client.store.format import PAGE, Base, Pack

from ..store.packing import MOST_SLOTS, PackWriter
from ..store.writing import Saving
from .table import ZEROS, digests_of, equal, joined

CHUNK_BYTES = 32 << 20
"""How much is read at a time."""


class NewPages:
    """New pages on their way into packs, for as many packs as it takes."""

    def __init__(self, saving: Saving) -> None:
        self._saving = saving
        self._writer: PackWriter | None = None
        self._packs: list[Pack] = []
        self.count = self.written_bytes = 0

    def add(self, content: Array, digest: Array) -> tuple[Array, Array]:
        """Add pages; return in which pack, of those that `close` returns, and in which slot each one is."""
        if self._writer is not None and self._writer.slots >= MOST_SLOTS:
            self._finish()
        if self._writer is None:
            self._writer = self._saving.pack()
        before = self._writer.slots
        slots = self._writer.add(content, digest)
        self.count += self._writer.slots - before
        return np.full(len(slots), len(self._packs), np.uint32), slots.astype(np.int64)

    def close(self) -> list[Pack]:
        """Make what was added durable; return the packs, and begin anew."""
        self._finish()
        packs, self._packs = self._packs, []
        return packs

    def _finish(self) -> None:
        if self._writer is not None:
            pack = self._writer.close()
            self._writer = None
            if pack is not None:
                self._packs.append(pack)
                self.written_bytes += pack.size

    def __enter__(self) -> NewPages:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.abandon()


def save_content(file: int, pages: NewPages, saving: Saving) -> bytes:
    """Write the content of an open file, in packs of its own; return the SHA-256 of its `Base`.

    The same content gives the same packs and the same `Base`, whoever writes it and wherever its holes are: so a
    store has it once.
    """
    parts, size = [], os.fstat(file).st_size
    for offset, content in _content_of(file, size):
        digest = digests_of(content)
        held = np.flatnonzero(~equal(digest, np.broadcast_to(ZEROS, digest.shape)))
        numbers, slots = pages.add(content[held], digest[held])
        parts.append((held.astype(np.uint64) * np.uint64(PAGE) + np.uint64(offset), numbers, slots, digest[held]))
    table = joined(parts, pages.close())
    return saving.put_base(Base(size, table.packs, table.runs()))


def _content_of(file: int, size: int) -> Iterator[tuple[int, Array]]:
    """Yield what a file holds, but for its holes: offsets, and pages from there on, padded with zeros."""
    at = 0
    while at < size:
        try:
            start = os.lseek(file, at, os.SEEK_DATA) // PAGE * PAGE
        except OSError as cause:
            if cause.errno == errno.ENXIO:  # a hole up to its end
                return
            raise
        at = min(os.lseek(file, start, os.SEEK_HOLE), start + CHUNK_BYTES, size)
        content = np.zeros((-(-(at - start) // PAGE), PAGE), np.uint8)
        view, got = content.data.cast("B"), 0
        while got < at - start:
            more = os.preadv(file, [view[got : at - start]], start + got)
            if not more:
                break
            got += more
        yield start, content
