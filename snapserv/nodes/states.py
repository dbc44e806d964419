"""How many nodes are in which state, and which are in use; those that are idle are not looked at."""

from __future__ import annotations

from collections import Counter

from .nodes import Nodes
from .tree import Kind, Node, State


def count_states(nodes: Nodes) -> Counter[tuple[Kind, State]]:
    """Return how many nodes there are of each kind in each state: idle is who is not known to be anything else."""
    counted: Counter[tuple[Kind, State]] = Counter()
    noticed: Counter[Kind] = Counter()
    for number in nodes.not_idle:
        node = nodes.forest.nodes.get(number)
        if node is not None:
            counted[node.kind, nodes.state(node)] += 1
            noticed[node.kind] += 1
    for kind, count in nodes.forest.kinds.items():
        counted[kind, "idle"] += count - noticed[kind]
    return counted


def states(nodes: Nodes) -> dict[str, int]:
    """Return how many nodes there are in each state, whatever their kind; states without any are left out."""
    counted: Counter[str] = Counter()
    for (_, state), count in count_states(nodes).items():
        counted[state] += count
    return dict(+counted)


def in_use(nodes: Nodes) -> list[Node]:
    """Return the nodes that requests came to last, the latest first."""
    there = nodes.forest.nodes
    return [there[number] for number in reversed(nodes.traffic.recent) if number in there]  # or soon gone
