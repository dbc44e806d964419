"""The columns of runs as arrays, checked: what a store says is not believed before it was looked at."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np

from . import framing
from .format import PAGE, ZERO, Runs

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


class Columns(NamedTuple):
    """Runs of pages, in order of address; arrays of equal length.

    Attributes:
        address: Of the first page, or its offset in a base; uint64.
        pages: How many; int64.
        pack: Which pack, or `ZERO`; uint32.
        slot: Of the first page; int64.
    """

    address: Array
    pages: Array
    pack: Array
    slot: Array


class Pages(NamedTuple):
    """Single pages; arrays of equal length.

    Attributes:
        row: How many pages behind the start of what is looked at; int64.
        pack: Which pack, or `ZERO`; uint32.
        slot: int64; 0 where the pack is `ZERO`.
    """

    row: Array
    pack: Array
    slot: Array


def columns(key: str, runs: Runs, packs: int) -> Columns:
    """Return the columns of an object's runs.

    Args:
        key: Of the object, for what is said of it.
        runs: Its runs.
        packs: How many packs it names.

    Raises:
        StoreDamagedError: They contradict themselves.
    """
    try:
        address, pages, pack, slot = (
            np.frombuffer(column, kind)
            for column, kind in ((runs.address, "<u8"), (runs.pages, "<u4"), (runs.pack, "<u4"), (runs.slot, "<u4"))
        )
    except ValueError as cause:
        raise framing.damaged(key, f"its runs are no columns: {cause}") from cause
    if not len(address) == len(pages) == len(pack) == len(slot):
        raise framing.damaged(key, "the columns of its runs are not of one length")
    pages = pages.astype(np.int64)
    ends = address + pages.astype(np.uint64) * np.uint64(PAGE)
    if (address % PAGE).any() or (ends < address).any() or (address[1:] < ends[:-1]).any():
        raise framing.damaged(key, "its runs are not in order of address")
    if ((pack >= packs) & (pack != ZERO)).any():
        raise framing.damaged(key, "its runs are of packs that it does not name")
    return Columns(address, pages, pack, slot.astype(np.int64))


def pack_columns(address: Array, pages: Array, pack: Array, slot: Array) -> Runs:
    """Return runs of columns; see `format.Runs`."""
    return Runs(
        np.asarray(address, "<u8").tobytes(),
        np.asarray(pages, "<u4").tobytes(),
        np.asarray(pack, "<u4").tobytes(),
        np.asarray(slot, "<u4").tobytes(),
    )


def within(runs: Columns, start: int, size: int) -> Pages:
    """Return the pages of runs that lie between ``start`` and ``start + size``, both of whole pages."""
    ends = runs.address + runs.pages.astype(np.uint64) * np.uint64(PAGE)
    first = int(np.searchsorted(ends, np.uint64(start), side="right"))
    last = int(np.searchsorted(runs.address, np.uint64(start + size), side="left"))
    address, pages = runs.address[first:last], runs.pages[first:last]
    begin = (address - np.uint64(start)).view(np.int64) // PAGE
    skipped = np.maximum(-begin, 0)
    count = np.minimum(begin + pages, size // PAGE) - (begin + skipped)
    behind = np.repeat(np.cumsum(count) - count, count)
    step = np.arange(int(count.sum()), dtype=np.int64) - behind
    pack = np.repeat(runs.pack[first:last], count)
    slot = np.repeat(runs.slot[first:last] + skipped, count) + step
    slot[pack == ZERO] = 0
    return Pages(np.repeat(begin + skipped, count) + step, pack, slot)
