"""What the ledger says of trees, nodes and backups: plain values, and what is made of them again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..errors import SnapservError
from .ledger import Ledger
from .tree import Autosnap, Fault, Node, Tree

if TYPE_CHECKING:
    from .plans import Plan
    from .process import CellProcess

KEPT = (
    *("name", "kind", "parent", "step", "created", "tags", "pinned"),
    *("named", "death", "message", "automatic", "rungs", "taken_of", "since"),
)
"""What is said of a node as it is; the rest is its tree's, or its process's."""


def of_node(node: Node, cell: CellProcess | None, error: SnapservError | None) -> dict[str, Any]:
    """Return what is said of a node; ``cell`` is its process, and ``error`` what is told of a dead one."""
    return {
        **{name: getattr(node, name) for name in KEPT},
        "autosnap": None if node.autosnap is None else asdict(node.autosnap),
        "fault": None if node.fault is None else asdict(node.fault),
        "tree": node.tree.name,
        "pid": cell.pid if cell is not None else 0,
        "slot": cell.slot if cell is not None else None,
        **_folders(cell),
        "error": error.to_wire() if error is not None else None,
    }


def node_of(number: int, told: Mapping[str, Any], tree: Tree) -> Node:
    """Return the node of which that was said."""
    rule = None if told["autosnap"] is None else Autosnap(**told["autosnap"])
    fault = None if told["fault"] is None else Fault(**told["fault"])
    return Node(id=number, tree=tree, autosnap=rule, fault=fault, **{name: told[name] for name in KEPT})


def fault_of(head: Mapping[str, Any]) -> Fault | None:
    """Return the fault of a node that lies in a store, of its head; see `snapserv_client.store.format.Node`."""
    told = head.get("facts", {}).get("fault")
    if told is not None:
        return Fault(**told)
    return None if head.get("faulted") is None else Fault(head["faulted"], head["step"], head["created"])


def of_tree(tree: Tree, plan: Plan | None) -> dict[str, Any] | None:
    """Return what is said of a tree; nothing of one that is gone."""
    if plan is None:
        return None
    return {
        "simulation": tree.simulation,
        "first": tree.first,
        "root": tree.root,
        "described": plan.described,
    }


def keep_backup(ledger: Ledger, branch: Node, backup: CellProcess, step: int) -> None:
    """Have the next server know of a frozen copy of a branch, to which it goes back where its work fails."""
    with ledger.at_once():
        ledger.put("backup", branch.id, lambda: {"pid": backup.pid, "step": step, **_folders(backup)})


def forget_backup(ledger: Ledger, branch: Node) -> None:
    """Have the next server know of no copy of a branch any more."""
    with ledger.at_once():
        ledger.remove("backup", branch.id)


def _folders(cell: CellProcess | None) -> dict[str, Any]:
    """Return which layers a cell stands on, and where they are, if they are not its tree's."""
    stacks = cell.stacks if cell is not None else None
    if stacks is None:
        return {"standing": None}
    own = stacks.described if "bottom" in stacks.described else None  # also where they came out of a store
    return {"standing": stacks.standing(cell), "folders": own}
