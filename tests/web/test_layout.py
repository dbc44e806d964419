"""Rows and lanes of trees: lines that hang together, few lanes, and folds that hide nothing anybody looks for."""

from __future__ import annotations

import math
import random
from typing import Literal

import pytest
from snapserv_client.protocol import NodeInfo
from snapserv_client.web.layout import FIRST_TWIGS, LANE_COLOURS, LONGEST_RUN, MOST_TWIGS, Layout, Row


def node(number: int, parent: int | None, *, branch: bool = False) -> NodeInfo:
    kind: Literal["branch", "snapshot"] = "branch" if branch else "snapshot"
    return NodeInfo(number, f"n{number}", "default", kind, "idle", parent, number, 0.0)


def grown(count: int, seed: int) -> list[NodeInfo]:
    chance = random.Random(seed)
    nodes = [node(1, None)]
    for number in range(2, count + 1):
        near = chance.random() < 0.7
        parent = number - 1 if near else chance.randrange(1, number)
        nodes.append(node(number, parent))
    return nodes


def unfolded(nodes: list[NodeInfo]) -> Layout:
    return Layout(nodes, unfolded={each.id for each in nodes})


def assert_lines_hang_together(rows: list[Row]) -> None:
    """Follow all lines from above to below: each goes on from one that there is, and none ends nowhere."""
    going: set[int] = set()
    for row in rows:
        assert going >= set(range(row.lane))
        assert (row.lane in going) is row.above
        if row.aside:
            assert row.lane - 1 in going
        assert len(row.colours) == row.lane + 1
        (going.add if row.below else going.discard)(row.lane)
        assert not {lane for lane in going if lane > row.lane}
    assert not going


@pytest.mark.parametrize("seed", range(20))
def test_lines_hang_together_and_lanes_are_few(seed: int) -> None:
    nodes = grown(300, seed)
    layout = unfolded(nodes)
    assert_lines_hang_together(layout.rows)
    assert sorted(row.node.id for row in layout.rows) == [each.id for each in nodes]
    assert layout.lanes <= 1 + math.log2(len(nodes))
    assert all(0 <= colour < LANE_COLOURS for row in layout.rows for colour in row.colours)
    folded = Layout(nodes)
    assert_lines_hang_together(folded.rows)
    assert sum(row.folded or 1 for row in folded.rows) == len(nodes)


def test_the_trunk_is_the_heaviest_child_and_comes_last() -> None:
    nodes = [node(1, None), node(2, 1, branch=True), node(3, 1), node(4, 1, branch=True), node(5, 3, branch=True)]
    rows = Layout(nodes).rows
    assert [(row.node.id, row.lane) for row in rows] == [(1, 0), (2, 1), (4, 1), (3, 0), (5, 0)]


def test_a_parent_may_be_younger_than_its_child() -> None:
    rows = Layout([node(1, None), node(2, 9, branch=True), node(9, 1)]).rows
    assert [row.node.id for row in rows] == [1, 9, 2]


def test_a_long_straight_line_is_folded_but_not_what_is_looked_for() -> None:
    line = [node(number, number - 1 or None) for number in range(1, 41)]
    rows = Layout(line).rows
    assert [(row.node.id, row.folded) for row in rows] == [(1, 0), (2, 38), (40, 0)]
    line[19].tags.append("kept")
    shown = Layout(line, shown={30})
    assert [row.folded for row in shown.rows if row.folded] == [18, 9, 9]
    assert shown.index(20) is not None
    assert shown.index(30) is not None
    assert shown.index(25) is None
    opened = Layout(line, unfolded={2})
    assert opened.index(10) is not None
    assert len(Layout(line[: LONGEST_RUN + 1]).rows) == LONGEST_RUN + 1


def test_of_many_twigs_the_first_are_drawn() -> None:
    nodes = [node(1, None), *(node(number, 1, branch=True) for number in range(2, 103))]
    rows = Layout(nodes).rows
    assert [row.folded for row in rows] == [0] * (1 + FIRST_TWIGS) + [100 - FIRST_TWIGS, 0]
    assert rows[-1].node.id == 2
    few = Layout(nodes[: MOST_TWIGS + 2])
    assert len(few.rows) == MOST_TWIGS + 2


def test_what_is_collapsed_says_how_much_is_hidden() -> None:
    rows = Layout(grown(50, 3), collapsed={1}).rows
    assert [(row.node.id, row.hidden, row.below) for row in rows] == [(1, 49, False)]


def test_trees_stand_below_each_other() -> None:
    rows = Layout([node(1, None), node(2, 1), node(3, None), node(4, 3)]).rows
    assert [(row.node.id, row.lane) for row in rows] == [(1, 0), (2, 0), (3, 0), (4, 0)]
    assert_lines_hang_together(rows)
