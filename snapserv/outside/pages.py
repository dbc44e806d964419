"""Which page is whose: whether two processes have one physical page at a place, told page by page.

The kernel tells of each page in 8 bytes of /proc/PID/pagemap (proc_pid_pagemap(5), and
Documentation/admin-guide/mm/pagemap.rst): its physical number, to those with CAP_SYS_ADMIN only, and to anybody who
may look whether it is there, swapped, a page of a file, and mapped once only. Equal numbers prove that a page is
shared. Without numbers the *kinds* of pages still prove much, and what they leave open is called unproven.

A page can move while it is looked at. So one process is read, then the other, then the first again: what is said of
a page holds for the moment in between, and a page that did not hold still is unproven.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np
from snapserv_client.protocol import MAX_STRIP, PAGE_CLASSES, FieldPages, PageCounts, PagesResult

from ..errors import NodeDiedError, UnsupportedError
from ..ext import memory
from .bases import Base, Bases, bases_of
from .fields import FieldPlace

Classes = np.ndarray[Any, np.dtype[np.uint8]]
Entries = np.ndarray[Any, np.dtype[np.uint64]]
Proof = Literal["page numbers", "page kinds"]

ABSENT, BASE, SHARED, ELSEWHERE, UNPROVEN, PRIVATE = range(len(PAGE_CLASSES))
DIFFERENT, SAME, UNKNOWN, NO_PAGE = range(4)
"""Of a page at two places: two pages, one page, not to be told, or at one of them there is none."""

PRESENT, SWAPPED, FILE, ONCE = (np.uint64(1 << bit) for bit in (63, 62, 61, 56))
NUMBER = np.uint64((1 << 55) - 1)
"""The physical page's number, or where it lies in the swap; 0 to those who may not know."""
LOOKED_AT = PRESENT | SWAPPED | FILE | ONCE | NUMBER
CHUNK_PAGES = 1 << 18
TRIES = 3


@dataclass(frozen=True)
class Comparison:
    """The pages at one place, or at two.

    Attributes:
        a: What each page of the first place is: indices into `PAGE_CLASSES`, shape (pages,).
        b: The same for the second place, if there is one.
        same: Of each page DIFFERENT, SAME, UNKNOWN or NO_PAGE, shape (pages,), if there are two places.
        proof: How pages were told apart.
    """

    a: Classes
    b: Classes | None
    same: Classes | None
    proof: Proof


def compare(
    size: int,
    a: tuple[int, int],
    b: tuple[int, int] | None = None,
    *,
    base: bool,
    bases: tuple[Base | None, Base | None] | None = None,
) -> Comparison:
    """Say of each page which process has it.

    Args:
        size: In bytes; a part of a page counts as one.
        a: Process id (0 for this one) and page-aligned address.
        b: Another such place, or None.
        base: Whether all places are private mappings of the same part of the same file, which nobody writes. Then a
            page that is not in a process's page table, or is a page of a file, is the file's: reading it gives that
            page, though it may not have been read yet. Otherwise a page that is not there is nobody's.
        bases: The file that each place is a private mapping of, where that is not the same for both; it overrules
            ``base``.

    Raises:
        ProcessLookupError: No such process, or it ended meanwhile.
        PermissionError: Not ours to look at.
        ValueError: Both places are the same.
    """
    if b is not None and (a[0] or os.getpid(), a[1]) == (b[0] or os.getpid(), b[1]):
        raise ValueError("a place is compared with itself")
    of_a, of_b, one = (base, base, base) if bases is None else (*map(bool, bases), bases[0] == bases[1] is not None)
    numbers = numbers_are_told()
    theirs = None
    for _ in range(TRIES):
        before = read_entries(*a, size)
        theirs = None if b is None else read_entries(*b, size)
        ours = read_entries(*a, size)
        moved = (before ^ ours) & LOOKED_AT != 0
        if not moved.any():
            break
    if of_a:
        # From the file's page to not there, or back: no matter.
        moved &= ~(_of_base(before) & _of_base(ours))
    same = None if theirs is None else _same(ours, theirs, moved, of_a, of_b, one=one, numbers=numbers)
    return Comparison(
        a=_classes(ours, same, moved, base=of_a),
        b=None if theirs is None else _classes(theirs, same, np.zeros_like(moved), base=of_b),
        same=same,
        proof="page numbers" if numbers else "page kinds",
    )


