"""Packs as they are written: pages, each kept once, compressed 64 at a time into a file that becomes the pack."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np
import zstandard
from snapserv_client.store.blobs import Blobs, Buffer
from snapserv_client.store.format import FORMAT, FRAME_PAGES, PAGE, Pack
from snapserv_client.store.keys import PACKS, of_content
from snapserv_client.store.packs import DIGEST, HEADER, MAGIC, Array, pack_index

from snapserv.errors import BadRequestError

LEVEL = 1
FRAME_BYTES = FRAME_PAGES * PAGE
MOST_SLOTS = 1 << 18
"""From how many pages on a pack is full: 1 GiB of them, and about 64 MB to know which are in it."""


class Rate:
    """A bound on how many bytes a second are written; threads may share it.

    Args:
        bytes_per_s: How many; without a bound by default.
    """

    def __init__(self, bytes_per_s: float | None = None) -> None:
        self._each_s = 1.0 / bytes_per_s if bytes_per_s else 0.0
        self._lock = threading.Lock()
        self._free_at = time.monotonic()

    def take(self, size: int) -> None:
        """Wait until so many bytes may be written."""
        if not self._each_s:
            return
        with self._lock:
            now = time.monotonic()
            begin = max(now, self._free_at)
            self._free_at = begin + size * self._each_s
        if begin > now:
            time.sleep(begin - now)


class PackWriter:
    """A pack that is being written, by one thread. Leaving the block without `close` gives it up.

    Args:
        blobs: Where it will be.
        rate: Bounds how fast it is written.
        kept: Called with the key of the pack when it is durable.
    """

    def __init__(self, blobs: Blobs, rate: Rate, kept: Callable[[str], None]) -> None:
        self._rate, self._kept = rate, kept
        self._compressor = zstandard.ZstdCompressor(level=LEVEL)
        self._hash = hashlib.sha256()
        self._slots: dict[bytes, int] = {}
        self._sizes: list[int] = []
        self._frame = np.empty((FRAME_PAGES, PAGE), np.uint8)
        self._filled = 0
        self._size = 0
        self._spool = blobs.spool()
        self._open = True
        self._write(HEADER.pack(MAGIC, FORMAT, FRAME_PAGES))

    @property
    def slots(self) -> int:
        """How many pages it holds; one of `MOST_SLOTS` should be closed."""
        return len(self._slots)

    @property
    def size(self) -> int:
        """How many bytes have been written to it."""
        return self._size

    def add(self, pages: Any, digests: Array) -> np.ndarray[Any, np.dtype[np.uint32]]:
        """Add pages; those that are in it already are not written again.

        Args:
            pages: A buffer of n * 4096 bytes, which must not change meanwhile.
            digests: XXH3-128 of each, which tells equal pages, and by which they are checked when they are read;
                V16, shape (n,).

        Returns:
            In which slot each page is; uint32, shape (n,).

        Raises:
            StoreUnavailableError: There is no room for it, or it cannot be written; the pack is given up.
        """
        rows = np.frombuffer(pages, np.uint8).reshape(-1, PAGE)
        if len(rows) != len(digests) or digests.dtype != DIGEST or not self._open:
            raise BadRequestError(f"{len(rows)} pages with {len(digests)} digests, to a pack that is open")
        known, new = self._slots, []
        slots = np.empty(len(rows), np.uint32)
        for row, digest in enumerate(digests.tolist()):
            held = len(known)
            slots[row] = slot = known.setdefault(digest, held)
            if slot == held:
                new.append(row)
        self._append(rows[new] if len(new) < len(rows) else rows)
        return slots

    def close(self) -> Pack | None:
        """Write the index and make the pack durable; return what to refer to it by, or None for an empty one.

        Raises:
            StoreUnavailableError: It cannot be written; the pack is given up.
        """
        if not self._slots or not self._open:
            self.abandon()
            return None
        try:
            if self._filled:
                self._put_frame(self._frame[: self._filled])
            begins = self._size
            self._write(pack_index(self._sizes, b"".join(self._slots), begins))
            pack = Pack(self._hash.digest(), self._size, begins, len(self._slots))
            key = of_content(PACKS, pack.sha256)
            self._spool.keep(key)
        finally:
            self.abandon()
        self._kept(key)
        return pack

    def abandon(self) -> None:
        """Give it up, if it was not closed; nothing of it is left."""
        self._open = False
        self._spool.discard()

    def __enter__(self) -> PackWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abandon()

    def _append(self, rows: Array) -> None:
        at = 0
        while at < len(rows):
            if not self._filled and len(rows) - at >= FRAME_PAGES:
                self._put_frame(rows[at : at + FRAME_PAGES])
                at += FRAME_PAGES
                continue
            some = min(FRAME_PAGES - self._filled, len(rows) - at)
            self._frame[self._filled : self._filled + some] = rows[at : at + some]
            self._filled += some
            at += some
            if self._filled == FRAME_PAGES:
                self._put_frame(self._frame)
                self._filled = 0

    def _put_frame(self, rows: Array) -> None:
        plain = np.ascontiguousarray(rows).reshape(-1).data
        packed: Buffer = self._compressor.compress(plain)
        if len(packed) >= len(plain):
            packed = plain
        self._sizes.append(len(packed))
        self._write(packed)

    def _write(self, data: Buffer) -> None:
        self._rate.take(len(data))
        self._hash.update(data)
        self._size += len(data)
        try:
            self._spool.write(data)
        except BaseException:
            self.abandon()
            raise
