"""Scripts that bring a process back from its image: from nothing, or from a relative that is there."""

from __future__ import annotations

import fcntl
import itertools
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from snapserv_client.store.columns import Array, columns
from snapserv_client.store.format import PAGE, ZERO, Area, Image
from snapserv_client.store.reader import Store

from . import kernel
from .places import Places
from .script import HOME, HOME_END, PARKING, PARKINGS, Call, Script, Slot, text, write_at

_TOP = 0x7FFFFFFFF000
_LOWEST = 0x10000
_READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
_MAP_FIXED, _MAP_FIXED_NOREPLACE, _MAP_NORESERVE = 0x10, 0x100000, 0x4000
_MADV_DONTNEED = 4
_PR_SET_VMA, _PR_SET_VMA_ANON_NAME = 0x53564D41, 0
_ABOVE = 64
"""Descriptors that come along are at least here, and above all that the image has open."""

KERNELS = ("vdso", "vvar")

CHUNK_PAGES = 1 << 13
"""How many pages are read at a time."""


@dataclass
class Ready:
    """A script that is ready to be run.

    Attributes:
        descriptor: The memfd that it lies in; whoever has this closes it.
        above: Which number it and the control socket must have at least: the script's is the first.
        told: What each of its operations is for.
        pages: How many pages it writes.
        exact: Whether what is mapped later lies where it would have.
    """

    descriptor: int
    above: int
    told: list[str]
    pages: int
    exact: bool = True


def revive(
    image: Image,
    store: Store,
    places: Places,
    *,
    top: int | None,
    lock: str | None = None,
    jumps: bool = False,
) -> Ready:
    """Return a script for the loader (``ext/images/loader.c``).

    Args:
        image: Of what it is to be.
        store: Where its pages are.
        places: Where base images and files are.
        top: Below which address the kernel maps things in the loader, where that is known and always the same.
        lock: The lock of the folders for its temporary files here, if there are some.
        jumps: Whether to have the kernel's code jumped to where it could be moved.

    Raises:
        StoreDamagedError: Pages are missing, or not what was written.
    """
    script, above = Script(), _above(image)
    kernel.close_strays(script, image, above)
    parked = kernel.park(script, image)
    script.call(Call.munmap, _LOWEST, HOME - _LOWEST, why="what a new process has")
    end = HOME_END + PARKINGS * PARKING
    script.call(Call.munmap, end, _TOP - end, why="what a new process has")
    layout, pages = _Layout(script, image, places, lock), _pages_of(image)
    for area in image.areas:
        if area.kind not in KERNELS:
            own = _between(pages.address, area.start, area.end)
            layout.map(area, area.start, area.end, written=own.stop > own.start)
            layout.write(area, area.start, area.end, pages.address[own])
    layout.close()
    kernel.put_back_kernels(script, image, parked, jumps=jumps)
    if top is not None:
        _fill_above(script, image, top)
    kernel.open_files(script, image, above, places)
    kernel.put_back(script, image)
    return _finish(script, image, store, pages, np.arange(len(pages.address)), above, exact=top is not None)


def become(image: Image, was: Image, store: Store, places: Places, *, lock: str | None = None) -> Ready:
    """Return a script for a clone of a process that is what another image says.

    What is the same in both is left alone, and so stays shared with its relatives.

    Args:
        image: Of what it is to be.
        was: Of what it is; of the same tree.
        store: Where the pages of both are.
        places: Where base images and files are.
        lock: The lock of the folders for its temporary files here, if there are some.

    Raises:
        StoreDamagedError: Pages are missing, or not what was written.
    """
    script, above = Script(), max(_above(image), _above(was))
    kernel.unregister(script, was)
    kernel.close_files(script, was)
    layout, pages, theirs = _Layout(script, image, places, lock), _pages_of(image), _pages_of(was)
    stretches = list(_stretches(image, was))
    for start, end, now, then in stretches:
        if then is not None and then.kind not in KERNELS and not _is_kept(image, was, now, then, start):
            script.call(Call.munmap, start, end - start, why=f"what was at {start:#x}")
    changed = _changed(pages, theirs, image, was)
    for start, end, now, then in stretches:
        if now is None or now.kind in KERNELS:
            continue
        own = _between(pages.address, start, end)
        if then is None or not _is_kept(image, was, now, then, start):
            written = pages.address[own]
            layout.map(now, start, end, written=len(written) > 0)
            changed[own] = True
        else:
            written = pages.address[own][changed[own]]
            gone = theirs.address[_between(theirs.address, start, end)]
            layout.forget(gone[~np.isin(gone, pages.address[own], assume_unique=True)])
            layout.protect(now, then, start, end, written=len(written) > 0)
        layout.write(now, start, end, written)
    layout.close()
    kernel.open_files(script, image, above, places)
    kernel.put_back(script, image)
    return _finish(script, image, store, pages, np.flatnonzero(changed), above)


