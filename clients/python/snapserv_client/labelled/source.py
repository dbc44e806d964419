"""What is labelled, wherever it comes from: a node with its fields, and a tree of such nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np

from ..errors import BadRequestError

STEP = "step"
"""The coordinate that says where a node stands."""
Array: TypeAlias = np.ndarray[Any, Any]
Block: TypeAlias = tuple[slice, ...]
"""A region of a field, with the start and the stop of each axis, whose elements lie next to each other."""

Changes: TypeAlias = Mapping[str, Block | None]
"""By the name of a field, a region outside of which nothing has changed; None where nothing has at all."""


@dataclass(frozen=True)
class FieldFacts:
    """A field, as its simulation declared it.

    Attributes:
        name: What it is called.
        dtype: Of its elements.
        shape: Sizes of its axes.
        dims: Their names, the empty text for one that has none; empty where none has one.
        units: Of its values.
        doc: What they mean.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    dims: tuple[str, ...] = ()
    units: str = ""
    doc: str = ""


@dataclass(frozen=True)
class NodeFacts:
    """What is known of a node besides its fields.

    Attributes:
        name: What it is called.
        tree: What its tree is called.
        simulation: What the tree runs.
        version: Of the simulation's package, where it is known.
        params: The simulation's parameters.
        step: How many steps it is from its root.
        created: When it was taken, in seconds since 1970.
        tags: Further names.
        faulted: What its simulation raised, if it did.
        outputs: What its last step returned, where that is known.
    """

    name: str
    tree: str
    simulation: str
    version: str
    params: Mapping[str, Any]
    step: int
    created: float
    tags: tuple[str, ...] = ()
    faulted: str | None = None
    outputs: Any = None


class NodeSource(Protocol):
    """A node that does not change while it is read."""

    @property
    def facts(self) -> NodeFacts:
        """What is known of it."""

    @property
    def fields(self) -> Sequence[FieldFacts]:
        """Its fields."""

    def lineage(self) -> list[tuple[str, int]]:
        """Return names and steps of its ancestors that are still there and of itself, the root first."""

    def read(self, field: FieldFacts, block: Block) -> Array:
        """Return a block of a field, with the field's dtype and the block's shape."""


@dataclass(frozen=True)
class TreeNode:
    """A node's place in its tree.

    Attributes:
        uid: What tells it from all other nodes of all trees; never used again.
        parent: The uid of its parent; None for the root.
        names: Its name, and then its tags.
        step: How many steps it is from the root.
        created: When it was taken, in seconds since 1970.
    """

    uid: str
    parent: str | None
    names: tuple[str, ...]
    step: int
    created: float


@dataclass(frozen=True)
class TreePlan:
    """What there is of a tree at one moment.

    Attributes:
        uid: What tells it from all other trees.
        name: What it is called.
        nodes: Its snapshots that can be read, each behind its parent.
        branches: Names of its live branches, and the uid of the snapshot that each goes on from.
        skipped: Names of snapshots that cannot be read any more.
    """

    uid: str
    name: str
    nodes: list[TreeNode]
    branches: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


class TreeSource(Protocol):
    """A tree of snapshots."""

    def plan(self) -> TreePlan:
        """Return what there is of it now."""

    def node(self, uid: str) -> AbstractContextManager[NodeSource]:
        """Return one of its nodes, to be read within a ``with`` block."""

    def changes(self, node: TreeNode) -> Changes:
        """Return where fields differ from the parent's, bit for bit, as far as that is cheaply known."""


def run_of(shape: Sequence[int], block: Block) -> tuple[int, int]:
    """Return where the elements of a block begin in an array in C order, and how many there are.

    Raises:
        BadRequestError: They do not lie next to each other.
    """
    first = last = 0
    count = 1
    for size, part in zip(shape, block, strict=True):
        first = first * size + part.start
        last = last * size + part.stop - 1
        count *= part.stop - part.start
    if last - first + 1 != count:
        raise BadRequestError(f"the elements of {block} of an array of {list(shape)} are apart")
    return first, count


def in_order(nodes: Sequence[TreeNode]) -> list[TreeNode]:
    """Return nodes such that each is behind its parent; the parent of what is not there is no parent."""
    there = {node.uid for node in nodes}
    children: dict[str | None, list[TreeNode]] = {}
    for node in sorted(nodes, key=lambda each: each.created):
        children.setdefault(node.parent if node.parent in there else None, []).append(node)
    ordered: list[TreeNode] = []
    waiting = children.pop(None, [])[::-1]
    while waiting:
        node = waiting.pop()
        ordered.append(node)
        waiting += children.pop(node.uid, [])[::-1]
    return ordered
