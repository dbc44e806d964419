"""Names and lineage: the forest, against a model that keeps only each node's parent."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from snapserv.nodes.seeds import seed_of
from snapserv.nodes.tree import Forest, NameInUseError, Node


class Lineage(RuleBasedStateMachine):
    """A forest against a model that keeps only each node's parent."""

    def __init__(self) -> None:
        super().__init__()
        self.forest = Forest()
        self.tree = self.forest.plant("default", "S")
        self.parents: dict[int, int | None] = {}
        self.root = self.add(None)

    def add(self, parent: Node | None) -> Node:
        node = self.forest.add(self.tree, "snapshot", parent, name=None, step=0, now=0.0)
        self.parents[node.id] = parent.id if parent else None
        return node

    def pick(self, index: int) -> Node:
        nodes = list(self.forest.nodes.values())
        return nodes[index % len(nodes)]

    @rule(index=st.integers(0, 1000))
    def grow(self, index: int) -> None:
        self.add(self.pick(index))

    @rule(index=st.integers(0, 1000))
    def remove(self, index: int) -> None:
        node = self.pick(index)
        if node is self.root:
            return
        self.forest.remove(node)
        gone = self.parents.pop(node.id)
        for child, parent in self.parents.items():
            if parent == node.id:
                self.parents[child] = gone

    @rule(index=st.integers(0, 1000), to=st.integers(0, 1000))
    def move(self, index: int, to: int) -> None:
        node, target = self.pick(index), self.pick(to)
        if node in self.forest.ancestors(target):
            return
        self.forest.move(node, target)
        self.parents[node.id] = target.id

    @invariant()
    def lineage_is_the_models(self) -> None:
        assert {node.id: node.parent for node in self.forest.nodes.values()} == self.parents
        for node in self.forest.nodes.values():
            assert {child for child, parent in self.parents.items() if parent == node.id} == set(node.children)
            assert self.forest.ancestors(node)[0] is self.root
        below = [node.id for node in self.forest.descendants(self.root)]
        assert sorted([self.root.id, *below]) == sorted(self.parents)


TestLineage = Lineage.TestCase
TestLineage.settings = settings(max_examples=30, deadline=None)


def test_names_and_tags_belong_to_one_node_each() -> None:
    forest = Forest()
    tree, other = forest.plant("default", "S"), forest.plant("t2", "S")
    one = forest.add(tree, "snapshot", None, name="one", step=0, now=0.0)
    forest.tag(one, "golden")
    with pytest.raises(NameInUseError):
        forest.add(tree, "branch", one, name="golden", step=0, now=0.0)
    twin = forest.add(other, "snapshot", None, name="one", step=0, now=0.0)
    assert forest.find("one") is forest.find("golden") is forest.find(one.id) is one
    assert forest.find("t2/one") is twin
    assert twin.path == "t2/one"
    assert forest.find("t3/one") is None
    forest.remove(one)
    assert forest.find("golden") is None
    with pytest.raises(NameInUseError):
        forest.plant("t2", "S")


def test_nodes_that_are_put_back_are_counted_like_others() -> None:
    forest = Forest()
    tree = forest.plant("default", "S")
    forest.put_back(Node(7, "s7", tree, "snapshot", None, 0, 0.0))
    assert forest.kinds == {"snapshot": 1}
    forest.remove(forest.nodes[7])
    assert forest.kinds.total() == 0


def test_a_name_that_is_made_up_avoids_those_that_exist() -> None:
    forest = Forest()
    tree = forest.plant("default", "S")
    forest.add(tree, "snapshot", None, name="s2", step=0, now=0.0)
    assert forest.add(tree, "snapshot", None, name=None, step=0, now=0.0).name == "s2_"


def test_split_seeds_are_fixed_by_the_node_and_have_nothing_in_common() -> None:
    seeds = {seed_of("split", number) for number in range(1, 1000)}
    assert len(seeds) == 999
    assert seed_of("split", 7) == seed_of("split", 7)
    assert seed_of("same", 7) is None
    assert seed_of(5, 7) == 5