class _Held(NamedTuple):
    """The pages of an image; arrays of equal length."""

    address: Array
    pack: Array
    slot: Array


class _Layout:
    """Lays out memory: maps areas, and writes pages to them."""

    def __init__(self, script: Script, image: Image, places: Places, lock: str | None) -> None:
        self._script = script
        self._image = image
        self._places = places
        self._lock = lock
        self._open: tuple[str, Slot] | None = None

    def map(self, area: Area, start: int, end: int, *, written: bool) -> None:
        """Map a part of an area, to be written if pages of it follow."""
        if area.kind == "lock" and self._lock is None:
            return
        protection = area.protection | (_READ_WRITE if written else 0)
        flags = _MAP_FIXED | (area.flags & ~mmap.MAP_SHARED)
        descriptor: int | Slot = -1
        offset = 0
        if area.kind == "anonymous":
            flags |= mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        elif area.kind == "ledger":
            flags |= mmap.MAP_SHARED
            descriptor, offset = self._image.kernel["ledger"], area.offset + start - area.start
        else:
            flags |= mmap.MAP_SHARED if area.flags & mmap.MAP_SHARED else mmap.MAP_PRIVATE
            descriptor, offset = self._descriptor(area), area.offset + start - area.start
        size = end - start
        self._script.call(
            *(Call.mmap, start, size, protection, flags, descriptor, offset),
            why=f"memory at {start:#x}",
            equals=start,
        )
        for advice in area.advice:
            self._script.call(Call.madvise, start, size, advice, why=f"advice at {start:#x}", may_fail=True)
        if area.name:
            name = self._script.data(text(area.name))
            self._script.call(
                *(Call.prctl, _PR_SET_VMA, _PR_SET_VMA_ANON_NAME, start, size, name),
                why=f"a name at {start:#x}",
                may_fail=True,
            )

    def protect(self, area: Area, then: Area, start: int, end: int, *, written: bool) -> None:
        """Have a part of an area that is kept be as it should, or writable if pages of it follow."""
        wanted = area.protection | (_READ_WRITE if written else 0)
        if wanted != then.protection:
            self._script.call(Call.mprotect, start, end - start, wanted, why=f"protection at {start:#x}")

    def write(self, area: Area, start: int, end: int, addresses: Array) -> None:
        """Write pages to a part of an area, in order of address, and have it be as it should."""
        if not len(addresses):
            return
        for first, last in _runs(addresses):
            self._script.fill(int(addresses[first]), last - first)
        self._script.filled()
        if area.protection & _READ_WRITE != _READ_WRITE:
            self._script.call(Call.mprotect, start, end - start, area.protection, why=f"protection at {start:#x}")

    def forget(self, addresses: Array) -> None:
        """Have pages be as the file, the base image or zeros have them."""
        for first, last in _runs(addresses) if len(addresses) else ():
            at, size = int(addresses[first]), (last - first) * PAGE
            self._script.call(Call.madvise, at, size, _MADV_DONTNEED, why=f"what was written at {at:#x}")

    def close(self) -> None:
        """Close the file that is open still."""
        if self._open is not None:
            self._script.call(Call.close, self._open[1], why=f"closing {self._open[0]}")
            self._open = None

    def _descriptor(self, area: Area) -> Slot:
        """Return where the file of an area is open: neighbours are often of one."""
        image = self._image
        if area.kind == "lock":
            slot = self._open_file(self._lock or "")
            self._script.call(Call.flock, slot, fcntl.LOCK_SH | fcntl.LOCK_NB, why="a lock", may_fail=True)
            return slot
        if area.kind == "file":
            file = image.files[area.of]
            return self._open_file(self._places.file(file.path, file.content))
        return self._open_file(self._places.base(image.bases[area.of]))

    def _open_file(self, path: str) -> Slot:
        if self._open is None or self._open[0] != path:
            self.close()
            self._open = (path, self._script.slot())
            flags = os.O_RDONLY | os.O_CLOEXEC
            self._script.call(
                Call.open, self._script.data(text(path)), flags, why=f"opening {path}", into=self._open[1]
            )
        return self._open[1]


