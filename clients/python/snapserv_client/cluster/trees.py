"""One tree out of those of several servers: a node that is on several hosts is there once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from ..display import Tree, describe, mark
from ..protocol import NodeInfo, TreeInfo


@dataclass(frozen=True, repr=False)
class ClusterTree(Tree):
    """All nodes of a cluster. Their ids are of this listing alone; ``hosts`` says by name where each is."""

    hosts: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        rows = ((stem, node, ", ".join(self.hosts.get(node.name, ()))) for stem, node in self.rows())
        return "\n".join(f"{stem}{mark(node)} {describe(node)} · {where}" for stem, node, where in rows)

    __repr__ = __str__


def merged(found: Sequence[tuple[int, Tree]]) -> ClusterTree:
    """Return one tree of those of hosts, by their numbers."""
    first: dict[str, tuple[NodeInfo, dict[int, str]]] = {}
    hosts: dict[str, list[str]] = {}
    for number, tree in found:
        names = {node.id: node.name for node in tree.nodes}
        for node in tree.nodes:
            hosts.setdefault(node.name, []).append(f"h{number}")
            known = first.get(node.name)
            if known is None or (known[0].state == "stored" and node.state != "stored"):
                first[node.name] = node, names
    order = sorted(first, key=lambda name: (first[name][0].created, first[name][0].id))
    ids = {name: at for at, name in enumerate(order, 1)}
    nodes = []
    for name in order:
        node, names = first[name]
        parent = ids.get(names.get(node.parent, "")) if node.parent is not None else None
        nodes.append(msgspec.structs.replace(node, id=ids[name], parent=parent))
    trees = {
        tree.name: TreeInfo(tree.name, tree.simulation, ids.get("root", 1))
        for _, each in found
        for tree in each.trees
    }
    return ClusterTree(list(trees.values()), nodes, hosts)
