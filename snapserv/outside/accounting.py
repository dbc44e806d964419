"""Who shares which page: what each node holds for itself."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ..ext import memory
from .bases import Base, Segments, bases_of

Measurable: TypeAlias = tuple[int, Segments]
"""A process, 0 for none, and its segments."""


_COUNTED = ("Pss_Anon:", "SwapPss:")


@dataclass(frozen=True, slots=True)
class Holding:
    """What a process holds: its share of pages that are no file's, its page tables, and its base images."""

    share_bytes: int
    anonymous_bytes: int
    bases: dict[Base, int]


def holding(pid: int, segments: Segments) -> Holding | None:
    """Return what a process holds now; None when it is gone.

    A page that several processes map is shared out among them, so that the shares of all add up to what there is
    (Pss_Anon and SwapPss of smaps_rollup, proc_pid_smaps(5)). Page tables (VmPTE, proc_pid_status(5)) are each
    process's own. This walks the page tables: not for every request.
    """
    try:
        anonymous = anonymous_bytes(pid)
        with open(f"/proc/{pid}/smaps_rollup") as rollup:
            share = sum(int(line.split()[1]) for line in rollup if line.startswith(_COUNTED))
        with open(f"/proc/{pid}/status") as status:
            share += sum(int(line.split()[1]) for line in status if line.startswith("VmPTE:"))
        mapped = bases_of(pid)
    except (FileNotFoundError, ProcessLookupError):
        return None
    bases: Counter[Base] = Counter()
    for address, size in segments:
        if (base := mapped.at(address)) is not None:
            bases[base] += size
    return Holding(share * 1024, anonymous, dict(bases))


def anonymous_bytes(pid: int) -> int:
    """Return how much of a process's resident set is no file's (proc_pid_statm(5)), cheaply; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb", buffering=0) as statm:
            _, resident, shared, *_ = statm.read(128).split()
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return 0
    return (int(resident) - int(shared)) * memory.PAGE


def count_bases(processes: Iterable[Measurable]) -> Counter[Base]:
    """Return in how many of the processes each base image has segments standing on it."""
    found: Counter[Base] = Counter()
    for pid, segments in processes:
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            bases = bases_of(pid) if pid else None
            found.update(base for address, _ in segments if bases and (base := bases.at(address)) is not None)
    return found


def private_bytes(pid: int, segments: Segments, shared: Counter[Base]) -> int | None:
    """Return how much of the arena the process shares with nobody through a base image; None when it is gone.

    Counts the pages that are present or swapped and not file pages (PAGEMAP_SCAN, Linux 6.7; pagemap before), and
    base images that no other process stands on, going by ``shared``.
    """
    total = 0
    try:
        bases = bases_of(pid)
        for address, size in segments:
            ranges = memory.scan_private(pid, address, address + size)
            total += int((ranges[:, 1] - ranges[:, 0]).sum())
            base = bases.at(address)
            if base is not None and shared[base] <= 1:
                total += size
    except (ProcessLookupError, FileNotFoundError):
        return None
    return total


def resident_bytes(pid: int) -> int:
    """Return the resident set of a process (proc_pid_statm(5)); 0 when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return pages * memory.PAGE


def proportional_bytes(pid: int) -> int:
    """Return the proportional set size: each page divided by the processes that map it; 0 when it is gone.

    Source: smaps_rollup, proc_pid_smaps(5). It walks the process's page tables: not for every request.
    """
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0
