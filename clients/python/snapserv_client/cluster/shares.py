"""How children are shared out among hosts: small shares, which each host fetches when it has finished its last.

A host gets a part of what is left, or what it plays in about `SHARE_S`, by how fast it was so far, if that is more;
so shares become small towards the end, nobody has to know beforehand how fast a host or a child is, and all finish
at nearly the same time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

SHARE_S = 0.8
LEAST = 6
"""How many children a core is given at least, while there are many: a server then takes the same few processes back
from child to child, which costs it a clone each at the beginning of a share."""
IN_FLIGHT = 2
"""How many shares a host has at a time: it plays one while the other is on its way."""


class Shares:
    """Children that are to be played, by their indices; each is given out until it is done, and is done once.

    Args:
        count: How many there are.
    """

    def __init__(self, count: int) -> None:
        self._waiting: deque[int] = deque(range(count))
        self._missing = set(range(count))

    @property
    def finished(self) -> bool:
        """Whether all are done."""
        return not self._missing

    @property
    def waiting(self) -> int:
        """How many nobody has."""
        return len(self._waiting)

    def take(self, cores: int, per_s: float | None, hosts: int) -> list[int]:
        """Return the next share of a host; empty where there is nothing left to give.

        Args:
            cores: How many children it plays at a time.
            per_s: How many it has played a second so far; None where that is not known.
            hosts: How many hosts share what is left.
        """
        wanted = max(cores * LEAST, 0 if per_s is None else int(per_s * SHARE_S / IN_FLIGHT))
        fair = -(-len(self._waiting) // (hosts * IN_FLIGHT))
        guided = fair if hosts == 1 else fair // 3  # a share costs a few clones, so that few large ones cost less
        size = min(max(wanted, guided), max(fair, cores), len(self._waiting))
        return [self._waiting.popleft() for _ in range(size)]

    def give_back(self, share: Sequence[int]) -> None:
        """Have others play what a host has not: those of its share that are not done."""
        self._waiting.extendleft(reversed([index for index in share if index in self._missing]))

    def done(self, index: int) -> bool:
        """Take note that a child is done; return whether it was not before."""
        if index not in self._missing:
            return False
        self._missing.discard(index)
        return True

    def missing(self, share: Iterable[int]) -> list[int]:
        """Return what is not done of a share."""
        return [index for index in share if index in self._missing]
