"""Packs: pages in compressed frames, and an index that says where each frame is and how each page hashes.

    pack   = header, frame…, index, footer
    header = magic (8), format uint32, pages in a frame uint32
    frame  = up to 64 pages, as one zstd frame, or as they are where that is no longer
    index  = size of each frame, uint32 each; XXH3-128 of each page, 16 bytes each
    footer = where the index begins uint64, slots uint64, XXH3-128 of the index and all else of the footer,
             format uint32, pages in a frame uint32, magic (8)

All is little-endian. Its name is the SHA-256 of all of its bytes; a page that is read is checked against its hash.
"""

from __future__ import annotations

import itertools
import os
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import xxhash
import zstandard

from . import framing
from .blobs import Blobs, Buffer
from .format import FORMAT, FRAME_PAGES, PAGE, Pack
from .keys import PACKS, of_content
from .recent import Recent

MAGIC = b"\x89snappck"
HEADER = struct.Struct("<8sII")
FOOTER = struct.Struct("<QQ16sII8s")
DIGEST = np.dtype("V16")
BATCH_FRAMES = 128
"""How many frames are asked for at a time."""
ALONE = 4
"""So few frames are unpacked without further threads."""
FEW = FRAME_PAGES // 2
"""A frame of which fewer pages are wanted is kept: other ones of it may be wanted soon."""

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Frames: TypeAlias = Recent[tuple[bytes, int], bytes]
"""Unpacked frames, by the SHA-256 of their pack and their number in it."""


class _Wanted(NamedTuple):
    """Pages of a frame that are wanted: their slots in the pack, in order, and where each belongs."""

    frame: int
    slots: Array
    rows: Array


class Index(NamedTuple):
    """What a pack says of itself.

    Attributes:
        starts: Where each frame begins and, as one more, where the last one ends; int64, shape (frames + 1,).
        digests: XXH3-128 of each page, by slot; V16, shape (slots,).
    """

    starts: Array
    digests: Array

    @property
    def nbytes(self) -> int:
        """How much memory it takes."""
        return int(self.starts.nbytes + self.digests.nbytes)


