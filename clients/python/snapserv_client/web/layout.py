"""Where each node of a tree is drawn: its row, its lane, and what is folded away.

A node's heaviest child goes on in its lane, below all that comes of the others, which are in the lane beside it. So
all lanes to the left of a node go on below it, and there are never more than the logarithm of the nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from ..protocol import NodeInfo

LONGEST_RUN = 6
"""A straight line of more nodes than this is folded; its first and its last stay."""
MOST_TWIGS = 24
"""Of more siblings than this from which nothing goes on the first few are drawn, and the others folded."""
FIRST_TWIGS = 4
LANE_COLOURS = 8


@dataclass(slots=True)
class Row:
    """One row: a node, or a fold, which stands for several.

    Attributes:
        node: The node; of a fold, the first of those that are folded.
        lane: Its lane, from the left; all lanes before it pass by.
        colours: Of the lanes that pass by, and of its own.
        aside: Whether it comes out of the lane before its own.
        above: Whether its line comes from above, or from the side.
        below: Whether its line goes on below.
        folded: How many nodes it stands for; 0 where it is a node.
        hidden: How many nodes that come of it are not drawn.
    """

    node: NodeInfo
    lane: int
    colours: tuple[int, ...]
    aside: bool = False
    above: bool = True
    below: bool = False
    folded: int = 0
    hidden: int = 0


class Layout:
    """The rows of all trees of a server.

    Args:
        nodes: All of them.
        unfolded: The nodes at which folds are open.
        collapsed: The nodes of which nothing is drawn that comes of them.
        shown: Nodes that are not folded away.
    """

    def __init__(
        self,
        nodes: Iterable[NodeInfo],
        *,
        unfolded: Collection[int] = (),
        collapsed: Collection[int] = (),
        shown: Collection[int] = (),
    ) -> None:
        known = {node.id: node for node in nodes}
        self._below: dict[int | None, list[NodeInfo]] = {}
        for node in sorted(known.values(), key=lambda node: node.id):
            self._below.setdefault(node.parent if node.parent in known else None, []).append(node)
        self._weights = _weights(self._below)
        self._shown = frozenset(shown)
        self.take(list(_folded(self._drawn(frozenset(collapsed)), frozenset(unfolded), self._plain)))

    def take(self, rows: list[Row]) -> None:
        """Have these rows, in the place of those that there are."""
        self.rows = rows
        self.lanes = 1 + max((row.lane for row in rows), default=0)
        self._at = {row.node.id: number for number, row in enumerate(rows) if not row.folded}

    def index(self, node: int | None) -> int | None:
        """Return the number of a node's row; None where it is folded away or gone."""
        return None if node is None else self._at.get(node)

    def _plain(self, node: NodeInfo) -> bool:
        """Return whether nobody misses a node that is folded away."""
        return not (node.id in self._shown or node.tags or node.pinned or node.message or node.faulted)

    def _drawn(self, collapsed: frozenset[int]) -> list[Row]:
        """Return all rows without folds."""
        rows: list[Row] = []
        begun = 0
        waiting: list[tuple[NodeInfo, tuple[int, ...], bool, bool]] = []
        for root in reversed(self._below.get(None, ())):
            waiting.append((root, (), False, False))
        while waiting:
            node, colours, aside, above = waiting.pop()
            if not above:
                colours, begun = (*colours, begun % LANE_COLOURS), begun + 1
            children = self._below.get(node.id, ())
            closed = bool(children) and node.id in collapsed
            rows.append(
                Row(
                    node,
                    len(colours) - 1,
                    colours,
                    aside=aside,
                    above=above,
                    below=bool(children) and not closed,
                    hidden=self._weights[node.id] - 1 if closed else 0,
                )
            )
            if closed or not children:
                continue
            trunk = max(children, key=lambda child: (self._weights[child.id], -child.id))
            waiting.append((trunk, colours, False, True))
            waiting += [(child, colours, True, False) for child in reversed(children) if child is not trunk]
        return rows


def _weights(below: dict[int | None, list[NodeInfo]]) -> dict[int, int]:
    """Return how many nodes come of each, itself counted."""
    order = [*below.get(None, ())]
    for node in order:  # which grows meanwhile
        order += below.get(node.id, ())
    weights: dict[int, int] = {}
    for node in reversed(order):
        weights[node.id] = 1 + sum(weights[child.id] for child in below.get(node.id, ()))
    return weights


def _folded(rows: Sequence[Row], unfolded: frozenset[int], plain: Callable[[NodeInfo], bool]) -> Iterable[Row]:
    """Yield rows, with a fold in the place of what is long and straight, or many twigs of one node."""
    start = 0
    while start < len(rows):
        straight = _run(rows, start, lambda row, before: row.above and before.below and row.lane == before.lane)
        twigs = _run(rows, start, lambda row, before: _is_twig(row) and row.node.parent == before.node.parent)
        if straight >= LONGEST_RUN + 2:
            yield from _fold(rows[start : start + straight], 1, 1, unfolded, plain)
            start += straight
        elif twigs > MOST_TWIGS and _is_twig(rows[start]):
            yield from _fold(rows[start : start + twigs], FIRST_TWIGS, 0, unfolded, plain)
            start += twigs
        else:
            yield rows[start]
            start += 1


def _is_twig(row: Row) -> bool:
    return row.aside and not row.below and not row.hidden


def _run(rows: Sequence[Row], start: int, goes_on: Callable[[Row, Row], bool]) -> int:
    """Return how many rows from a start on go on from each other."""
    end = start + 1
    while end < len(rows) and goes_on(rows[end], rows[end - 1]):
        end += 1
    return end - start


def _fold(
    rows: Sequence[Row], first: int, last: int, unfolded: frozenset[int], plain: Callable[[NodeInfo], bool]
) -> Iterable[Row]:
    """Yield a run of rows with folds in the place of its inner ones that nobody misses."""
    inner = rows[first : len(rows) - last]
    yield from rows[:first]
    start = 0
    while start < len(inner):
        end = start
        while end < len(inner) and plain(inner[end].node):
            end += 1
        if end - start >= LONGEST_RUN and inner[start].node.id not in unfolded:
            row = inner[start]
            yield Row(row.node, row.lane, row.colours, row.aside, row.above, inner[end - 1].below, end - start)
        else:
            yield from inner[start:end]
        yield from inner[end : end + 1]
        start = end + 1
    yield from rows[len(rows) - last :]