def _of_base(entries: Entries) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Where a private mapping of a file still has the file's page: it is one, or nothing is there."""
    found: np.ndarray[Any, np.dtype[np.bool_]] = (entries & FILE != 0) | (entries & (PRESENT | SWAPPED) == 0)
    return found


def _same(
    ours: Entries, theirs: Entries, moved: Any, of_a: bool, of_b: bool, *, one: bool, numbers: bool
) -> Classes:
    """Return DIFFERENT, SAME, UNKNOWN or NO_PAGE for each page; ``one`` says that both stand on the same file."""
    same = np.full(len(ours), UNKNOWN, np.uint8)
    here, there = ours & (PRESENT | SWAPPED), theirs & (PRESENT | SWAPPED)
    comparable = (here == there) & (here != 0)  # both present, or both in the swap
    if numbers:
        same[comparable] = np.where((ours ^ theirs)[comparable] & NUMBER, DIFFERENT, SAME)
    # A page that is mapped once is not mapped at another place as well; nor is a page of a file one of no file.
    both = (here & there & PRESENT) != 0
    apart = ((ours | theirs) & ONCE != 0) | ((ours ^ theirs) & FILE != 0)
    same[both & (same == UNKNOWN) & apart] = DIFFERENT
    nothing = np.zeros(len(ours), np.bool_)
    a, b = _of_base(ours) if of_a else nothing, _of_base(theirs) if of_b else nothing
    seen_apart = both & (same == DIFFERENT)
    same[a ^ b] = DIFFERENT
    same[a & b] = SAME if one else DIFFERENT
    same[a & b & seen_apart] = DIFFERENT
    same[((here == 0) & ~a) | ((there == 0) & ~b)] = NO_PAGE
    same[moved] = UNKNOWN
    return same


def _classes(entries: Entries, same: Classes | None, moved: Any, *, base: bool) -> Classes:
    """Return the class of each page of one of the two."""
    classes = np.where(entries & ONCE != 0, PRIVATE, ELSEWHERE).astype(np.uint8)
    classes[entries & SWAPPED != 0] = UNPROVEN  # how many share a page in the swap is not told
    if same is not None:
        classes[(same == UNKNOWN) & (entries & ONCE == 0)] = UNPROVEN
        classes[same == SAME] = SHARED
    classes[moved] = UNPROVEN
    if base:
        classes[_of_base(entries) & ~moved] = BASE
    else:
        classes[(entries & (PRESENT | SWAPPED) == 0) & ~moved] = ABSENT
    return classes


