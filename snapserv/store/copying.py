"""Copying nodes from store to store: what is there already is not copied again, and heads come last."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
from snapserv_client.store import keys
from snapserv_client.store.format import Node
from snapserv_client.store.reader import Store

from snapserv.errors import NameTakenError

from .locks import WAIT_S
from .references import References
from .writing import StoreWriter

ORDER = (keys.PACKS, keys.BASES, keys.LAYERS, keys.ACTIONS, keys.IMAGES)


@dataclass(frozen=True)
class Copied:
    """What a copy did.

    Attributes:
        nodes: How many nodes were written.
        objects: How many objects they needed that were not there.
        size: How many bytes those are.
    """

    nodes: int
    objects: int
    size: int


def copy_nodes(source: Store, target: StoreWriter, nodes: Iterable[Node], *, wait_s: float = WAIT_S) -> Copied:
    """Copy nodes, with all that they need, to another store.

    Each node's parent is its nearest ancestor that the other store has then; so whoever copies an ancestor later
    finds it between those that are there. What is there of the same nodes is written anew.

    Args:
        source: Where they are.
        target: Where they should be.
        nodes: Which.
        wait_s: How long to wait for a collection there.

    Raises:
        NameTakenError: Another node of the same tree is called so there; nothing has been copied.
        StoreDamagedError: Something that a node needs is missing or damaged.
        StoreUnavailableError: A store cannot be reached, or is full.
    """
    asked = {node.uid: node for node in nodes}
    trees = sorted({node.tree for node in asked.values()})
    references = References(source)
    count = size = written = 0
    with target.saving(wait_s) as saving:
        changed = [head for tree in trees for head in _heads(source, target.store, tree, asked)]
        needed = frozenset[str]().union(*(references.of_node(node) for node in asked.values()))
        for kind in ORDER:
            for key in saving.absent(key for key in needed if key.startswith(kind)):
                size += saving.copy(source.blobs, key)
                count += 1
        for tree in trees:
            if saving.absent([keys.of_tree(tree)]):
                saving.put_tree(source.tree(tree))
        for head in changed:
            saving.put_node(head)
            written += head.uid in asked
    return Copied(written, count, size)


def _heads(source: Store, target: Store, tree: str, asked: dict[str, Node]) -> list[Node]:
    """Return the nodes of a tree to be written, each with its parent there; ancestors first."""
    known = {node.uid: node for node in source.nodes(tree)}
    there = {node.uid: node for node in target.nodes(tree)}
    _refuse_taken([node for node in asked.values() if node.tree == tree], list(there.values()))
    heads = []
    for node in sorted({**there, **asked}.values(), key=lambda node: (node.step, node.created)):
        if node.tree != tree:
            continue
        above = dict(known)
        parent = above.pop(node.uid, node).parent
        while parent is not None and parent not in asked and parent not in there:
            parent = above.pop(parent).parent if parent in above else None
        if node.uid in asked or (node.uid in known and parent != node.parent):
            heads.append(msgspec.structs.replace(node, parent=parent))
    return heads


def _refuse_taken(asked: list[Node], there: list[Node]) -> None:
    own = {node.uid for node in asked}
    taken = {name: node for node in there if node.uid not in own for name in (node.name, *node.tags)}
    for node in asked:
        for name in (node.name, *node.tags):
            if name in taken:
                raise NameTakenError(
                    f"another node of the tree is called {name!r} in the other store",
                    hint="give one of the two another name",
                    details={"name": name, "there": taken[name].uid, "here": node.uid},
                )
