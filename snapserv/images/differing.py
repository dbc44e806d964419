"""In what two images of one tree differ: their pages, and the areas that these lie in; as tables."""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from snapserv_client.store.columns import Array, columns
from snapserv_client.store.format import PAGE, ZERO, Area, Image

KERNELS = ("vdso", "vvar")


class Extent(Protocol):
    """Something from one address up to another one."""

    @property
    def start(self) -> int:
        """Its first address."""

    @property
    def end(self) -> int:
        """The first address behind it."""


class Held(NamedTuple):
    """Pages of an image, in order of address; arrays of equal length."""

    address: Array
    pack: Array
    slot: Array

    @classmethod
    def of(cls, image: Image) -> Held:
        """Return all pages of an image."""
        runs = columns("runs", image.runs, len(image.packs))
        behind = np.repeat(np.cumsum(runs.pages) - runs.pages, runs.pages)
        step = np.arange(int(runs.pages.sum()), dtype=np.int64) - behind
        pack = np.repeat(runs.pack, runs.pages)
        slot = np.where(pack == ZERO, 0, np.repeat(runs.slot, runs.pages) + step)
        return cls(np.repeat(runs.address, runs.pages) + step.astype(np.uint64) * np.uint64(PAGE), pack, slot)

    def some(self, which: Array) -> Held:
        """Return those that a mask tells."""
        return Held(self.address[which], self.pack[which], self.slot[which])


class Runs:
    """Addresses of pages, in order, as runs of consecutive ones."""

    def __init__(self, addresses: Array) -> None:
        self._addresses = addresses
        self._breaks = (np.flatnonzero(np.diff(addresses) != PAGE) + 1).tolist()

    def within(self, extents: Sequence[Extent]) -> Iterator[list[tuple[int, int]]]:
        """Yield of each extent the runs in it: the address of the first page, and how many there are."""
        for first, last in bounds(self._addresses, extents):
            if first == last:
                yield []
                continue
            breaks = self._breaks[bisect_right(self._breaks, first) : bisect_left(self._breaks, last)]
            edges = itertools.pairwise([first, *breaks, last])
            yield [(int(self._addresses[begin]), end - begin) for begin, end in edges]


class Stretch(NamedTuple):
    """A stretch of address space, in which each of two images has one area or none.

    Attributes:
        start: Its first address.
        end: The first address behind it.
        now: The area of the image that is wanted.
        then: That of the image that is there.
        kept: Whether what is mapped there can stay.
    """

    start: int
    end: int
    now: Area | None
    then: Area | None
    kept: bool


def bounds(addresses: Array, extents: Sequence[Extent]) -> list[tuple[int, int]]:
    """Return which of some addresses, which are in order, lie in each extent: the first, and the one behind."""
    first = np.searchsorted(addresses, np.array([each.start for each in extents], np.uint64)).tolist()
    last = np.searchsorted(addresses, np.array([each.end for each in extents], np.uint64)).tolist()
    return list(zip(first, last, strict=True))


def changed(pages: Held, theirs: Held, image: Image, was: Image) -> Array:
    """Return of each page whether the other image has another one there, or none; bool."""
    if not len(theirs.address):
        return np.ones(len(pages.address), np.bool_)
    names = {pack.sha256: number for number, pack in enumerate(was.packs)}
    translated = np.array([names.get(pack.sha256, ZERO - 1) for pack in image.packs] + [ZERO], np.uint32)
    pack = translated[np.where(pages.pack == ZERO, len(image.packs), pages.pack)]
    place = np.minimum(np.searchsorted(theirs.address, pages.address), len(theirs.address) - 1)
    same = (
        (theirs.address[place] == pages.address) & (theirs.pack[place] == pack) & (theirs.slot[place] == pages.slot)
    )
    differs: Array = ~same
    return differs


def stretches(image: Image, was: Image) -> list[Stretch]:
    """Return all stretches of address space in which the image that is wanted, or that is there, has something.

    Most areas are in both: only the others are taken to pieces.
    """
    there = {area.start: area for area in was.areas}
    common = {area.start for area in image.areas if there.get(area.start) == area}
    pieces = [(area.start, area.end, area, area) for area in image.areas if area.start in common]
    ours, theirs = ([area for area in each.areas if area.start not in common] for each in (image, was))
    return [
        Stretch(start, end, now, then, then is not None and _is_kept(image, was, now, then, start))
        for start, end, now, then in sorted([*pieces, *_pieces(ours, theirs)], key=lambda piece: piece[0])
    ]


def _pieces(ours: list[Area], theirs: list[Area]) -> Iterator[tuple[int, int, Area | None, Area | None]]:
    edges = sorted({edge for area in (*ours, *theirs) for edge in (area.start, area.end)})
    left, left_there = iter(ours), iter(theirs)
    now, then = next(left, None), next(left_there, None)
    for start, end in itertools.pairwise(edges):
        while now is not None and now.end <= start:
            now = next(left, None)
        while then is not None and then.end <= start:
            then = next(left_there, None)
        is_now = now is not None and now.start <= start
        was_then = then is not None and then.start <= start
        if is_now or was_then:
            yield start, end, now if is_now else None, then if was_then else None


def _is_kept(image: Image, was: Image, now: Area | None, then: Area, at: int) -> bool:
    if now is None or (now.kind, now.flags, now.advice) != (then.kind, then.flags, then.advice):
        return False
    if now.kind in ("anonymous", "lock", *KERNELS):
        return True
    if now.offset + at - now.start != then.offset + at - then.start:
        return False
    if now.kind == "file":
        ours, theirs = image.files[now.of], was.files[then.of]
        return (ours.path, ours.xxh3) == (theirs.path, theirs.xxh3)
    return now.kind == "ledger" or image.bases[now.of] == was.bases[then.of]
