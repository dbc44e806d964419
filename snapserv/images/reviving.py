"""Scripts that bring a process back from its image: from nothing, or from a relative that is there."""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from snapserv_client.store.format import PAGE, Area, Image
from snapserv_client.store.reader import Store

from . import folders, kernel
from .differing import KERNELS, Held, Runs, bounds, changed, stretches
from .folders import Layers
from .places import Places
from .script import HOME, HOME_END, PARKING, PARKINGS, Call, Script, Slot, text

_TOP = 0x7FFFFFFFF000
_LOWEST = 0x10000
_READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
_MAP_FIXED, _MAP_FIXED_NOREPLACE, _MAP_NORESERVE = 0x10, 0x100000, 0x4000
_MADV_DONTNEED = 4
_PR_SET_VMA, _PR_SET_VMA_ANON_NAME = 0x53564D41, 0
_ABOVE = 64
"""Descriptors that come along are at least here, and above all that the image has open."""

Locks = Mapping[str, str]
NO_LOCKS: Locks = {}


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
    locks: Locks = NO_LOCKS,
    layers: Layers | None = None,
    jumps: bool = False,
) -> Ready:
    """Return a script for the loader (``ext/images/loader.c``).

    Args:
        image: Of what it is to be.
        store: Where its pages are.
        places: Where base images and files are.
        top: Below which address the kernel maps things in the loader, where that is known and always the same.
        locks: Of its tree's folders here, by what they are: ``tmp``, ``layers``.
        layers: Where the layers of its branched folders are, if it has some.
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
    layout, pages = _Layout(script, image, places, locks), Held.of(image)
    areas = [area for area in image.areas if area.kind not in KERNELS]
    for area, own in zip(areas, Runs(pages.address).within(areas), strict=True):
        layout.map(area, area.start, area.end, written=bool(own))
        layout.write(area, area.start, area.end, own)
    layout.close()
    kernel.put_back_kernels(script, image, parked, jumps=jumps)
    if top is not None:
        _fill_above(script, image, top)
    _open_files(script, image, above, places, layers, None)
    kernel.put_back(script, image)
    return _finish(script, image, store, pages, above, exact=top is not None)


def become(
    image: Image,
    was: Image,
    store: Store,
    places: Places,
    *,
    locks: Locks = NO_LOCKS,
    layers: Layers | None = None,
) -> Ready:
    """Return a script for a clone of a process that is what another image says.

    What is the same in both is left alone, and so stays shared with its relatives.

    Args:
        image: Of what it is to be.
        was: Of what it is; of the same tree.
        store: Where the pages of both are.
        places: Where base images and files are.
        locks: As for `revive`.
        layers: As for `revive`. It has none, or both have.

    Raises:
        StoreDamagedError: Pages are missing, or not what was written.
    """
    script, above = Script(), max(_above(image), _above(was))
    kernel.unregister(script, was)
    kernel.close_files(script, was)
    layout, pages, theirs = _Layout(script, image, places, locks), Held.of(image), Held.of(was)
    every = stretches(image, was)
    for stretch in every:
        start, then = stretch.start, stretch.then
        if then is not None and then.kind not in KERNELS and not stretch.kept:
            script.call(Call.munmap, start, stretch.end - start, why=f"what was at {start:#x}")
    mapped = [(each, each.now) for each in every if each.now is not None and each.now.kind not in KERNELS]
    extents = [stretch for stretch, _ in mapped]
    new = changed(pages, theirs, image, was)
    for stretch, (first, last) in zip(extents, bounds(pages.address, extents), strict=True):
        if not stretch.kept:
            new[first:last] = True
    gone = Runs(np.setdiff1d(theirs.address, pages.address, assume_unique=True)).within(extents)
    written = pages.some(new)
    for (stretch, now), own, left in zip(mapped, Runs(written.address).within(extents), gone, strict=True):
        if stretch.kept and stretch.then is not None:
            layout.forget(left)
            layout.protect(now, stretch.then, stretch.start, stretch.end, written=bool(own))
        else:
            layout.map(now, stretch.start, stretch.end, written=bool(own))
        layout.write(now, stretch.start, stretch.end, own)
    layout.close()
    _open_files(script, image, above, places, layers, was)
    kernel.put_back(script, image)
    return _finish(script, image, store, written, above)


def _open_files(
    script: Script, image: Image, above: int, places: Places, layers: Layers | None, was: Image | None
) -> None:
    """Open files: those in branched folders when these are seen, from where nothing of the server can be."""
    kernel.put_links(script, image)
    inside = [each for each in image.descriptors if folders.is_branched(each, image)]
    kernel.open_files(script, (each for each in image.descriptors if each not in inside), above, places)
    folders.show(script, image, layers, was)
    kernel.open_files(script, inside, above, places)


class _Layout:
    """Lays out memory: maps areas, and writes pages to them."""

    def __init__(self, script: Script, image: Image, places: Places, locks: Locks) -> None:
        self._script = script
        self._image = image
        self._places = places
        self._locks = locks
        self._open: tuple[str, Slot] | None = None

    def map(self, area: Area, start: int, end: int, *, written: bool) -> None:
        """Map a part of an area, to be written if pages of it follow."""
        if area.kind == "lock" and area.name not in self._locks:
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
        if area.name and area.kind != "lock":
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

    def write(self, area: Area, start: int, end: int, runs: list[tuple[int, int]]) -> None:
        """Write runs of pages to a part of an area, in order of address, and have it be as it should."""
        if not runs:
            return
        for address, pages in runs:
            self._script.fill(address, pages)
        self._script.filled()
        if area.protection & _READ_WRITE != _READ_WRITE:
            self._script.call(Call.mprotect, start, end - start, area.protection, why=f"protection at {start:#x}")

    def forget(self, runs: list[tuple[int, int]]) -> None:
        """Have runs of pages be as the file, the base image or zeros have them."""
        for at, pages in runs:
            self._script.call(Call.madvise, at, pages * PAGE, _MADV_DONTNEED, why=f"what was written at {at:#x}")

    def close(self) -> None:
        """Close the file that is open still."""
        if self._open is not None:
            self._script.call(Call.close, self._open[1], why=f"closing {self._open[0]}")
            self._open = None

    def _descriptor(self, area: Area) -> Slot:
        """Return where the file of an area is open: neighbours are often of one."""
        image = self._image
        if area.kind == "lock":
            slot = self._open_file(self._locks[area.name])
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


def _finish(script: Script, image: Image, store: Store, written: Held, above: int, *, exact: bool = True) -> Ready:
    """Return the script with the pages that it writes."""
    descriptor, begin = script.write(image.kernel["registers"])
    try:
        if len(written.address):
            content = memoryview(mmap.mmap(descriptor, 0))[begin:]
            store.pages(image.packs, written.pack, written.slot, content)
    except BaseException:
        os.close(descriptor)
        raise
    return Ready(descriptor, above, script.told, len(written.address), exact)


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
