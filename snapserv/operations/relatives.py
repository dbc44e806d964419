"""Beside which other node of its tree one is saved, or brought back: most of what they are is the same."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from ..nodes.nodes import Nodes
from ..nodes.stacks import Stacks
from ..nodes.tree import Node
from .heads import Saved

LOOKED_AT = 64


def to_save_beside(nodes: Nodes, saved: Mapping[int, Saved], node: Node) -> tuple[bytes | None, int]:
    """Return the image and the process, if it has one, of the nearest ancestor that has one, or of the root."""
    root = nodes.forest.nodes.get(node.tree.root)
    roots = [root] if root is not None and root is not node else []
    for each in itertools.chain(nodes.forest.above(node), roots):
        if each.id in saved and saved[each.id].image:
            cell = nodes.cell_of(each)
            return saved[each.id].image, cell.pid if cell is not None and each.death is None else 0
    return None, 0


def to_come_back_beside(nodes: Nodes, node: Node, stacks: Stacks | None) -> Node | None:
    """Return a snapshot of the same tree that has a process and an image, and is not being changed: a near one.

    Args:
        nodes: The server's nodes.
        node: Which is to come back.
        stacks: The layers of its branched folders, if it has some: the other's are among them.
    """
    ancestors = nodes.forest.ancestors(node, LOOKED_AT)[-2::-1]
    kin = [nodes.forest.nodes[child] for each in ancestors[:1] for child in list(each.children)]
    recent = [nodes.forest.nodes[number] for number in nodes.traffic.recent if number in nodes.forest.nodes]
    root = [nodes.forest.nodes[node.tree.root]] if node.tree.root in nodes.forest.nodes else []
    for each in (*ancestors, *kin[:LOOKED_AT], *reversed(recent), *root):
        alive = each.id in nodes.stored.durable and each.id not in nodes.stored.away and each.death is None
        cell = nodes.cell_of(each)
        if each is node or each.tree is not node.tree or not alive or cell is None or cell.stacks is not stacks:
            continue
        if nodes.queue(each).shareable:
            return each
    return None