def _finish(
    script: Script, image: Image, store: Store, pages: _Held, written: Array, above: int, *, exact: bool = True
) -> Ready:
    """Return the script with its pages."""
    descriptor, begin = script.write(image.kernel["registers"])
    try:
        for at in range(0, len(written), CHUNK_PAGES):
            some = written[at : at + CHUNK_PAGES]
            content = store.pages(image.packs, pages.pack[some], pages.slot[some])
            write_at(descriptor, content.data.cast("B"), begin + at * PAGE)
    except BaseException:
        os.close(descriptor)
        raise
    return Ready(descriptor, above, script.told, len(written), exact)


def _pages_of(image: Image) -> _Held:
    runs = columns("runs", image.runs, len(image.packs))
    behind = np.repeat(np.cumsum(runs.pages) - runs.pages, runs.pages)
    step = np.arange(int(runs.pages.sum()), dtype=np.int64) - behind
    pack = np.repeat(runs.pack, runs.pages)
    slot = np.where(pack == ZERO, 0, np.repeat(runs.slot, runs.pages) + step)
    return _Held(np.repeat(runs.address, runs.pages) + step.astype(np.uint64) * np.uint64(PAGE), pack, slot)


def _changed(pages: _Held, theirs: _Held, image: Image, was: Image) -> Array:
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
    changed: Array = ~same
    return changed


def _stretches(image: Image, was: Image) -> Iterator[tuple[int, int, Area | None, Area | None]]:
    """Yield stretches of address space, in each of which both images have one area or none."""
    edges = sorted({edge for each in (image, was) for area in each.areas for edge in (area.start, area.end)})
    ours, theirs = iter(image.areas), iter(was.areas)
    now, then = next(ours, None), next(theirs, None)
    for start, end in itertools.pairwise(edges):
        while now is not None and now.end <= start:
            now = next(ours, None)
        while then is not None and then.end <= start:
            then = next(theirs, None)
        is_now = now is not None and now.start <= start
        was_then = then is not None and then.start <= start
        if is_now or was_then:
            yield start, end, now if is_now else None, then if was_then else None


def _is_kept(image: Image, was: Image, now: Area | None, then: Area, at: int) -> bool:
    """Return whether what is mapped at an address can stay."""
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


def _fill_above(script: Script, image: Image, top: int) -> None:
    """Have nothing be mapped above where the image's began, so that what follows lies where it would have."""
    at = image.kernel["mapped_below"]
    if not at:
        return
    for area in [*image.areas, None]:
        start, end = (top, top) if area is None else (area.start, area.end)
        if end <= at and area is not None:
            continue
        if min(start, top) > at:
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE | _MAP_FIXED_NOREPLACE
            size = min(start, top) - at
            script.call(Call.mmap, at, size, 0, flags, -1, 0, why="nothing where nothing is to be", equals=at)
        at = max(at, end)
        if at >= top:
            return


def _above(image: Image) -> int:
    return max([_ABOVE, *(each.number + 1 for each in image.descriptors)])


def _between(addresses: Array, start: int, end: int) -> slice:
    first, last = np.searchsorted(addresses, np.array([start, end], np.uint64))
    return slice(int(first), int(last))


def _runs(addresses: Array) -> Iterator[tuple[int, int]]:
    """Yield where each run of consecutive pages begins and ends."""
    breaks = (np.flatnonzero(np.diff(addresses) != PAGE) + 1).tolist()
    yield from zip([0, *breaks], [*breaks, len(addresses)], strict=True)
