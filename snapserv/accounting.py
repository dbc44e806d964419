"""Who shares which page: what each node holds for itself."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .ext import memory


def private_bytes(pid: int, segments: Iterable[tuple[int, int]]) -> int | None:
    """Return how much of the arena the process no longer shares with the base image; None when it is gone.

    Counts the pages that are present or swapped and not file pages (PAGEMAP_SCAN, Linux 6.7; pagemap before).
    """
    total = 0
    try:
        for address, size in segments:
            ranges = memory.scan_private(pid, address, address + size)
            total += int((ranges[:, 1] - ranges[:, 0]).sum())
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
