"""Nodes, names and lineage: plain data. No processes and no I/O; this module imports nothing of ours."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["snapshot", "branch"]
State = Literal["idle", "busy", "dead", "faulted", "stored"]


class NameInUseError(ValueError):
    """The name belongs to a node or tree already."""


@dataclass(slots=True)
class Autosnap:
    """When snapshots of a branch are taken by themselves, and how many stay.

    ``due_s`` is when the next one is due by the monotonic clock; ``error`` says why the last one was not taken.
    """

    every_steps: int | None
    every_s: float | None
    keep: int
    due_s: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """What a simulation raised in the middle, and left a node as it is.

    ``action`` is the one of its history in which that was, counted from 0, where the process said so; ``at`` is in
    seconds since 1970.
    """

    message: str
    step: int
    at: float
    action: int | None = None
    traceback: str = ""


@dataclass(eq=False, slots=True)
class Node:
    """A point of a tree: a frozen snapshot or a live branch.

    ``parent`` is the node whose moment this one started from; a restored branch changes parents. ``death`` says
    how the process ended, if it ended by itself; such a node stays in the tree until it is dropped or revived.
    ``fault`` is there where the simulation left the node as it is by raising. ``message`` is what was said of a
    snapshot by whoever took it. ``automatic`` says that nobody asked for this snapshot; ``rungs`` are the ids of a
    branch's automatic snapshots, each with its place in the branch's past (see `snapserv.operations.retention`).
    ``named`` is whether somebody chose its name; ``taken_of`` what the branch was called that a snapshot was taken
    of, and ``since`` the highest id that there was when a branch came to where it went on from. ``ahead`` is, of a
    branch that went back to a step of its past, the id of the snapshot of what it was, and a digest of its actions
    there.
    """

    id: int
    name: str
    tree: Tree
    kind: Kind
    parent: int | None
    step: int
    created: float
    tags: list[str] = field(default_factory=list)
    pinned: bool = False
    named: bool = False
    death: str | None = None
    fault: Fault | None = None
    message: str = ""
    automatic: bool = False
    autosnap: Autosnap | None = None
    rungs: dict[int, int] = field(default_factory=dict)
    taken_of: str = ""
    since: int = 0
    ahead: tuple[int, int] | None = None
    children: dict[int, None] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """The name that clients use: the name alone in the first tree, ``tree/name`` in others."""
        return self.name if self.tree.first else f"{self.tree.name}/{self.name}"

    @property
    def faulted(self) -> str | None:
        """What the simulation raised, where it left the node as it is."""
        return None if self.fault is None else self.fault.message


@dataclass(eq=False, slots=True)
class Tree:
    """All nodes that stand on one base image. The root is a snapshot and is never dropped."""

    name: str
    simulation: str
    first: bool
    names: dict[str, Node] = field(default_factory=dict)
    root: int = 0


class Forest:
    """The trees of a server, and its nodes by id and by name; ``kinds`` is how many there are of each kind."""

    def __init__(self) -> None:
        self.trees: dict[str, Tree] = {}
        self.nodes: dict[int, Node] = {}
        self.kinds: Counter[Kind] = Counter()
        self.suffix = ""
        """What names that nobody chose end with: where servers are hosts of a cluster, each has its own."""
        self._last_id = 0

    def plant(self, name: str, simulation: str) -> Tree:
        """Add an empty tree.

        Raises:
            NameInUseError: There is a tree of that name.
        """
        if name in self.trees:
            raise NameInUseError(f"there is a tree called {name!r} already")
        tree = Tree(name, simulation, first=not self.trees)
        self.trees[name] = tree
        return tree

    def fell(self, tree: Tree) -> None:
        """Remove a tree that has no nodes."""
        del self.trees[tree.name]

    @property
    def last_id(self) -> int:
        """The highest id that any node has had."""
        return self._last_id

    def reserve(self) -> int:
        """Return an id that no other node will have."""
        self._last_id += 1
        return self._last_id

    def add(
        self,
        tree: Tree,
        kind: Kind,
        parent: Node | None,
        *,
        name: str | None,
        step: int,
        now: float,
        reserved: int | None = None,
    ) -> Node:
        """Add a node, with an id that was reserved or a new one; its name is ``s`` or ``b`` and that by default.

        Raises:
            NameInUseError: The name belongs to a node of the tree.
        """
        if name is not None:
            self.check_free(tree, name)
        named = name is not None
        number = self.reserve() if reserved is None else reserved
        while name is None or name in tree.names:
            name = f"{kind[0]}{number}{self.suffix}" if name is None else f"{name}_"
        node = Node(number, name, tree, kind, parent.id if parent else None, step, now, named=named)
        tree.names[name] = node
        self.nodes[node.id] = node
        self.kinds[kind] += 1
        if parent:
            parent.children[node.id] = None
        return node

    def put_back(self, node: Node) -> None:
        """Add a node that an earlier server had, as it was; `join` follows when all are there."""
        for name in (node.name, *node.tags):
            node.tree.names[name] = node
        self.nodes[node.id] = node
        self.kinds[node.kind] += 1
        self._last_id = max(self._last_id, node.id)

    def join(self) -> None:
        """Make nodes that were put back children of their parents: restored branches have younger ones.

        A parent may be missing, where a server was killed between writing down the one and the other.
        """
        for node in self.nodes.values():
            if node.parent is not None:
                if node.parent not in self.nodes:
                    node.parent = node.tree.root
                self.nodes[node.parent].children[node.id] = None

    def move(self, node: Node, parent: Node) -> None:
        """Make ``parent`` the node whose moment ``node`` starts from now."""
        former = self.nodes.get(node.parent or 0)
        if former:
            del former.children[node.id]
        node.parent = parent.id
        parent.children[node.id] = None

    def remove(self, node: Node) -> None:
        """Remove a node. Its descendants stay, and are listed below its nearest ancestor that exists."""
        del self.nodes[node.id]
        self.kinds[node.kind] -= 1
        for name in (node.name, *node.tags):
            del node.tree.names[name]
        former = self.nodes.get(node.parent or 0)
        if former:
            del former.children[node.id]
            former.children.update(node.children)
        for child in node.children:
            self.nodes[child].parent = node.parent

    def check_free(self, tree: Tree, name: str) -> None:
        """Raise NameInUseError where ``name`` belongs to a node of ``tree``."""
        if name in tree.names:
            raise NameInUseError(f"there is a node called {name!r} already")

    def tag(self, node: Node, name: str) -> None:
        """Give ``node`` a further name.

        Raises:
            NameInUseError: The name belongs to another node.
        """
        if node.tree.names.get(name) is node:
            return
        self.check_free(node.tree, name)
        node.tree.names[name] = node
        node.tags.append(name)

    def untag(self, node: Node, name: str) -> None:
        """Take a further name away.

        Raises:
            KeyError: It is not a tag of the node.
        """
        if name not in node.tags:
            raise KeyError(name)
        node.tags.remove(name)
        del node.tree.names[name]

    def find(self, reference: str | int) -> Node | None:
        """Return the node with that id, name (in the first tree) or ``tree/name``; None without one."""
        if isinstance(reference, int):
            return self.nodes.get(reference)
        tree_name, slash, name = reference.rpartition("/")
        if slash:
            tree = self.trees.get(tree_name)
        else:
            tree = next((tree for tree in self.trees.values() if tree.first), None)
        return tree.names.get(name) if tree else None

    def ancestors(self, node: Node, limit: int | None = None) -> list[Node]:
        """Return the lineage of ``node``, itself last: its nearest ancestors ``limit`` nodes at most."""
        return [node, *itertools.islice(self.above(node), None if limit is None else limit - 1)][::-1]

    def above(self, node: Node) -> Iterator[Node]:
        """Yield the ancestors of a node, the nearest first."""
        parent = self.nodes.get(node.parent or 0)
        while parent is not None:
            yield parent
            parent = self.nodes.get(parent.parent or 0)

    def descendants(self, node: Node) -> Iterator[Node]:
        """Yield every node below ``node``, children before grandchildren."""
        level = [node]
        while level:
            level = [self.nodes[child] for above in level for child in above.children]
            yield from level
