"""What keeps a clone cheap over a long run: segments get a new base image, or are copied whole before a dense tick.

A clone copies the page-table entries of every page that was written since the base image, so it takes longer and
longer. And a tick that rewrites everything after a clone takes a fault a page. Both are cured here, between two
steps of a live cell, by one rule each; ``docs/decisions/0010-rebasing.md`` has the measurements behind the numbers.

**Re-basing** is rented before it is bought: what clones take beyond the shortest one of this line adds up to a
debt. When the debt is what a re-base takes, the segment with the most private pages gets a new base image, if at
least half of it is private. In the long run this costs at most twice what the best choice in hindsight would. The
image is populated a piece at a time, so no step waits for more than a piece, or for the copying of one segment.

**Dense segments** are recognised by the first tick after a clone: where that took long, the next one is watched;
where that wrote nearly all pages of a segment, the next is spared its faults, and the segment is copied beforehand,
2 MiB at a time. Ticks that are short, which is most of them, cost nothing of this.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from ..ext import memory
from ..machine.limits import SPARED_BYTES, available_bytes
from .arena import Arena, Segment
from .touched import TouchedOnly

if TYPE_CHECKING:
    from ..ext import images

MOSTLY = 0.5
"""The part of a segment that must be private for a new base image to be worth its memory."""
DENSE = 0.9
"""The part of a segment that the first tick after a clone must write for it to be copied beforehand next time."""
PIECE_BYTES = 8 << 20
NS_PER_BYTE = 0.3
"""What a re-base takes, until this line has measured one: 20 ms for 64 MiB."""
SUSPICIOUS_S = 0.001
"""A shorter tick cannot have met enough faults to be dense, and is not even looked at."""
LEARN_AGAIN_AFTER = 16


class Rebaser:
    """The rules, for one live cell and, since it is cloned with it, for the branches that descend from it."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self.touched = TouchedOnly(arena)
        self._image: images.Image | None = None
        self._segment: Segment | None = None
        self._shortest_ns: int | None = None
        self._debt_ns = 0
        self._ns_per_byte = NS_PER_BYTE
        self._spent_ns = 0
        self._dense: list[Segment] = []
        self._learning = True
        self._first_ticks = 0
        self._suspected = False
        self.first_tick = True
        """Whether the next tick is the first since a clone: that which made this process, or one of it."""

    @property
    def pending(self) -> bool:
        """Whether there is a piece of work to do, when nobody waits."""
        return self._image is not None or self.touched.pending

    # ------------------------------------------------------------------------------------------------ re-basing

    @property
    def building(self) -> int:
        """Where a new base image is being filled: shared with its file until it is whole; 0 where none is."""
        return 0 if self._image is None else self._image.address

    def cloned(self, clone_ns: int) -> None:
        """Take note that this cell was cloned, and how long that took."""
        self.first_tick = True
        if self._shortest_ns is None or clone_ns < self._shortest_ns:
            self._shortest_ns = clone_ns
        self._debt_ns += clone_ns - self._shortest_ns
        if self._image is None and self._debt_ns >= self._ns_per_byte * self._arena.segment_bytes:
            self._debt_ns = 0
            self._begin()
        self.touched.cloned(clone_ns)

    def thawed(self) -> None:
        """Take note that this process is the clone."""
        self.first_tick = True
        if self._image is not None:
            self._image.forget()
            self._image = None
        self.touched.thawed()

    def begin_tick(self) -> None:
        """Take note that the first tick since a clone comes now."""
        self.first_tick = False
        self.touched.begin_tick()

    def advance(self) -> None:
        """Do one piece of work. Where the machine has no memory for it, it is given up until the debt is back."""
        if self._image is None or self._segment is None:
            self.touched.advance()
            return
        began = time.monotonic_ns()
        try:
            if self._arena.marked:
                self._image.abandon()
                self._image = None
            elif self._image.populate(PIECE_BYTES):
                self._image.replace(self._segment.address)
                self._image = None
                self._segment.detached = False
                self.touched.replaced(self._segment)
                self._spent_ns += time.monotonic_ns() - began
                self._ns_per_byte = self._spent_ns / self._segment.size_bytes
                return
        except OSError:
            # The segment is what it was, and the cell none the worse: it pays for its clones as before.
            if self._image is not None:
                self._image.abandon()
            self._image = None
        self._spent_ns += time.monotonic_ns() - began

    def _begin(self) -> None:
        from ..ext import images  # mapped only where it is needed: what is mapped is forked

        arena = self._arena
        if not arena.rebasable or arena.marked:
            return
        private = {
            id(segment): arena.sample(segment).private for segment in arena.segments if segment not in self._dense
        }
        segment = max(arena.segments, key=lambda segment: private.get(id(segment), 0.0), default=None)
        if segment is None or private.get(id(segment), 0.0) < MOSTLY:
            return
        if available_bytes() < segment.size_bytes + SPARED_BYTES:
            return
        try:
            descriptor = arena.open_image(segment.size_bytes)
        except OSError:
            return
        try:
            self._image = images.Image(segment.size_bytes, descriptor)
        except OSError:
            return
        finally:
            os.close(descriptor)
        self._segment = segment
        self._spent_ns = 0

    # ---------------------------------------------------------------------------------------------- dense ticks

    @property
    def watching(self) -> bool:
        """Whether the first tick is to be surrounded by the two calls that follow."""
        return bool(self._dense) or self._suspected

    def suspect(self, seconds: float) -> None:
        """Take note of how long a first tick took that was not watched: the next one may be worth it."""
        self._suspected = seconds >= SUSPICIOUS_S

    def before_first_tick(self) -> int:
        """Copy the segments that it is going to write whole; return the page faults so far."""
        self._first_ticks += 1
        self._learning = not self._dense or self._first_ticks > LEARN_AGAIN_AFTER
        if not self._learning and not self._arena.marked:
            for segment in self._dense:
                if not self._detach(segment):
                    break  # page by page then, as the tick gets to them
        return memory.count_faults()

    def after_first_tick(self, faults_before: int) -> None:
        """Learn which segments it wrote whole."""
        self._suspected = False
        if not self._learning:
            return
        written = (memory.count_faults() - faults_before) * memory.PAGE
        segments = self._arena.segments
        self._first_ticks = 0
        self._dense = []
        if not segments or written < DENSE * min(segment.size_bytes for segment in segments):
            return
        # Pages are this process's alone where it has written them since the clone, or where the clone has ended:
        # the number of faults tells the one from the other.
        alone = [segment for segment in segments if self._arena.sample(segment).exclusive >= DENSE]
        if written >= DENSE * sum(segment.size_bytes for segment in alone):
            self._dense = alone

    def _detach(self, segment: Segment) -> bool:
        from ..ext import images

        if available_bytes() < segment.size_bytes + SPARED_BYTES:
            return False
        try:
            images.detach(segment.address, segment.size_bytes)
        except OSError:
            return False
        segment.detached = True
        self.touched.replaced(segment)
        return True
