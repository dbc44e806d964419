"""Which file each piece of a process's memory stands on: the base images of a node, seen from outside."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

Base: TypeAlias = tuple[str, int]
"""A base image: the device and the inode of its file, which belong to it alone while anybody has it mapped."""
Segments: TypeAlias = Sequence[tuple[int, int]]
"""Where an arena lies: (address, bytes)."""


@dataclass(frozen=True)
class Bases:
    """What a process has mapped: where each mapping starts and ends, and the file beneath it."""

    starts: list[int]
    ends: list[int]
    files: list[Base | None]

    def at(self, address: int) -> Base | None:
        """Return the file mapped at an address; None for anonymous memory, or none at all."""
        index = bisect.bisect_right(self.starts, address) - 1
        return self.files[index] if index >= 0 and address < self.ends[index] else None

    def end(self, address: int) -> int:
        """Return where the mapping at an address ends; the address itself where nothing is mapped."""
        index = bisect.bisect_right(self.starts, address) - 1
        return max(address, self.ends[index]) if index >= 0 else address


def bases_of(pid: int) -> Bases:
    """Return what the process ``pid``, 0 for this one, has mapped; see proc_pid_maps(5).

    Raises:
        ProcessLookupError: It has ended.
        FileNotFoundError: There is no such process.
    """
    bases = Bases([], [], [])
    for line in Path(f"/proc/{pid or 'self'}/maps").read_text().splitlines():
        extent, _, _, device, inode = line.split(maxsplit=5)[:5]
        start, end = extent.split("-")
        bases.starts.append(int(start, 16))
        bases.ends.append(int(end, 16))
        bases.files.append((device, int(inode)) if inode != "0" else None)
    if not bases.starts:
        raise ProcessLookupError(f"process {pid} has ended")
    return bases
