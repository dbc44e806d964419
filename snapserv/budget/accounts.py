"""The ledger of memory: what each process is charged with, kept as sums so that asking costs nothing.

A process is charged with its share of the pages that it maps (`accounting.holding`), and between two measurements
with what it has grown by. A base image is charged once, however many stand on it.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from ..nodes.process import CellProcess
from ..outside.accounting import Holding
from ..outside.bases import Base

UNMEASURED_BYTES = 1 << 20
"""Charged for a process until it is measured: about what a clone costs that has not run yet."""


@dataclass(slots=True)
class Account:
    """What one process is charged with.

    ``growth_bytes`` is how much its anonymous memory grew since ``share_bytes`` was measured, and
    ``settled_bytes`` what it was charged with when nothing ran in it last.
    """

    share_bytes: int = UNMEASURED_BYTES
    anonymous_bytes: int | None = None
    growth_bytes: int = 0
    settled_bytes: int = UNMEASURED_BYTES
    bases: dict[Base, int] = field(default_factory=dict)

    @property
    def own_bytes(self) -> int:
        """All but base images."""
        return self.share_bytes + self.growth_bytes

    @property
    def grown_bytes(self) -> int:
        """How much more it is than when nothing ran in it last."""
        return self.own_bytes - self.settled_bytes


class Accounts:
    """The charges of all processes, and their sum."""

    def __init__(self) -> None:
        self.by_cell: dict[CellProcess, Account] = {}
        self._own_bytes = 0
        self._base_bytes = 0
        self._holders: dict[Base, list[int]] = {}

    @property
    def total_bytes(self) -> int:
        """All that is charged."""
        return self._own_bytes + self._base_bytes

    @property
    def base_bytes(self) -> int:
        """What is charged for base images."""
        return self._base_bytes

    def add(self, cell: CellProcess) -> None:
        """Account a new process."""
        charge = self.by_cell[cell] = Account()
        self._own_bytes += charge.own_bytes

    def remove(self, cell: CellProcess) -> None:
        """Account a process with nothing any more; what it shared is charged to the others as they are measured."""
        charge = self.by_cell.pop(cell)
        self._own_bytes -= charge.own_bytes
        self._stand_on(charge, {})

    def grow(self, cell: CellProcess, anonymous_bytes: int) -> None:
        """Account a process with what its anonymous memory has grown by since it was measured."""
        charge = self.by_cell.get(cell)
        if charge is None:
            return
        known = charge.anonymous_bytes
        if known is None:
            # Never measured: what a clone starts with is shared, so only what comes from here on is its own.
            charge.anonymous_bytes, known = anonymous_bytes, anonymous_bytes
        growth = max(0, anonymous_bytes - known)
        self._own_bytes += growth - charge.growth_bytes
        charge.growth_bytes = growth

    def measured(self, cell: CellProcess, held: Holding) -> None:
        """Account a process with what it was found to hold."""
        charge = self.by_cell.get(cell)
        if charge is None:
            return
        self._own_bytes += held.share_bytes - charge.own_bytes
        charge.share_bytes, charge.growth_bytes = held.share_bytes, 0
        charge.anonymous_bytes = held.anonymous_bytes
        self._stand_on(charge, held.bases)

    def settle(self, cell: CellProcess) -> None:
        """Take note that nothing runs in a process now."""
        charge = self.by_cell.get(cell)
        if charge is not None:
            charge.settled_bytes = charge.own_bytes

    def biggest(self, count: int) -> list[tuple[CellProcess, int]]:
        """Return the processes that are charged with most, and with how much."""
        found = heapq.nlargest(count, self.by_cell.items(), key=lambda item: item[1].own_bytes)
        return [(cell, charge.own_bytes) for cell, charge in found]

    def _stand_on(self, charge: Account, bases: dict[Base, int]) -> None:
        for base, size in bases.items():
            holders = self._holders.setdefault(base, [0, size])
            if holders[0] == 0:
                self._base_bytes += size
            holders[0] += 1
        for base in charge.bases:
            holders = self._holders[base]
            holders[0] -= 1
            if holders[0] == 0:
                self._base_bytes -= holders[1]
                del self._holders[base]
        charge.bases = bases
