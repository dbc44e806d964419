"""What commands there are: by module, with the sentence that ``--help`` says of each.

Whoever lists commands reads this, and no module of theirs is loaded; a test compares it with their docstrings. The
function of a command is called like it, or, where something else in its module is, with a ``_`` behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

Contents: TypeAlias = Mapping[str, Mapping[str, str]]


class Group(NamedTuple):
    """Commands, in which sections their help lists them, and how one begins with them."""

    contents: Contents
    sections: Mapping[str, Sequence[str]]
    examples: Sequence[str]


COMMANDS: Contents = {
    "serve": {
        "serve": "Run a simulation's setup, then answer clients until SIGTERM, Ctrl-C or `snapserv shutdown`.",
    },
    "demo": {
        "demo": "Burn real terrain, snapshot the fire, and let it go on under four different winds at once.",
    },
    "observe": {
        "status": "Say what runs there and how it is doing.",
        "spec": "Describe a simulation: fields, inputs, parameters, methods.",
        "watch": "Print events as they happen; with --json one document a line.",
        "shutdown": "End the server and all of its nodes; where something would be gone that is not saved, it asks "
        "first.",
    },
    "servers": {
        "ps": "List this user's servers on this machine, and what those have left that were killed.",
    },
    "top": {
        "top": "Show requests, nodes, forks and deaths as they happen; q leaves. With --json one document a line.",
    },
    "nodes": {
        "tree": "Show all nodes as a tree.",
        "step": "Run ticks of a branch. Ctrl-C stops it between two ticks.",
        "snapshot": "Freeze a copy of a branch.",
        "branch": "Make live branches of a snapshot (a live branch is snapshotted first).",
        "restore": "Put a branch back to a snapshot; a dead branch lives again.",
        "reset": "Put a branch back to the moment after setup.",
        "mark": "Mark this moment of a branch, for rewind.",
        "rewind": "Put a branch back to its mark, in place: quicker than restore where little has changed.",
        "drop": "End nodes; their descendants live on.",
        "tag": "Give a node a further name.",
        "pin": "Protect a node from drop.",
        "interrupt": "Stop the step that runs, after its tick.",
        "create": "Run setup again, for another tree.",
        "call": "Run a method of the simulation.",
    },
    "details": {
        "show": "Say what a node is: its relatives, what it costs; where it is faulted, why, since when and by "
        "which action.",
    },
    "safety": {
        "autosnap": "Have snapshots of a branch taken by themselves, dense near the present and sparse further "
        "back.",
        "clear": "Go on with what a simulation left that raised: the branch is no longer faulted.",
    },
    "history": {
        "log": "Show a node's lineage, from the root to itself, or what was done to it.",
        "replay": "Make a branch, and do again what a file says.",
        "verify": "Do a node's own actions again, and compare the states; exits with 1 where they differ.",
    },
    "expand": {
        "expand": "Try every input from a node: a child each, branched, stepped, read and ended in one round trip.",
    },
    "data": {
        "read": "Read a field of a node: a summary, and a file if asked.",
        "write": "Write a field of a branch, or a region of it.",
        "diff": "Say how two nodes differ, field by field; exits with 1 unless they are known to be the same.",
    },
    "pages": {
        "pages": "Say which page of a node is whose: the base image's, another node's as well, or its own.",
    },
    "durable": {
        "save": "Have a snapshot last: it is in the server's store when this returns. "
        "A live branch is snapshotted first.",
        "load": "Take a snapshot out of the server's store: it can be branched then, like any other.",
        "stored": "List what the server's store holds, also what is not loaded.",
    },
    "store": {
        "store": "Look into a store, read it, keep it in order: no server is needed.",
    },
    "export": {
        "export": "Write a node's fields for analysis: as a Zarr dataset, or its whole tree as an Icechunk "
        "repository.",
    },
    "doctor": {
        "doctor": "Say what this machine can do and how to improve it; or what of a simulation will not branch "
        "well, and why.",
    },
    "lab": {
        "lab": "Measure every way to snapshot memory that can be had here, side by side; fails where none could "
        "be.",
    },
    "completion": {
        "completion": "Print what has a shell complete commands, options and names of nodes; or install it.",
    },
    "keygen": {
        "keygen": "Make the keys of a server, or of a client, whom the server then lets in, also while it runs.",
    },
}

STORE: Contents = {
    "store": {
        "ls": "Show all nodes as trees.",
        "show": "Say what a node is, what it was taken of, and whether it can be brought back on this machine.",
        "read": "Read a field of a node: a summary, and a file if asked.",
        "verify": "Read everything, and check it; exits with 4 where something is damaged or missing.",
        "gc": "Remove what no node needs; servers may go on saving meanwhile.",
        "du": "Say how much each tree and node takes: for itself alone, and together with others.",
        "rm": "Remove nodes; their descendants stay. What only they needed goes with `store gc`.",
        "push": "Copy nodes to another store, with all that they need: only what is not there, and their roots.",
        "pull": "Copy nodes out of another store, with all that they need: only what is not here, and their roots.",
    },
}

SNAPSERV = Group(
    COMMANDS,
    {
        "Run a simulation": (
            *("step", "call", "write", "expand", "branch", "restore", "reset", "mark", "rewind"),
            *("interrupt", "clear", "replay", "create"),
        ),
        "Look at it": ("tree", "log", "show", "read", "diff", "pages", "verify", "spec", "watch", "top", "export"),
        "Keep moments": ("snapshot", "tag", "pin", "drop", "autosnap", "save", "load", "stored", "store"),
        "Servers": ("serve", "ps", "status", "shutdown", "demo", "doctor", "lab", "keygen", "completion"),
    },
    (
        "snapserv serve snapserv.examples.wildfire:Wildfire --detach",
        "snapserv step main 200 --input wind='[3, 0]'",
        "snapserv snapshot main before",
        "snapserv branch before north east",
        "snapserv tree",
    ),
)
GROUPS: Mapping[str, Group] = {
    "store": Group(
        STORE,
        {
            "Look": ("ls", "show", "read", "verify", "du"),
            "Change": ("rm", "gc", "push", "pull"),
        },
        ("snapserv store ls", "snapserv store read before state"),
    )
}
"""Commands that are groups of commands."""
TAKES_VALUES = frozenset({"call", "write"})
"""Commands whose arguments may be negative numbers, which are no options."""
