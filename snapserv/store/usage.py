"""How much of a store is whose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from snapserv_client.store import keys
from snapserv_client.store.format import Node
from snapserv_client.store.reader import Store

from .references import References


@dataclass(frozen=True)
class NodeUsage:
    """What a node takes.

    Attributes:
        node: The node.
        own: Bytes that only it needs: what is gained where it is removed.
        shared: Bytes that other nodes need as well.
    """

    node: Node
    own: int
    shared: int


@dataclass(frozen=True)
class TreeUsage:
    """What a tree takes.

    Attributes:
        uid: Of the tree.
        name: What it is called; empty where it is missing.
        own: Bytes that only its nodes need.
        shared: Bytes that nodes of other trees need as well.
        nodes: What each of its nodes takes, in order of when they were taken.
    """

    uid: str
    name: str
    own: int
    shared: int
    nodes: list[NodeUsage]


@dataclass(frozen=True)
class Usage:
    """What a store takes.

    Attributes:
        trees: What each tree takes, in order of their names.
        named: Bytes that nodes need, and those of nodes, trees and sessions.
        unnamed: Bytes that a collection removes, sooner or later.
    """

    trees: list[TreeUsage]
    named: int
    unnamed: int


def measure(store: Store) -> Usage:
    """Return what a store takes, by tree and node.

    Raises:
        StoreDamagedError: Something that a node needs is missing or damaged.
        StoreUnavailableError: It cannot be read.
    """
    sizes = {entry.key: entry.size for entry in store.blobs.entries("")}
    references = References(store)
    names = {tree.uid: tree.name for tree in store.trees()}
    nodes: dict[str, list[Node]] = {uid: [] for uid in names}
    needs: dict[str, frozenset[str]] = {}
    for node in store.nodes():
        nodes.setdefault(node.tree, []).append(node)
        needs[node.uid] = references.of_node(node) | {keys.of_node(node.tree, node.uid)}
    of_trees = {
        uid: frozenset({keys.of_tree(uid)}).union(*(needs[node.uid] for node in each))
        for uid, each in nodes.items()
    }
    by_nodes = Counter(key for each in needs.values() for key in each)
    by_trees = Counter(key for each in of_trees.values() for key in each)

    def split(needed: Iterable[str], by: Counter[str]) -> tuple[int, int]:
        own = shared = 0
        for key in needed:
            if by[key] == 1:
                own += sizes.get(key, 0)
            else:
                shared += sizes.get(key, 0)
        return own, shared

    trees = [
        TreeUsage(
            uid,
            names.get(uid, ""),
            *split(of_trees[uid], by_trees),
            [NodeUsage(node, *split(needs[node.uid], by_nodes)) for node in each],
        )
        for uid, each in nodes.items()
    ]
    others = (keys.MARKER, keys.SESSIONS, keys.LOCKS)
    named = sum(size for key, size in sizes.items() if key in by_trees or key.startswith(others))
    return Usage(sorted(trees, key=lambda tree: (tree.name, tree.uid)), named, sum(sizes.values()) - named)
