"""Nodes of a server that runs, to be exported: `Snapshot`, `Branch`, and the tree that they are of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import requests
from ..errors import NotFoundError
from ..labelled.source import (
    Array,
    Block,
    Changes,
    FieldFacts,
    NodeSource,
    TreeNode,
    TreePlan,
    TreeSource,
    in_order,
)
from ..labelled.told import facts_of, fields_of
from ..protocol import NodeInfo, SpecResult
from ..sync import Branch, Server, Snapshot


@contextmanager
def node_of_server(node: Snapshot | Branch) -> Iterator[NodeSource]:
    """Yield a node of a server, to be read; of a live branch a snapshot is taken first, and dropped at the end."""
    spec = node._run(requests.spec(node.last.tree))
    if isinstance(node, Snapshot):
        yield _ServedNode(node, node.info(), spec)
        return
    taken = node.snapshot()
    try:
        info = node.info()
        info.step, info.created = taken.last.step, taken.last.created
        yield _ServedNode(taken, info, spec)
    finally:
        taken.drop()


def tree_of_server(server: Server, tree: str | None = None) -> TreeSource:
    """Return a tree of a server, the first one by default: its snapshots."""
    return _ServedTree(server, server.spec(tree))


class _ServedNode:
    def __init__(self, node: Snapshot, info: NodeInfo, spec: SpecResult) -> None:
        self._node = node
        self.facts = facts_of(info, spec)
        self.fields: Sequence[FieldFacts] = fields_of(spec)

    def lineage(self) -> list[tuple[str, int]]:
        """Return names and steps; where a snapshot was taken of a branch, the branch stands for it."""
        above = [(info.name, info.step) for info in self._node.log()[:-1]]
        return [*above, (self.facts.name, self.facts.step)]

    def read(self, field: FieldFacts, block: Block) -> Array:
        """Return a block of a field."""
        array = self._node.read(field.name, block or None)
        # A region that is one element comes as an array of shape [].
        return np.asarray(array).reshape([part.stop - part.start for part in block])


class _ServedTree:
    def __init__(self, server: Server, spec: SpecResult) -> None:
        self._server = server
        self._spec = spec
        self._ids: dict[str, int] = {}

    def plan(self) -> TreePlan:
        """Return the tree's snapshots; below a dead one, its nearest ancestor that can be read is the parent."""
        found = self._server.tree(self._spec.tree)
        infos = {info.id: info for info in found.nodes}
        (tree,) = (each for each in found.trees if each.name == self._spec.tree)
        if tree.root not in infos:
            raise NotFoundError(f"the root of {tree.name} is gone")
        told = [tree.name, tree.simulation, infos[tree.root].created]
        readable = {info.id for info in found.nodes if info.kind == "snapshot" and info.state != "dead"}
        uids = {id: _uid(told, infos[id]) for id in readable}
        self._ids = {uid: id for id, uid in uids.items()}

        def above(info: NodeInfo) -> str | None:
            parent = info.parent
            while parent is not None and parent not in readable:
                parent = infos[parent].parent if parent in infos else None
            return None if parent is None else uids[parent]

        nodes = [
            TreeNode(uids[info.id], above(info), (_bare(info.name), *info.tags), info.step, info.created)
            for info in found.nodes
            if info.id in readable
        ]
        live = {_bare(info.name): above(info) for info in found.nodes if info.kind == "branch"}
        return TreePlan(
            uid=_digest(*told),
            name=tree.name,
            nodes=in_order(nodes),
            branches={name: uid for name, uid in live.items() if uid is not None},
            skipped=[info.name for info in found.nodes if info.kind == "snapshot" and info.id not in readable],
        )

    @contextmanager
    def node(self, uid: str) -> Iterator[NodeSource]:
        """Yield a snapshot."""
        found = self._server.snapshot(self._ids[uid])
        yield _ServedNode(found, found.last, self._spec)

    def changes(self, node: TreeNode) -> Changes:
        """Return what the server knows, which reads only what either has written."""
        if node.parent is None or not self._spec.fields:
            return {}
        names = [field.name for field in self._spec.fields]
        found = self._server._run(requests.diff(self._ids[node.uid], self._ids[node.parent], names))
        return {
            each.name: tuple(slice(start, stop) for start, stop in each.box) if each.changed else None
            for each in found.fields
        }


def _uid(tree: Sequence[Any], info: NodeInfo) -> str:
    """Return what tells a node from all others: its tree's beginnings, its id and its time."""
    return _digest(*tree, info.id, info.created)


def _digest(*parts: Any) -> str:
    return hashlib.sha256("\n".join(map(repr, parts)).encode()).hexdigest()[:32]


def _bare(name: str) -> str:
    """Return a name without its tree's, as it stands before names in all trees but the first."""
    return name.rpartition("/")[2]
