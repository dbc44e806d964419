"""What stays and what goes: names, pins, automatic snapshots, and the end of a node."""

from __future__ import annotations

import msgspec

from .limits import Name, Rungs, Seconds, Ticks
from .values import NodeResult
from .verb import Arguments, Verb

__all__ = ["AutosnapArgs", "DropArgs", "DropResult", "PinArgs", "TagArgs"]


class TagArgs(Arguments):
    """A further name for the node; ``remove`` takes it away."""

    name: Name
    remove: bool = False


class PinArgs(Arguments):
    """A pinned snapshot is dropped only after it is unpinned."""

    pinned: bool = True


class AutosnapArgs(Arguments):
    """After how many steps or seconds of stepping a snapshot is taken, one of the two, and how many of them stay.

    What is not given remains as it is; at first, `DEFAULT_RUNGS` stay. ``off`` ends it, and what there is stays.
    """

    every_steps: Ticks | None = None
    every_s: Seconds | None = None
    keep: Rungs | None = None
    off: bool = False


class DropArgs(Arguments):
    """With ``recursive`` all descendants too; with ``force`` a step or an expansion that is running is ended."""

    recursive: bool = False
    force: bool = False


class DropResult(msgspec.Struct):
    """The names of the nodes that are gone."""

    dropped: list[str]


VERBS = (
    Verb(
        "tag",
        "node",
        "name the node once more",
        TagArgs,
        NodeResult,
        ("name_taken", "not_found"),
        once=True,
        reads=False,
    ),
    Verb("pin", "node", "protect the node from drop", PinArgs, NodeResult, ("not_found",), once=True, reads=False),
    Verb(
        "autosnap",
        "branch",
        "take snapshots of the branch by themselves, and keep a bounded ladder of them",
        AutosnapArgs,
        NodeResult,
        ("frozen", "not_found"),
        once=True,
        reads=False,
    ),
    Verb(
        "drop",
        "node",
        "end the node, not its descendants",
        DropArgs,
        DropResult,
        ("not_found",),
        once=True,
        reads=False,
    ),
)
