"""The memory outside of the arena, made cheap to fork: huge pages for the heap that setup filled.

A fork copies an entry of the page tables for each page of the heap, but one for 512 of them where they are a huge
page. A huge page that a branch writes to is split, in the branch's own page tables only, and still it copies 4 KiB
at a time: nothing is lost by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..ext import memory

WORTH_IT = 0.75
"""The part of a huge page that must be there already: what is missing is filled with zeros, and takes memory."""


def use_huge_pages(outside: range) -> int:
    """Turn this process's heap into huge pages where it can be; return how many bytes that changed.

    Args:
        outside: Addresses that are left alone: the arena's.

    Where the kernel has no MADV_COLLAPSE (before Linux 6.1) or no huge page free, the heap stays as it is.
    """
    before = _huge_bytes()
    for start, end in _anonymous():
        if start not in outside:
            for first, last in _full_windows(start, end):
                memory.collapse(first, last)
    return _huge_bytes() - before


def _full_windows(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the runs of aligned windows of a huge page's size that are mostly there."""
    there = memory.scan_private(0, start, end).astype(np.int64)
    run: tuple[int, int] | None = None
    aligned = -(-start // memory.HUGE_PAGE) * memory.HUGE_PAGE
    for window in range(aligned, end - memory.HUGE_PAGE + 1, memory.HUGE_PAGE):
        after = window + memory.HUGE_PAGE
        inside = np.clip(there, window, after)
        if np.sum(inside[:, 1] - inside[:, 0]) >= WORTH_IT * memory.HUGE_PAGE:
            run = (run[0] if run else window, after)
        elif run:
            yield run
            run = None
    if run:
        yield run


def _anonymous() -> Iterator[tuple[int, int]]:
    """Yield where this process's writable anonymous memory lies, but for its stack; see proc_pid_maps(5)."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        extent, permissions, _, _, inode, *name = line.split(maxsplit=5)
        if permissions == "rw-p" and inode == "0" and not (name and name[0].startswith("[stack")):
            start, end = extent.split("-")
            yield int(start, 16), int(end, 16)


def _huge_bytes() -> int:
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("AnonHugePages:"):
            return int(line.split()[1]) * 1024
    return 0
