"""Nodes of a store, to be exported; no server is needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from ..arrays import dtype_from_wire
from ..labelled.source import (
    Array,
    Block,
    Changes,
    FieldFacts,
    NodeFacts,
    NodeSource,
    TreeNode,
    TreePlan,
    TreeSource,
    in_order,
    run_of,
)
from ..store.format import Node, Tree
from ..store.reader import Store


def node_of_store(store: Store, reference: str) -> NodeSource:
    """Return a node of a store by its uid, name or tag, or by ``tree/name``; see `Store.node`."""
    return _made(store, store.node(reference))


def tree_of_store(store: Store, uid: str) -> TreeSource:
    """Return a tree of a store by its uid."""
    return _StoredTree(store, store.tree(uid))


class _StoredNode:
    def __init__(self, store: Store, tree: Tree, node: Node) -> None:
        self._store = store
        self._node = node
        self._addresses = {place.name: place.address for place in tree.fields}
        self.facts = NodeFacts(
            name=node.name,
            tree=tree.name,
            simulation=tree.simulation,
            version=str(tree.described.get("version", "")),
            params=tree.params,
            step=node.step,
            created=node.created,
            tags=tuple(node.tags),
            faulted=node.faulted,
            outputs=node.outputs,
        )
        self.fields: Sequence[FieldFacts] = [
            FieldFacts(
                place.name,
                dtype_from_wire(place.dtype),
                tuple(place.shape),
                tuple(place.dims),
                place.units,
                place.doc,
            )
            for place in tree.fields
        ]

    def lineage(self) -> list[tuple[str, int]]:
        """Return names and steps."""
        return [(node.name, node.step) for node in reversed(self._store.lineage(self._node))]

    def read(self, field: FieldFacts, block: Block) -> Array:
        """Return a block of a field."""
        first, count = run_of(field.shape, block)
        size = field.dtype.itemsize
        data = self._store.read(self._node, self._addresses[field.name] + first * size, count * size)
        return np.frombuffer(data, field.dtype).reshape([part.stop - part.start for part in block])


class _StoredTree:
    def __init__(self, store: Store, tree: Tree) -> None:
        self._store = store
        self._tree = tree
        self._nodes: dict[str, Node] = {}

    def plan(self) -> TreePlan:
        """Return the tree's nodes, and what the session that wrote it last had live."""
        self._nodes = {node.uid: node for node in self._store.nodes(self._tree.uid)}
        nodes = [
            TreeNode(node.uid, node.parent, (node.name, *node.tags), node.step, node.created)
            for node in self._nodes.values()
        ]
        sessions = [each for each in self._store.sessions() if self._tree.uid in each.trees]
        live = sessions[0].live if sessions else []
        branches = {
            each.name.rpartition("/")[2]: each.snapshot
            for each in live
            if each.tree == self._tree.uid and each.snapshot in self._nodes
        }
        return TreePlan(self._tree.uid, self._tree.name, in_order(nodes), branches)

    @contextmanager
    def node(self, uid: str) -> Iterator[NodeSource]:
        """Yield a node."""
        yield _StoredNode(self._store, self._tree, self._nodes[uid])

    def changes(self, node: TreeNode) -> Changes:
        """Return nothing: all is to be looked at."""
        return {}


def _made(store: Store, node: Node) -> NodeSource:
    return _StoredNode(store, store.tree(node.tree), node)
