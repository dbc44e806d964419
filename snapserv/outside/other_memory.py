"""How much of the memory beside the arena differs between two processes of one tree.

Python objects, the heaps and the data of libraries lie there. Reference counts and free lists do too, so that pages
differ where no state does: that some differ says little, and that none does says a lot.

Everything here may take long and runs in a worker thread; it touches nothing that the event loop changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import NodeDiedError, UnsupportedError
from ..ext import memory
from .bases import Base, Segments
from .fields import copy_bytes
from .pages import ABSENT, CHUNK_PAGES, SAME, compare

PAGE = memory.PAGE
READ_PAGES = 1 << 11
_KERNELS = ("[vvar", "[vdso]", "[vsyscall]")


@dataclass(frozen=True)
class Area:
    """A private mapping that can be read, and the file beneath it."""

    start: int
    stop: int
    file: Base | None


def differing_pages(a: int, b: int, segments: Segments) -> int:
    """Return how many pages beside the arena differ between two processes: in what they hold, or in being there.

    Args:
        a: One process's pid.
        b: The other's, of the same tree: it has what both have at the same addresses.
        segments: Where the arena lies: (address, bytes).

    Raises:
        NodeDiedError: A process ended.
        UnsupportedError: This machine does not let one process look at another.
    """
    try:
        ours, theirs = (_beside(areas_of(pid), segments) for pid in (a, b))
        both = list(_common(ours, theirs))
        alone = (
            sum(_pages(each) for each in (ours, theirs))
            - 2 * sum(stop - start for start, stop, _, _ in both) // PAGE
        )
        return alone + sum(_differing(a, b, start, stop, one, other) for start, stop, one, other in both)
    except (ProcessLookupError, FileNotFoundError) as cause:
        raise NodeDiedError("the node ended while it was compared") from cause
    except PermissionError as cause:
        raise UnsupportedError("this user may not look at the pages of its own child processes") from cause


def areas_of(pid: int) -> list[Area]:
    """Return the private mappings of a process that can be read, in order; see proc_pid_maps(5).

    Raises:
        ProcessLookupError: It has ended.
        FileNotFoundError: There is no such process.
    """
    found, lines = [], Path(f"/proc/{pid}/maps").read_text().splitlines()
    for line in lines:
        extent, rights, _, device, inode, *name = line.split(maxsplit=5)
        if rights[0] != "r" or rights[3] != "p" or (name and name[0].startswith(_KERNELS)):
            continue
        start, stop = (int(end, 16) for end in extent.split("-"))
        found.append(Area(start, stop, (device, int(inode)) if inode != "0" else None))
    if not lines:
        raise ProcessLookupError(f"process {pid} has ended")
    return found


def _beside(areas: Sequence[Area], segments: Segments) -> list[Area]:
    """Return what is left of the areas without the arena."""
    left: list[Area] = []
    arena = sorted((start, start + size) for start, size in segments)
    for area in areas:
        at = area.start
        for start, stop in arena:
            if stop <= at or start >= area.stop:
                continue
            if start > at:
                left.append(Area(at, start, area.file))
            at = max(at, stop)
        if at < area.stop:
            left.append(Area(at, area.stop, area.file))
    return left


def _common(ours: Sequence[Area], theirs: Sequence[Area]) -> Iterator[tuple[int, int, Base | None, Base | None]]:
    """Yield the ranges that both have, with what is beneath them in each."""
    i = j = 0
    while i < len(ours) and j < len(theirs):
        a, b = ours[i], theirs[j]
        start, stop = max(a.start, b.start), min(a.stop, b.stop)
        if start < stop:
            yield start, stop, a.file, b.file
        if a.stop <= b.stop:
            i += 1
        if b.stop <= a.stop:
            j += 1


def _pages(areas: Sequence[Area]) -> int:
    return sum(area.stop - area.start for area in areas) // PAGE


def _differing(a: int, b: int, start: int, stop: int, one: Base | None, other: Base | None) -> int:
    count = 0
    for low in range(start, stop, CHUNK_PAGES * PAGE):
        size = min(stop - low, CHUNK_PAGES * PAGE)
        found = compare(size, (a, low), (b, low), base=True, bases=(one, other))
        assert found.b is not None
        assert found.same is not None
        absent = found.a == ABSENT, found.b == ABSENT
        doubtful = np.flatnonzero((found.same != SAME) & ~(absent[0] & absent[1]))
        for first in range(0, len(doubtful), READ_PAGES):
            pages = doubtful[first : first + READ_PAGES]
            contents = []
            for pid, gone in ((a, absent[0]), (b, absent[1])):
                content = np.zeros((len(pages), PAGE), np.uint8)
                there = np.flatnonzero(~gone[pages])
                if len(there):
                    read = np.empty((len(there), PAGE), np.uint8)
                    addresses = pages[there].astype(np.uint64) * np.uint64(PAGE) + np.uint64(low)
                    copy_bytes(pid, addresses, PAGE, read.reshape(-1))
                    content[there] = read
                contents.append(content)
            count += int(np.count_nonzero((contents[0] != contents[1]).any(axis=1)))
    return count