def inspect(places: Sequence[FieldPlace], pids: Sequence[int], *, base: bool) -> PagesResult:
    """Say which page of the fields of a node is whose.

    Args:
        places: The fields; every process has them at the same addresses.
        pids: The node's process, and that of the other node if there is one.
        base: Whether their arena has a base image.

    Raises:
        NodeDiedError: A process ended.
        UnsupportedError: The kernel does not tell this user of the pages of its own children.
    """
    on = _bases(pids) if base else None
    total = sum(_pages(place) for place in places)
    each = max(1, -(-total // MAX_STRIP))
    fields, strips, other_strips = [], [], []
    proof: Proof = "page numbers" if numbers_are_told() else "page kinds"
    stop = 0
    for place in places:
        field = FieldPages(place.name, _pages(place), stop, stop, PageCounts())
        if len(pids) > 1:
            field.other_counts, field.same, field.different = PageCounts(), 0, 0
        for found in _parts(place, pids, each, on):
            if found.proof == "page kinds":
                proof = "page kinds"
            strips.append(summed_up(found.a, each))
            stop += len(strips[-1])
            field.counts = _sum([field.counts, _counts(found.a)])
            if found.b is not None and found.same is not None:
                other_strips.append(summed_up(found.b, each))
                field.other_counts = _sum([field.other_counts or PageCounts(), _counts(found.b)])
                field.same = (field.same or 0) + int(np.count_nonzero(found.same == SAME))
                field.different = (field.different or 0) + int(np.count_nonzero(found.same == DIFFERENT))
        field.stop = stop
        fields.append(field)
    two = len(pids) > 1
    return PagesResult(
        classes=list(PAGE_CLASSES),
        fields=fields,
        counts=_sum([field.counts for field in fields]),
        strip=_joined(strips),
        page_bytes=memory.PAGE,
        pages_each=each,
        proof=proof,
        base_image=base,
        other_counts=_sum([field.other_counts for field in fields if field.other_counts]) if two else None,
        other_strip=_joined(other_strips) if two else None,
        same=sum(field.same or 0 for field in fields) if two else None,
        different=sum(field.different or 0 for field in fields) if two else None,
    )


def _parts(place: FieldPlace, pids: Sequence[int], each: int, on: list[Bases] | None) -> Iterator[Comparison]:
    """Yield a field's pages part by part, in whole buckets of ``each``: what is being compared takes memory.

    A part stands on one base image in each process. ``on`` says on which; None where there are none.
    """
    step = max(1, CHUNK_PAGES // each) * each * memory.PAGE
    start = 0
    while start < place.nbytes:
        address = place.address + start
        size = min(step, place.nbytes - start)
        files: tuple[Base | None, Base | None] = (None, None)
        if on is not None:
            size = min(size, *(max(memory.PAGE, bases.end(address) - address) for bases in on))
            files = on[0].at(address), on[-1].at(address)
        try:
            yield compare(size, *((pid, address) for pid in pids), base=on is not None, bases=files)
        except ProcessLookupError as cause:
            raise _ended() from cause
        except PermissionError as cause:
            raise UnsupportedError(
                "this user may not look at the pages of its own child processes",
                hint="allow access to /proc/PID/pagemap; see kernel.yama.ptrace_scope",
            ) from cause
        start += size


def _bases(pids: Sequence[int]) -> list[Bases]:
    try:
        return [bases_of(pid) for pid in pids]
    except (ProcessLookupError, FileNotFoundError) as cause:
        raise _ended() from cause


def _ended() -> NodeDiedError:
    return NodeDiedError("the node ended while its pages were looked at")


def summed_up(classes: Classes, each: int) -> Classes:
    """Return the highest class of every bucket of ``each`` pages, shape (buckets,)."""
    if each == 1 or not len(classes):
        return classes
    return np.maximum.reduceat(classes, np.arange(0, len(classes), each))


def read_entries(pid: int, address: int, size: int) -> Entries:
    """Return what /proc/PID/pagemap says of the pages from ``address`` on, 8 bytes each, shape (pages,).

    The kernel keeps the memory of a process that ends in place while it reads of it, and gives nothing afterwards.

    Raises:
        ProcessLookupError: No such process, or it ended meanwhile.
        PermissionError: Not ours to look at.
    """
    entries = np.zeros(-(-size // memory.PAGE), np.uint64)
    try:
        pagemap = os.open(f"/proc/{pid or 'self'}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as cause:
        raise ProcessLookupError(f"no process {pid}") from cause
    try:
        at = 0
        while at < len(entries):
            data = os.pread(pagemap, min(CHUNK_PAGES, len(entries) - at) * 8, (address // memory.PAGE + at) * 8)
            if not data:
                raise ProcessLookupError(f"process {pid} ended")
            entries[at : at + len(data) // 8] = np.frombuffer(data, np.uint64)
            at += len(data) // 8
    finally:
        os.close(pagemap)
    return entries


def numbers_are_told() -> bool:
    """Return whether the kernel tells this process physical page numbers: looks at a page that is surely there."""
    page = np.ones(2 * memory.PAGE, np.uint8)
    return bool(read_entries(0, page.ctypes.data, 1)[0] & NUMBER)


def _pages(place: FieldPlace) -> int:
    return -(-place.nbytes // memory.PAGE)


def _counts(classes: Classes) -> PageCounts:
    return PageCounts(
        **dict(zip(PAGE_CLASSES, np.bincount(classes, minlength=len(PAGE_CLASSES)).tolist(), strict=True))
    )


def _sum(counts: Sequence[PageCounts]) -> PageCounts:
    return PageCounts(
        **{name: sum(getattr(each, name) for each in counts) for name in msgspec.structs.asdict(PageCounts())}
    )


def _joined(strips: list[Classes]) -> Classes:
    return np.concatenate(strips) if strips else np.empty(0, np.uint8)