def pack_index(sizes: list[int], digests: bytes, begins: int) -> bytes:
    """Return the index and the footer of a pack.

    Args:
        sizes: Of each frame, in bytes.
        digests: Of each page, 16 bytes each.
        begins: Where the index begins.
    """
    index = np.array(sizes, "<u4").tobytes() + digests
    footer = FOOTER.pack(begins, len(digests) // DIGEST.itemsize, b"", FORMAT, FRAME_PAGES, MAGIC)
    return index + footer[:16] + _digest(index, footer) + footer[32:]


def read_index(blobs: Blobs, pack: Pack) -> Index:
    """Return the index of a pack.

    Raises:
        StoreDamagedError: It is not what was written.
        VersionMismatchError: It is of a newer format.
        NotFoundError: It is not there.
    """
    key = of_content(PACKS, pack.sha256)
    (data,) = blobs.get_ranges(key, [(pack.index, pack.size - pack.index)])
    return unpack_index(key, data, pack)


def unpack_index(key: str, data: Buffer, pack: Pack) -> Index:
    """Return the index of a pack, whose bytes these are with the footer; see `read_index`."""
    if len(data) != pack.size - pack.index or len(data) < FOOTER.size:
        raise framing.damaged(key, "it is cut short")
    begins, slots, digest, version, frame_pages, magic = FOOTER.unpack_from(data, len(data) - FOOTER.size)
    index = memoryview(data)[: -FOOTER.size]
    if magic != MAGIC:
        raise framing.damaged(key, "it does not end as a pack does")
    if digest != _digest(index, memoryview(data)[-FOOTER.size :]):
        raise framing.damaged(key, "its index has changed")
    framing.refuse_newer(key, version)
    frames = -(-slots // FRAME_PAGES)
    if frame_pages != FRAME_PAGES or len(index) != 4 * frames + 16 * slots:
        raise framing.damaged(key, "its index is not of its pages")
    if begins != pack.index or slots != pack.slots:
        raise framing.damaged(key, "it is not the one that is referred to")
    sizes = np.frombuffer(index, "<u4", frames)
    starts = np.zeros(frames + 1, np.int64)
    np.cumsum(sizes, out=starts[1:])
    starts += HEADER.size
    if starts[-1] != begins:
        raise framing.damaged(key, "its frames do not end where its index begins")
    return Index(starts, np.frombuffer(index, DIGEST, slots, 4 * frames))


def read_footer(blobs: Blobs, key: str, size: int) -> tuple[int, int]:
    """Return where the index of a pack begins and how many slots there are, as the pack itself says.

    Raises:
        StoreDamagedError: It does not end as a pack does.
        VersionMismatchError: It is of a newer format.
        NotFoundError: It is not there.
    """
    (data,) = blobs.get_ranges(key, [(max(size - FOOTER.size, 0), FOOTER.size)])
    if len(data) < FOOTER.size or bytes(data[-len(MAGIC) :]) != MAGIC:
        raise framing.damaged(key, "it does not end as a pack does")
    begins, slots, _, version, _, _ = FOOTER.unpack(data)
    framing.refuse_newer(key, version)
    return begins, slots


def read_pages(blobs: Blobs, pack: Pack, index: Index, slots: Array, rows: Array, out: Array, kept: Frames) -> None:
    """Read pages of a pack, each of them checked.

    Args:
        blobs: What the pack lies in.
        pack: The pack.
        index: Its index.
        slots: Which pages; shape (n,).
        rows: Where in ``out`` each belongs; shape (n,).
        out: uint8, shape (rows, 4096); only the rows that are named are written.
        kept: Frames that were unpacked already, and where to keep more.

    Raises:
        StoreDamagedError: A page is not what was written.
        NotFoundError: The pack is not there.
    """
    key = of_content(PACKS, pack.sha256)
    if slots.size and int(slots.max()) >= pack.slots:
        raise framing.damaged(key, f"it has {pack.slots} pages, and page {int(slots.max())} is referred to")
    order = np.argsort(slots, kind="stable")
    slots, rows = slots[order].astype(np.int64), rows[order]
    missing = []
    for frame, first, last in groups(slots // FRAME_PAGES):
        wanted = _Wanted(frame, slots[first:last], rows[first:last])
        pages = kept.get((pack.sha256, frame))
        if pages is None:
            missing.append(wanted)
        else:
            _deal(key, pages, index.digests, wanted, out)

    def unpack(wanted: _Wanted, packed: memoryview) -> None:
        pages = _frame(key, packed, min(FRAME_PAGES, pack.slots - wanted.frame * FRAME_PAGES))
        _deal(key, pages, index.digests, wanted, out)
        if len(wanted.slots) < FEW:
            kept.put((pack.sha256, wanted.frame), pages)

    for at in range(0, len(missing), BATCH_FRAMES):
        batch = missing[at : at + BATCH_FRAMES]
        packed = _read(blobs, key, index.starts, np.array([wanted.frame for wanted in batch]))
        if len(batch) <= ALONE:
            list(map(unpack, batch, packed))
        else:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                list(pool.map(unpack, batch, packed))


def _read(blobs: Blobs, key: str, starts: Array, frames: Array) -> list[memoryview]:
    """Return frames of a pack as they lie there."""
    stretches = _stretches(starts, frames, blobs.gap)
    buffers = blobs.get_ranges(key, [(start, stop - start) for start, stop in stretches])
    pieces = zip(stretches, buffers, strict=True)
    (start, stop), data = next(pieces)
    found = []
    for place, behind in zip(starts[frames].tolist(), starts[frames + 1].tolist(), strict=True):
        if place >= stop:
            (start, stop), data = next(pieces)
        frame = memoryview(data)[place - start : behind - start]
        if len(frame) != behind - place:
            raise framing.damaged(key, "it is cut short")
        found.append(frame)
    return found


def _digest(index: Buffer, footer: Buffer) -> bytes:
    digest = xxhash.xxh3_128(index)
    digest.update(footer[:16])
    digest.update(footer[32:])
    return digest.digest()


def groups(values: Array) -> list[tuple[int, int, int]]:
    """Return each value of an array in order, and where in it that begins and ends."""
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)] if len(values) else []
    return [(int(values[first]), first, last) for first, last in itertools.pairwise(edges)]


def _stretches(starts: Array, frames: Array, gap: int) -> list[tuple[int, int]]:
    """Return from where to where to read, so that all ``frames`` are read and no more than ``gap`` for nothing."""
    begins, ends = starts[frames], starts[frames + 1]
    cuts = np.flatnonzero(begins[1:] - ends[:-1] > gap) + 1
    firsts = begins[np.concatenate(([0], cuts))].tolist()
    lasts = ends[np.concatenate((cuts - 1, [len(frames) - 1]))].tolist()
    return list(zip(firsts, lasts, strict=True))


def _frame(key: str, data: memoryview, pages: int) -> bytes:
    if len(data) == pages * PAGE:
        return bytes(data)
    try:
        return framing.unzstd(data, pages * PAGE)
    except zstandard.ZstdError as cause:
        raise framing.damaged(key, f"a frame cannot be unpacked: {cause}") from cause


def _deal(key: str, pages: bytes, digests: Array, wanted: _Wanted, out: Array) -> None:
    """Put pages of a frame where they belong, if they are what was written."""
    _, slots, rows = wanted
    view, places = memoryview(pages), slots - wanted.frame * FRAME_PAGES
    found = b"".join([xxhash.xxh3_128_digest(view[at : at + PAGE]) for at in (places * PAGE).tolist()])
    if found != digests[slots].tobytes():
        wrong = np.flatnonzero(np.frombuffer(found, DIGEST) != digests[slots])
        raise framing.damaged(key, f"page {int(slots[wrong[0]])} has changed")
    held = np.frombuffer(pages, np.uint8).reshape(-1, PAGE)
    if rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all() and (np.diff(slots) == 1).all():
        out[rows[0] : rows[-1] + 1] = held[places[0] : places[-1] + 1]
    else:
        out[rows] = held[places]
