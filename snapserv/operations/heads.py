"""What a store says of trees and nodes, made of what the server knows, and why one does not come back."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import msgspec

from ..errors import InternalError, MachineDiffersError, SnapservError
from ..nodes.nodes import Nodes
from ..nodes.plans import Plan
from ..nodes.tree import Node, Tree

_CHANGES: dict[str, Any] = {
    "parent": None,
    "name": "",
    "tags": [],
    "pinned": False,
    "named": False,
    "automatic": False,
}


class Saved(NamedTuple):
    """A node, as the store has it.

    Attributes:
        uid: Its own.
        tree: Its tree's.
        image: The SHA-256 of its image; empty where its process is of none that is there, and only what was done to
            it lasts.
        kept: Whether it stays in the store when the node is dropped: somebody has asked for it.
        saved: When it was written, in seconds since 1970.
        size: How many bytes were written for it.
        folders: What was said of the folders that branch with it, if some do.
        layers: What is in them, in the store.
        embedded: Whether the files that it stands on are in the store as well.
    """

    uid: str
    tree: str
    image: bytes
    kept: bool
    saved: float
    size: int
    folders: dict[str, Any] | None = None
    layers: Sequence[dict[str, Any]] = ()
    embedded: bool = False

    @classmethod
    def of(cls, head: Mapping[str, Any]) -> Saved:
        """Return what the store has of a node, of its head."""
        facts = head.get("facts", {})
        return cls(
            head["uid"],
            head["tree"],
            head["image"],
            bool(facts.get("kept", True)),
            head["saved"],
            head.get("size", 0),
            facts.get("folders"),
            head.get("layers", []),
            bool(facts.get("embedded", False)),
        )


def of_tree(nodes: Nodes, tree: Tree, uid: str, *, root: str) -> dict[str, Any]:
    """Return what is said of a tree; see `snapserv_client.store.format.Tree`."""
    plan = nodes.plan_of(tree)
    return {
        "uid": uid,
        "name": tree.name,
        "simulation": tree.simulation,
        "root": root,
        "params": dict(plan.spec.param_values),
        "fields": fields_of(plan),
        "described": dict(plan.described),
    }


def fields_of(plan: Plan) -> list[dict[str, Any]]:
    """Return where the fields of a tree lie; see `snapserv_client.store.format.FieldPlace`."""
    return [
        {
            "name": info.name,
            "address": place.address,
            "dtype": info.dtype,
            "shape": list(info.shape),
            "dims": list(info.dims),
            "units": info.units,
            "doc": info.doc,
        }
        for info, place in zip(plan.spec.fields, plan.places, strict=True)
    ]


def of_node(node: Node, saved: Saved, *, parent: str | None, session: str) -> dict[str, Any]:
    """Return what is said of a node, but for what lies in the store; see `snapserv_client.store.format.Node`.

    Which branch it was taken of says something only to who goes on from that ``session``, whose ids those are.
    """
    return {
        "uid": saved.uid,
        "tree": saved.tree,
        "parent": parent,
        "name": node.name,
        "step": node.step,
        "created": node.created,
        "tags": list(node.tags),
        "pinned": node.pinned,
        "named": node.named,
        "automatic": node.automatic,
        "faulted": node.faulted,
        "message": node.message,
        "facts": {
            "kept": saved.kept,
            "embedded": saved.embedded,
            "taken_of": node.taken_of,
            "fault": None if node.fault is None else asdict(node.fault),
            "session": session,
            "id": node.id,
            "folders": None if saved.folders is None else dict(saved.folders),
        },
    }


def what_changes(head: Mapping[str, Any]) -> bytes:
    """Return the part of what is said of a node that may be another one later, to be compared."""
    told = [head.get(name, plain) for name, plain in _CHANGES.items()]
    facts = head.get("facts", {})
    return msgspec.msgpack.encode([*told, facts.get("kept", True), facts.get("embedded", False)])


def explain(node: Node, told: Sequence[str]) -> Callable[[int, int], SnapservError]:
    """Return what says why a node was not brought back: an operation of its script has failed."""

    def what(number: int, operation: int) -> SnapservError:
        about = told[operation] if 0 <= operation < len(told) else "the script itself"
        why = os.strerror(number) if number else "the kernel did otherwise than it was asked"
        details: dict[str, Any] = {"differs": {about: why}, "operation": operation, "errno": number}
        if about.startswith("opening "):
            return MachineDiffersError(
                f"{node.path} cannot be brought back: {about}: {why}",
                hint="put the file back as it was, or load --replay, which does its actions again",
                details=details,
            )
        return InternalError(f"{node.path} cannot be brought back: {about}: {why}", details=details)

    return what
