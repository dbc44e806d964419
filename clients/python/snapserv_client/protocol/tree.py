"""The tree: its nodes and their lineage, new ones, and going back to one."""

from __future__ import annotations

import msgspec

from ..plain import Value
from .limits import BranchCount, Message, Name, NonNegative, PageSize
from .readings import Condition
from .values import Action, NodeInfo, NodeResult, Recording, Rng
from .verb import BRANCH_ERRORS, FORK_ERRORS, NODE_ERRORS, Arguments, Verb

__all__ = [
    "BranchArgs",
    "BranchResult",
    "CreateArgs",
    "GotoArgs",
    "GotoResult",
    "LogArgs",
    "LogResult",
    "ResetArgs",
    "RestoreArgs",
    "SnapshotArgs",
    "SnapshotResult",
    "TreeArgs",
    "TreeInfo",
    "TreeResult",
]


class TreeArgs(Arguments):
    """Which page of which tree (all of them by default); ``sizes`` measures private bytes."""

    tree: str | None = None
    offset: NonNegative = 0
    limit: PageSize = 1000
    sizes: bool = False


class TreeInfo(msgspec.Struct):
    """One tree: its simulation and the root snapshot that `reset` goes back to."""

    name: str
    simulation: str
    root: int


class TreeResult(msgspec.Struct):
    """A page of nodes in order of id; ``next`` is the offset of the page after it."""

    trees: list[TreeInfo]
    nodes: list[NodeInfo]
    total: int
    next: int | None


class CreateArgs(Arguments):
    """Which of the simulations that the server was started with, its name here and its parameters."""

    simulation: str | None = None
    name: Name | None = None
    params: dict[str, Value] = {}


class LogArgs(Arguments):
    """How many entries to list; whether to list actions too, and how many to leave out, each repetition counted.

    ``recording`` asks what the actions are of, with the last page of them.
    """

    limit: PageSize = 1000
    actions: bool = False
    start: NonNegative = 0
    recording: bool = False


class LogResult(msgspec.Struct):
    """The lineage of a node, the oldest first and itself last: its nearest ancestors, as many as were asked for.

    Where the first entry has a parent, the log of that entry says what came before it. Where they were asked for,
    ``actions`` are what was done to it since its tree's root, a page at a time: ``next`` is the ``start`` of the
    page after it.
    """

    entries: list[NodeInfo]
    actions: list[Action] | None = None
    next: int | None = None
    recording: Recording | None = None


class SnapshotArgs(Arguments):
    """The new snapshot's name, ``s`` and its id by default; and what there is to say of it, as of a commit."""

    name: Name | None = None
    message: Message = ""


class SnapshotResult(msgspec.Struct):
    """The new snapshot; ``fork_us`` is the time of the clone in the branch that was copied."""

    node: NodeInfo
    fork_us: float


class BranchArgs(Arguments):
    """How many branches, their names, and their random streams."""

    count: BranchCount = 1
    names: list[Name] | None = None
    rng: Rng = "same"


class BranchResult(msgspec.Struct):
    """The new branches; ``snapshot`` is the one taken first when a live branch was branched.

    ``reseeded`` names the random streams that were given other states, where that was asked for.
    """

    nodes: list[NodeInfo]
    snapshot: NodeInfo | None
    reseeded: list[str] = []


class RestoreArgs(Arguments):
    """Which snapshot the branch goes back to, and with which random stream."""

    snapshot: str | int
    rng: Rng = "same"


class ResetArgs(Arguments):
    """Which random stream the fresh branch has."""

    rng: Rng = "same"


class GotoArgs(Arguments):
    """Which step of a node's past to go to: ``step``, or so many ticks ``back``; one of the two is given.

    A branch goes there itself; what it was is kept as an automatic snapshot, unless ``keep`` is false. With ``new``
    a new branch is made there, which has that ``name``, and the node stays as it is. ``since`` is a snapshot to
    begin from where it is on the way and nearer than the node's ancestors are. With ``tell`` the tick that leads
    there is done again in any case, and the reply tells of it. ``until`` is a condition, of which the reply says
    whether it holds right after that tick.
    """

    step: NonNegative | None = None
    back: NonNegative | None = None
    new: bool = False
    name: Name | None = None
    keep: bool = True
    since: str | int | None = None
    tell: bool = False
    until: Condition | None = None
    progress: bool = False


class GotoResult(msgspec.Struct):
    """Where a branch stands now, and how it came there: from the snapshot ``since``, by ``ticks`` done again.

    ``moved`` is false where it stood there, and nothing has changed. ``agreed`` is the step up to which what was
    put out is known to be what it was then; ``parted``, where there is one, the first step at which it is known not
    to be: then the simulation does not do the same thing twice. ``left`` is the snapshot that keeps what the branch
    was. ``outputs`` are those of the tick that led there and ``action`` is the one that it is part of, counted from
    0 with each repetition, where that tick was done again. ``holds`` says whether the condition holds, if there is
    one; null where no tick led there, and it is of outputs.
    """

    node: NodeInfo
    since: str
    ticks: int
    elapsed_us: int
    agreed: int
    moved: bool = True
    parted: int | None = None
    left: NodeInfo | None = None
    outputs: Value = None
    action: int | None = None
    holds: bool | None = None


VERBS = (
    Verb("tree", "server", "list nodes, a page at a time", TreeArgs, TreeResult, ("not_found",), reads=True),
    Verb(
        "create",
        "server",
        "run setup again for another tree",
        CreateArgs,
        NodeResult,
        ("name_taken", "node_died", "not_found", "simulation_error", *FORK_ERRORS),
        once=True,
        reads=False,
    ),
    Verb(
        "log",
        "node",
        "list the node's ancestors, root first, and what was done to it since",
        LogArgs,
        LogResult,
        (*NODE_ERRORS, *FORK_ERRORS),
        reads=True,
    ),
    Verb(
        "snapshot",
        "branch",
        "freeze a copy of this moment",
        SnapshotArgs,
        SnapshotResult,
        (*BRANCH_ERRORS, "name_taken", *FORK_ERRORS),
        once=True,
        reads=False,
    ),
    Verb(
        "branch",
        "node",
        "make live branches of a snapshot (a live branch is snapshotted first)",
        BranchArgs,
        BranchResult,
        (*NODE_ERRORS, "name_taken", "simulation_error", *FORK_ERRORS),
        once=True,
        reads=False,
    ),
    Verb(
        "restore",
        "branch",
        "put the branch back to a snapshot",
        RestoreArgs,
        NodeResult,
        (*BRANCH_ERRORS, "simulation_error", *FORK_ERRORS),
        once=True,
        reads=False,
    ),
    Verb(
        "reset",
        "branch",
        "go back to the root snapshot",
        ResetArgs,
        NodeResult,
        (*BRANCH_ERRORS, *FORK_ERRORS),
        once=True,
        reads=False,
    ),
    Verb(
        "goto",
        "node",
        "go back to a step of a node's past, or make a branch there, by what was done since the nearest snapshot",
        GotoArgs,
        GotoResult,
        (
            *NODE_ERRORS,
            "frozen",
            "interrupted",
            "name_taken",
            "recording_mismatch",
            "simulation_error",
            "timeout",
            *FORK_ERRORS,
        ),
        once=True,
        reads=False,
    ),
)
