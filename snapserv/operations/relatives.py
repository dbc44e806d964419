"""Beside which other node of its tree one is saved, or brought back: most of what they are is the same."""

from __future__ import annotations

from collections.abc import Mapping

from ..nodes.nodes import Nodes
from ..nodes.tree import Node
from .heads import Saved

LOOKED_AT = 64


def to_save_beside(nodes: Nodes, saved: Mapping[int, Saved], node: Node) -> tuple[bytes | None, int]:
    """Return the image and the process, if it has one, of the nearest ancestor that lasts, or of the root."""
    every = nodes.forest.ancestors(node)[:-1][::-1]
    root = nodes.forest.nodes.get(node.tree.root)
    for each in (*every, *([root] if root is not None and root is not node else [])):
        if each.id in saved:
            cell = nodes.cell_of(each)
            return saved[each.id].image, cell.pid if cell is not None and each.death is None else 0
    return None, 0


def to_come_back_beside(nodes: Nodes, saved: Mapping[int, Saved], node: Node) -> Node | None:
    """Return a snapshot of the same tree that has a process, lasts, and is not being changed: a near one."""
    ancestors = nodes.forest.ancestors(node, LOOKED_AT)[-2::-1]
    kin = [nodes.forest.nodes[child] for each in ancestors[:1] for child in list(each.children)]
    recent = [nodes.forest.nodes[number] for number in nodes.traffic.recent if number in nodes.forest.nodes]
    root = [nodes.forest.nodes[node.tree.root]] if node.tree.root in nodes.forest.nodes else []
    for each in (*ancestors, *kin[:LOOKED_AT], *reversed(recent), *root):
        alive = each.id in saved and each.id not in nodes.stored.away and each.death is None
        if each is node or each.tree is not node.tree or not alive or nodes.cell_of(each) is None:
            continue
        if nodes.queue(each).shareable:
            return each
    return None
