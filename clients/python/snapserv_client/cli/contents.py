"""What commands there are: by module, with the sentence that ``--help`` says of each.

Whoever lists commands reads this, and no module of theirs is loaded; a test compares it with their docstrings. The
function of a command is called like it, or, where something else in its module is, with a ``_`` behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

Contents: TypeAlias = Mapping[str, Mapping[str, str]]


class Group(NamedTuple):
    """Commands, in which sections their help lists them, how one begins with them, and those that are groups."""

    contents: Contents
    sections: Mapping[str, Sequence[str]]
    examples: Sequence[str]
    groups: Mapping[str, Group] = {}


COMMANDS: Contents = {
    "snapserv_client.cli.observe": {
        "status": "Say what runs there and how it is doing.",
        "spec": "Describe a simulation: fields, inputs, parameters, methods.",
        "watch": "Print events as they happen; with --json one document a line.",
        "shutdown": "End the server and all of its nodes; where something would be gone that is not saved, it "
        "asks first.",
    },
    "snapserv_client.cli.top": {
        "top": "Show requests, nodes, forks and deaths as they happen; q leaves. With --json one document a line.",
    },
    "snapserv_client.cli.nodes": {
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
    "snapserv_client.cli.details": {
        "show": "Say what a node is: its relatives, what it costs; where it is faulted, why, since when and by "
        "which action.",
    },
    "snapserv_client.cli.safety": {
        "autosnap": "Have snapshots of a branch taken by themselves, dense near the present and sparse further "
        "back.",
        "clear": "Go on with what a simulation left that raised: the branch is no longer faulted.",
    },
    "snapserv_client.cli.history": {
        "log": "Show a node's lineage, from the root to itself, or what was done to it.",
        "replay": "Make a branch, and do again what a file says.",
        "verify": "Do a node's own actions again, and compare the states; exits with 1 where they differ.",
    },
    "snapserv_client.cli.travel": {
        "goto": "Go back to a step of a branch's past, exact to the tick; or make a branch of any node there.",
        "back": "Go back by so many ticks.",
        "bisect": "Find the first step at which something holds that keeps holding then: git bisect for a run.",
        "run": "Run a tick of a branch with each of several inputs, in one request. Ctrl-C stops it between two "
        "ticks.",
    },
    "snapserv_client.cli.expand": {
        "expand": "Try every input from a node: a child each, branched, stepped, read and ended in one round trip.",
    },
    "snapserv_client.cli.data": {
        "read": "Read a field of a node: a summary, and a file if asked.",
        "write": "Write a field of a branch, or a region of it.",
        "diff": "Say how two nodes differ, field by field; exits with 1 unless they are known to be the same.",
    },
    "snapserv_client.cli.curves": {
        "record": "Record outputs and numbers of fields from now on, in a branch and all that is made of it.",
        "records": "Show what was recorded at a node since the root, step by step.",
        "plot": "Draw what was recorded at nodes over each other, by step, a panel for each column.",
    },
    "snapserv_client.cli.pages": {
        "pages": "Say which page of a node is whose: the base image's, another node's as well, or its own.",
    },
    "snapserv_client.cli.durable": {
        "save": "Have a snapshot last: it is in the server's store when this returns. A live branch is "
        "snapshotted first.",
        "load": "Take a snapshot out of the server's store: it can be branched then, like any other.",
        "stored": "List what the server's store holds, also what is not loaded.",
    },
    "snapserv_client.cli.export": {
        "export": "Write a node's fields for analysis: as a Zarr dataset, or its whole tree as an Icechunk "
        "repository.",
    },
    "snapserv_client.cli.web": {
        "web": "Show a server in a browser: its tree, fields, curves and memory, and all that one does with nodes.",
    },
    "snapserv_client.cli.completion": {
        "completion": "Print what has a shell complete commands, options and names of nodes; or install it.",
    },
}

RUN, LOOK, KEEP, SERVERS = "Run a simulation", "Look at it", "Keep moments", "Servers"

SECTIONS: Mapping[str, Sequence[str]] = {
    RUN: (
        "step",
        "run",
        "record",
        "call",
        "write",
        "expand",
        "branch",
        "restore",
        "reset",
        "mark",
        "rewind",
        "goto",
        "back",
        "interrupt",
        "clear",
        "replay",
        "create",
    ),
    LOOK: (
        "tree",
        "log",
        "show",
        "records",
        "plot",
        "read",
        "diff",
        "pages",
        "verify",
        "bisect",
        "spec",
        "watch",
        "top",
        "export",
    ),
    KEEP: ("snapshot", "tag", "pin", "drop", "autosnap", "save", "load", "stored"),
    SERVERS: ("status", "web", "shutdown", "completion"),
}
EXAMPLES = (
    "snapserv step main 200 --input wind='[3, 0]'",
    "snapserv snapshot main before",
    "snapserv branch before north east",
    "snapserv tree",
)
CLUSTER: Contents = {
    "snapserv_client.cli.cluster": {
        "up": "Have a server on each machine of a cluster of Ray's; it stays until `snapserv cluster down`.",
        "status": "Say which hosts a cluster has, and how they are doing.",
        "tree": "Show all nodes of a cluster as a tree, each with its hosts.",
        "down": "End a cluster, when each of its servers has saved what it has.",
    },
}
CLUSTERS = Group(
    CLUSTER,
    {"Run": ("up", "down"), "Look": ("status", "tree")},
    ("snapserv cluster up counter.py:Counter --store /shared/runs", "snapserv cluster tree"),
)
CLIENT = Group(COMMANDS, SECTIONS, ("snapserv-client status", *EXAMPLES))
TAKES_VALUES = frozenset({"call", "write"})
"""Commands whose arguments may be negative numbers, which are no options."""
