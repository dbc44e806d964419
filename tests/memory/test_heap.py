"""Huge pages for the heap outside of the arena."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest

from snapserv.ext import memory
from snapserv.memory.heap import use_huge_pages

from ..processes import forked

MIB = 1 << 20
PAGE = memory.PAGE


def test_a_full_heap_becomes_huge_pages_and_a_sparse_one_is_left_alone() -> None:
    def work() -> tuple[int, int, bool, bool]:
        full, sparse, left_alone = (mmap.mmap(-1, 16 * MIB, mmap.MAP_PRIVATE) for _ in range(3))
        for area in (full, left_alone):
            area.madvise(mmap.MADV_NOHUGEPAGE)
            area.write(bytes(range(256)) * (16 * MIB // 256))
            area.madvise(mmap.MADV_HUGEPAGE)
        sparse[:: 8 * PAGE] = bytes(len(sparse) // (8 * PAGE))
        sparse_bytes = _resident(sparse)
        start = np.frombuffer(left_alone, np.uint8).ctypes.data
        made = use_huge_pages(range(start, start + 16 * MIB))
        same = full[:] == left_alone[:] == bytes(range(256)) * (16 * MIB // 256)
        return made, _huge(left_alone), same, _resident(sparse) == sparse_bytes

    made, elsewhere, same, sparse_is_sparse = forked(work)
    if not made:
        pytest.skip("this kernel has no MADV_COLLAPSE, or no free huge page")
    assert made >= 14 * MIB
    assert elsewhere == 0
    assert same
    assert sparse_is_sparse


def _huge(area: mmap.mmap) -> int:
    return _of_area(area, "AnonHugePages")


def _resident(area: mmap.mmap) -> int:
    return _of_area(area, "Rss")


def _of_area(area: mmap.mmap, counter: str) -> int:
    """Return a counter of smaps, in KiB, of the mapping that ``area`` lies in."""
    address = np.frombuffer(area, np.uint8).ctypes.data
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split()[0]
        if "-" in first:
            start, end = (int(part, 16) for part in first.split("-"))
            inside = start <= address < end
        elif inside and first == f"{counter}:":
            return int(line.split()[1])
    raise AssertionError("no such mapping")
