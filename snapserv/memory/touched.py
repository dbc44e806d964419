"""What keeps a clone cheap where writes are scattered: segments of which reads map no more pages than they touch.

A write to a page splits the huge page that it lies in, and the next read there maps all 512 pages of it. Each of
them is an entry that every later clone copies, though nobody wrote it: 1,000 pages that are read, changed and
written between two clones make a clone of 1 GiB take ten times as long. A segment that is registered with
userfaultfd(2) is mapped a page at a time. That costs a page fault for each page that is read, so it is a gain
where reads are as scattered as writes, and a loss where everything is read.
``docs/decisions/0036-scattered-writes.md`` has the measurements behind the numbers.

**When** is rented before it is bought, as in `rebasing`: when what clones take beyond the shortest one has added
up, page-table entries are counted. Segments of which more pages are mapped than private are worth it. One in eight
of them is tried first: its superfluous entries are dropped, and if they have not come back by the next clone, the
others follow.

**For how long**: where so many faults came between two clones that most of what was dropped may be there again, it
is counted, and segments of which that is so are given back: they are read as a whole. And each clone earns what its
missing entries would take, and spends what faults beyond the usual number take: when the credit is used up, all are
given back. Whoever has given a segment back tries it again ever more rarely.

Clocks only say when to look. All that is decided is decided by counts.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, cast

from ..errors import BadRequestError
from ..ext import fork, memory

if TYPE_CHECKING:
    from ..ext import touched
    from .arena import Arena, Segment

VARIABLE = "SNAPSERV_TOUCHED_ONLY"
Mode = Literal["adaptive", "always", "never"]
MODES = ("adaptive", "always", "never")

PRICE_NS = 5_000_000
"""What clones must have taken beyond the shortest one before entries are counted; doubled when that was in vain."""
DEAREST_NS = 64 * PRICE_NS
ENTRY_NS, FAULT_NS = 30, 1000
"""What an entry takes in a clone, and a fault that would not have been."""
LEAST_ENTRIES = 512
ONE_IN = 8
"""So many segments share one that is tried before, and so many blocks one that is counted, of at least:"""
LEAST_BLOCKS = 4
AGAIN_AFTER = 64
"""So many clones must have gone without entries for it to pay to drop them; and so long is credit kept."""


def mode() -> Mode:
    """Return what the environment asks for.

    Raises:
        BadRequestError: There is no such mode.
    """
    asked = os.environ.get(VARIABLE) or "adaptive"
    if asked not in MODES:
        raise BadRequestError(f"{VARIABLE} is {asked!r}", hint=f"it is one of {', '.join(MODES)}")
    return cast(Mode, asked)


@dataclass(eq=False)
class _Standing:
    """What is known of a segment: its entries when they were last counted, and how many were dropped, and when."""

    segment: Segment
    registered: bool = False
    private: int = 0
    mapped: int = 0
    dropped: int = 0
    dropped_at: int = 0
    given_back: int = 0
    not_before: int = 0

    @property
    def dear(self) -> bool:
        """Whether at least half of the entries that a clone copies are of pages that nobody wrote."""
        return self.mapped >= max(self.private, LEAST_ENTRIES)


class TouchedOnly:
    """The rules, for one live cell and, since it is cloned with it, for the branches that descend from it."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._mode = mode()
        self._possible = self._mode != "never"
        self._held_off = False
        self._registration: touched.Registration | None = None
        self._standings: dict[int, _Standing] = {}
        self._renewing = self._mode == "always"
        self._jobs: deque[Callable[[], object]] = deque()
        self._tried: list[_Standing] = []
        self._waiting: list[_Standing] = []
        self._clones = self._looks = 0
        self._faults = memory.count_faults()
        self._usual_faults: float | None = None
        self._shortest_ns: int | None = None
        self._debt_ns = 0
        self._price_ns = PRICE_NS
        self._credit_ns = 0.0
        self.pending = False
        """Whether there is a piece of work to do, when nobody waits."""

    @property
    def registered(self) -> list[Segment]:
        """The segments of which reads map only what they touch."""
        return [standing.segment for standing in self._all() if standing.registered and self._registration]

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What this process holds open for it, which is no part of the simulation's."""
        found = self._registration
        return (found.descriptor,) if found is not None and found.is_open else ()

    # -------------------------------------------------------------------------------------- what happens to a cell

    def cloned(self, clone_ns: int) -> None:
        """Take note that this cell was cloned, and how long that took."""
        now = memory.count_faults()
        faults, self._faults = now - self._faults, now
        if self._mode != "adaptive" or not self._possible or self._held_off or not self._arena.rebasable:
            return
        self.begin_tick()  # where it has not come yet
        self._clones += 1
        if self._registration is not None and not self._registration.is_open:
            self._close()
        if self._shortest_ns is None or clone_ns < self._shortest_ns:
            self._shortest_ns = clone_ns
        self._debt_ns += clone_ns - self._shortest_ns
        spared = 0
        if self._registration is not None:
            spared = sum(standing.dropped for standing in self._all() if standing.registered)
        if self._registration is None or self._usual_faults is None:
            self._usual_faults = faults if self._usual_faults is None else (self._usual_faults + faults) / 2
        else:
            earned, spent = ENTRY_NS * spared, FAULT_NS * max(0.0, faults - self._usual_faults)
            self._credit_ns = min(self._credit_ns + earned - spent, PRICE_NS + AGAIN_AFTER * earned)
        if self._jobs:
            self.pending = True
        elif self._tried:
            self._look(self._tried, self._judge)
        elif spared and self._credit_ns < 0:
            self._look(self._all(), self._settle)
        elif self._debt_ns >= self._price_ns or 0 < spared <= 2 * faults:
            self._look(self._all(), self._choose)

    def thawed(self) -> None:
        """Take note that this process is the clone: it has the entries, and not the registration."""
        self._jobs.clear()
        self.pending = self._held_off = False
        self._renewing = self._mode == "always" or any(standing.registered for standing in self._all())
        if self._registration is not None:
            self._registration.close()
            self._registration = None
        self._faults = memory.count_faults()

    def begin_tick(self) -> None:
        """Have in this process what the one had that it was cloned from, now that something is to be written."""
        if not self._renewing:
            return
        self._renewing = False
        if self._held_off or not self._arena.rebasable or not self._open():
            return
        for standing in self._all():
            if standing.registered or self._mode == "always":
                standing.registered = not standing.segment.detached and self._register(standing)

    def replaced(self, segment: Segment) -> None:
        """Take note that other memory is mapped in a segment's place: new files, or copies of them."""
        standing = self._standings.get(segment.address)
        if standing is None or not standing.registered:
            return
        standing.dropped, standing.dropped_at = segment.size_bytes // memory.PAGE, self._clones
        if segment.detached or self._registration is None or not self._register(standing):
            standing.registered = False

    def hold_off(self) -> None:
        """Do nothing of the kind from now on, in this process: what it holds is going to be compared."""
        if self._renewing:  # others do with their first tick, and all have the same modules
            from ..ext import touched  # noqa: F401
        self._held_off = True
        self._jobs.clear()
        self.pending = False
        self._close()

    # ---------------------------------------------------------------------------------------------- pieces of work

    def advance(self) -> None:
        """Do one piece of work: look at a segment, or drop its entries."""
        if self._jobs and self._possible and fork.count_threads() == 1:
            self._jobs.popleft()()
            self.pending = bool(self._jobs)
        else:
            self.pending = False  # threads may write meanwhile: it waits for the next clone, when they have ended

    def _all(self) -> Sequence[_Standing]:
        for segment in self._arena.segments[len(self._standings) :]:
            self._standings[segment.address] = _Standing(segment)
        return list(self._standings.values())

    def _look(self, standings: Sequence[_Standing], then: Callable[[], None]) -> None:
        self._debt_ns, self._shortest_ns = 0, None
        self._jobs.extend(partial(self._count, standing) for standing in standings)
        self._jobs.append(then)
        self.pending = True

    def _count(self, standing: _Standing) -> None:
        from ..ext import touched  # mapped only where it is needed: what is mapped is forked

        segment = standing.segment
        standing.private = standing.mapped = 0
        if segment.detached:
            return
        blocks = segment.size_bytes // memory.HUGE_PAGE
        one_in = min(ONE_IN, max(1, blocks // LEAST_BLOCKS))
        try:
            counted = touched.count_entries(segment.address, segment.address + segment.size_bytes, one_in)
        except OSError:
            self._possible = False
        else:
            standing.private, standing.mapped = counted

    # ------------------------------------------------------------------------------------------------ the verdicts

    def _choose(self) -> None:
        """All segments have been counted, since clones have become dear."""
        self._looks += 1
        back = [standing for standing in self._all() if self._came_back(standing)]
        rest = [standing for standing in self._all() if standing.dear and standing not in back]
        again = [standing for standing in rest if standing.registered]
        dear = [standing for standing in rest if not standing.registered and standing.not_before <= self._looks]
        self._give_back(back)
        if not again and not dear:
            self._price_ns = min(2 * self._price_ns, DEAREST_NS)
        self._tried, self._waiting = dear[::ONE_IN], dear
        self._jobs.extend(partial(self._drop, standing) for standing in (*again, *self._tried))

    def _judge(self) -> None:
        """Those that were tried have been counted, after the first clone since."""
        failed = [standing for standing in self._tried if self._came_back(standing)]
        rest = [standing for standing in self._waiting if standing not in self._tried]
        if 2 * len(failed) <= len(self._tried):
            self._jobs.extend(partial(self._drop, standing) for standing in rest)
        else:
            self._price_ns = min(2 * self._price_ns, DEAREST_NS)
            for standing in rest:
                standing.not_before = self._looks + ONE_IN
        self._tried, self._waiting = [], []
        self._give_back(failed)

    def _settle(self) -> None:
        """All have been counted, since faults take more than clones are spared."""
        self._credit_ns = PRICE_NS
        registered = [standing for standing in self._all() if standing.registered]
        self._give_back([standing for standing in registered if self._came_back(standing)] or registered)

    def _came_back(self, standing: _Standing) -> bool:
        """Return whether entries were dropped, and most are there again before that has paid."""
        soon = self._clones - standing.dropped_at < AGAIN_AFTER
        return standing.registered and soon and standing.mapped >= max(standing.dropped // 2, LEAST_ENTRIES)

    # ------------------------------------------------------------------------------------ what is done to segments

    def _drop(self, standing: _Standing) -> None:
        from ..ext import touched

        if not standing.registered:
            if not self._open() or not self._register(standing):
                return
            standing.registered = True
        start = standing.segment.address
        try:
            standing.dropped = touched.drop_mapped(start, start + standing.segment.size_bytes)
        except OSError:
            standing.dropped = standing.mapped  # those that are left are no worse than before
        standing.dropped_at = self._clones

    def _give_back(self, standings: Sequence[_Standing]) -> None:
        self._jobs.extend(partial(self._unregister, standing) for standing in standings)

    def _unregister(self, standing: _Standing) -> None:
        standing.registered = False
        standing.given_back += 1
        standing.not_before = self._looks + ONE_IN**standing.given_back
        if self._registration is None:
            return
        try:
            start = standing.segment.address
            self._registration.remove(start, start + standing.segment.size_bytes)
        except OSError:
            self._close()
        if not self.registered:
            self._close()

    def _register(self, standing: _Standing) -> bool:
        assert self._registration is not None
        start = standing.segment.address
        try:
            self._registration.add(start, start + standing.segment.size_bytes)
        except OSError:
            standing.not_before = self._looks + ONE_IN
            return False
        return True

    def _open(self) -> bool:
        """Return whether there is a registration. Where the kernel has none for us, all stays as it is."""
        from ..ext import touched

        if self._registration is not None:
            return True
        try:
            self._registration = touched.Registration()
            fork.keep_from_clones(self._registration.descriptor)
        except OSError:
            self._possible = False
            return False
        self._credit_ns = PRICE_NS
        return True

    def _close(self) -> None:
        if self._registration is not None:
            self._registration.close()
            self._registration = None
        for standing in self._standings.values():
            standing.registered = False
