"""What nodes there are, and what is known of each: questions, which change nothing."""

from __future__ import annotations

from snapserv_client.protocol import AutosnapInfo, NodeInfo, SpecResult

from ..cell.scoreboard import Scoreboard
from ..errors import (
    BadRequestError,
    FrozenError,
    NameTakenError,
    NotFoundError,
    SnapservError,
)
from ..outside.bases import Segments
from .plans import Plan
from .process import CellProcess
from .stored import Stored
from .tree import Autosnap, Forest, NameInUseError, Node, State, Tree
from .turns import NodeQueue, Traffic


class NodeLookup:
    """Nodes with their queues, plans and processes, as `snapserv.nodes.nodes.Nodes` keeps them.

    Args:
        scoreboard: Where each branch stands.
    """

    def __init__(self, scoreboard: Scoreboard) -> None:
        self.forest = Forest()
        self.traffic = Traffic()
        self._scoreboard = scoreboard
        self._plans: dict[str, Plan] = {}
        self._cells: dict[int, CellProcess] = {}
        self._queues: dict[int, NodeQueue] = {}
        self._nodes_of_cells: dict[CellProcess, Node] = {}
        self._deaths: dict[int, SnapservError] = {}
        self._faulted: set[int] = set()
        self.stored = Stored()

    def find(self, reference: str | int) -> Node:
        """Return the node that a client named.

        Raises:
            NotFoundError: There is none; the message says where to look.
        """
        node = self.forest.find(reference)
        if node is None:
            raise NotFoundError(f"no node {reference!r}", hint="list the nodes with tree")
        return node

    def branch(self, reference: str | int) -> Node:
        """Return the branch that a client named.

        Raises:
            NotFoundError: There is no such node.
            FrozenError: It is a snapshot.
        """
        node = self.find(reference)
        if node.kind != "branch":
            raise FrozenError(
                f"{node.path} is a snapshot, and snapshots never change", hint="branch it, and change the branch"
            )
        return node

    def tree(self, name: str | None) -> Tree:
        """Return a tree by name; the first one for None.

        Raises:
            NotFoundError: There is no such tree.
        """
        trees = self.forest.trees
        tree = next(iter(trees.values()), None) if name is None else trees.get(name)
        if tree is None or tree.name not in self._plans:
            raise NotFoundError(f"no tree {name!r}", hint=f"trees: {', '.join(self._plans) or 'none yet'}")
        return tree

    def plan(self, node: Node) -> Plan:
        """Return what all nodes of the node's tree have in common."""
        return self._plans[node.tree.name]

    def plan_of(self, tree: Tree) -> Plan:
        """Return what all nodes of a tree have in common."""
        return self._plans[tree.name]

    def spec(self, tree: Tree) -> SpecResult:
        """Return the description of a tree's simulation."""
        return self._plans[tree.name].spec

    def queue(self, node: Node) -> NodeQueue:
        """Return the queue of requests to a node."""
        return self._queues[node.id]

    def cell(self, node: Node) -> CellProcess:
        """Return the process behind a node.

        Raises:
            NotFoundError: The node was dropped meanwhile.
            NodeDiedError: The process ended.
        """
        if node.id in self._deaths:
            raise self._deaths[node.id]
        cell = self._cells.get(node.id)
        if cell is None:
            raise NotFoundError(f"{node.path} was dropped")
        return cell

    def cell_of(self, node: Node) -> CellProcess | None:
        """Return the process behind a node, also one that has ended; None where there is none."""
        return self._cells.get(node.id)

    def node_of(self, cell: CellProcess) -> Node | None:
        """Return the node that a process is behind; None where it is behind none."""
        return self._nodes_of_cells.get(cell)

    def segments_of(self, cell: CellProcess) -> Segments:
        """Return where the arena of a node's process lies; nothing for a process that is behind no node."""
        node = self._nodes_of_cells.get(cell)
        return self._plans[node.tree.name].segments if node is not None else []

    def spare(self) -> list[Node]:
        """Return the snapshots whose processes can be spared, the least recently used first; roots are none.

        Nobody is using them, and they last, or nobody has named, tagged or pinned them.
        """
        found = [
            node
            for node in self._nodes_of_cells.values()
            if node.kind == "snapshot"
            and (self.stored.lasts(node) or not is_protected(node))
            and node.id != node.tree.root
            and not self._queues[node.id].busy
        ]
        return sorted(found, key=lambda node: self._queues[node.id].used)

    def snapshot(self, reference: str | int, what: str) -> Node:
        """Return the snapshot that a client named as ``what``.

        Raises:
            NotFoundError: There is no such node.
            BadRequestError: It is a live branch.
        """
        node = self.find(reference)
        if node.kind != "snapshot":
            raise BadRequestError(
                f"{what}: {node.path} is a live branch", hint="name a snapshot; take one of it first"
            )
        return node

    @property
    def dead(self) -> int:
        """How many nodes have lost their process."""
        return len(self._deaths)

    @property
    def not_idle(self) -> set[int]:
        """The ids of all nodes that are dead, faulted, busy or stored, and perhaps of some that are gone."""
        return {*self._deaths, *self._faulted, *self.traffic.busy, *self.stored.away}

    def state(self, node: Node) -> State:
        """Return what a node is doing."""
        if node.death is not None:
            return "dead"
        if node.id in self.stored.away and not self._queues[node.id].busy:
            return "stored"
        if node.faulted is not None:
            return "faulted"
        return "busy" if self._queues[node.id].busy else "idle"

    def look(self, node: Node) -> int:
        """Return the step at which a node stands now; that of a branch changes behind our back."""
        cell = self._cells.get(node.id)
        if cell is not None and cell.slot is not None:
            node.step = self._scoreboard[cell.slot]
        return node.step

    def info(self, node: Node, *, private_bytes: int | None = None) -> NodeInfo:
        """Return the node as clients see it."""
        cell = self._cells.get(node.id)
        return NodeInfo(
            id=node.id,
            name=node.path,
            tree=node.tree.name,
            kind=node.kind,
            state=self.state(node),
            parent=node.parent,
            step=self.look(node),
            created=node.created,
            tags=list(node.tags),
            pinned=node.pinned,
            pid=cell.pid if cell is not None and node.death is None else 0,
            private_bytes=private_bytes,
            death=node.death,
            faulted=node.faulted,
            message=node.message,
            automatic=node.automatic,
            autosnap=_autosnap_info(node.autosnap),
            durable=node.id in self.stored.durable or node.id in self.stored.recorded,
            recorded=node.id in self.stored.recorded,
            shared=self._plans[node.tree.name].shared if node.tree.name in self._plans else [],
        )

    def check_free(self, tree: Tree, name: str | None) -> None:
        """Raise NameTakenError where ``name`` belongs to a node of ``tree``."""
        if name is None:
            return
        try:
            self.forest.check_free(tree, name)
        except NameInUseError as cause:
            raise NameTakenError(str(cause), hint="choose another name, or drop that node") from cause


def is_protected(node: Node) -> bool:
    """Return whether somebody has named, tagged or pinned a node, so that it is not dropped for want of memory."""
    return bool((node.named and not node.automatic) or node.tags or node.pinned)


def _autosnap_info(rule: Autosnap | None) -> AutosnapInfo | None:
    return None if rule is None else AutosnapInfo(rule.every_steps, rule.every_s, rule.keep, rule.error)
