"""What a node is, in the words of the page."""

from __future__ import annotations

from typing import Literal, TypeAlias

from ..protocol import NodeInfo

State: TypeAlias = Literal["live", "running", "frozen", "stored", "faulted", "dead"]

MEANINGS: dict[State, str] = {
    "live": "a branch that can be stepped",
    "running": "a branch that steps now",
    "frozen": "a snapshot: it never changes",
    "stored": "it lies in the store, and gets a process when it is needed",
    "faulted": "the simulation raised, and left it as it is",
    "dead": "its process has ended; restore or reset revives a branch",
}


def state_of(node: NodeInfo) -> State:
    """Return what a node is doing."""
    if node.state == "dead" or node.death:
        return "dead"
    if node.state == "faulted" or node.faulted:
        return "faulted"
    if node.state == "stored":
        return "stored"
    if node.kind == "snapshot":
        return "frozen"
    return "running" if node.state == "busy" else "live"
