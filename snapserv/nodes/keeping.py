"""What is said of nodes, and written down for whoever comes after this server: names, pins and faults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from snapserv_client.protocol import EventKind, NodeInfo

from ..errors import NameTakenError, NotFoundError
from . import records
from .ledger import Ledger
from .lookup import NodeLookup
from .process import CellProcess
from .tree import Fault, NameInUseError, Node

log = structlog.get_logger(__name__)

IMAGE = 2
"""Which part of what the ledger says of one that is saved is its image; see `snapserv.operations.heads.Saved`."""

Publish = Callable[[EventKind, NodeInfo | None, str], None]


class NodeKeeping(NodeLookup):
    """Nodes, and the ledger that says what there is to say of each.

    Args:
        publish: Called with each event.
        ledger: Where all that a killed server's successor must know is written.

    ``on_note`` is called with each node of which something has changed, also with one that is gone.
    """

    def __init__(self, publish: Publish, ledger: Ledger) -> None:
        super().__init__(ledger.scoreboard)
        self.ledger = ledger
        self.on_note: Callable[[Node], None] = lambda node: None
        self._publish = publish
        for number, saved in ledger.entries("saved").items():
            (self.stored.durable if saved[IMAGE] else self.stored.recorded).add(number)

    async def present(self, node: Node) -> CellProcess:
        """Return the process behind a node whose turn the caller holds; one that is stored is brought back first.

        Raises:
            NotFoundError: The node was dropped meanwhile.
            NodeDiedError: The process ended.
            SnapservError: It cannot be brought back.
        """
        if node.id in self.stored.away:
            return await self.stored.bring(node)
        return self.cell(node)

    def tell(self, kind: EventKind, node: Node, text: str) -> None:
        """Publish an event of a node."""
        self._publish(kind, self.info(node), text)

    def rewound(self, branch: Node) -> None:
        """Take note that a branch has gone back to its mark."""
        branch.fault = None  # what is faulted is not marked
        self.note(branch)
        self._publish("restored", self.info(branch), "its mark")

    def fault(self, branch: Node, fault: Fault) -> None:
        """Take note that the simulation raised, and left the branch as it is now."""
        branch.fault = fault
        self.note(branch)
        log.warning("node_faulted", node=branch.path, error=fault.message)
        self._publish("faulted", self.info(branch), fault.message)

    def clear(self, branch: Node) -> None:
        """Have a faulted branch go on with what there is."""
        if branch.fault is not None:
            branch.fault = None
            self.note(branch)
            self._publish("cleared", self.info(branch), "")

    def tag(self, node: Node, name: str, *, remove: bool) -> None:
        """Give a node a further name, or take one away.

        Raises:
            NameTakenError: The name belongs to another node.
            NotFoundError: The tag to take away is none of the node's.
        """
        try:
            if remove:
                self.forest.untag(node, name)
            else:
                self.forest.tag(node, name)
        except NameInUseError as cause:
            raise NameTakenError(str(cause)) from cause
        except KeyError as cause:
            raise NotFoundError(f"{node.path} has no tag {name!r}", hint=f"tags: {node.tags}") from cause
        self.note(node)
        self._publish("tagged", self.info(node), name)

    def pin(self, node: Node, *, pinned: bool) -> None:
        """Protect a node from being dropped, or no longer."""
        node.pinned = pinned
        self.note(node)
        self._publish("pinned", self.info(node), "")

    def note(self, node: Node) -> None:
        """Have the ledger say what there is to say of a node: to be called where any of it has changed."""
        if node.fault is not None and node.id in self.forest.nodes:
            self._faulted.add(node.id)
        else:
            self._faulted.discard(node.id)
        self.ledger.put("node", node.id, lambda: self._record(node))
        self.on_note(node)

    def _record(self, node: Node) -> dict[str, Any] | None:
        cell = self._cells.get(node.id)
        if node.id not in self.forest.nodes:
            return None
        if cell is None and node.death is None and node.id not in self.stored.away:
            return None
        self.look(node)
        return records.of_node(node, cell, self._deaths.get(node.id))
