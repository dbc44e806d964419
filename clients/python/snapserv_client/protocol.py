"""The protocol: every verb with its arguments, its result and its errors, declared once.

``docs/protocol.md`` is the reference for people; a test keeps it in step with this module, which the server
imports too. Frames and arrays are packed by `snapserv_client.wire`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec

PROTOCOL_VERSION = 1

MAX_NAME_LENGTH = 64
MAX_PATH_LENGTH = 2 * MAX_NAME_LENGTH + 1
MAX_TICKS = 1 << 40
MAX_BRANCHES = 4096
MAX_SECONDS = 1e9
MAX_RUNGS = 1024
DEFAULT_RUNGS = 16
MAX_PAGE = 10_000
MAX_IN_FLIGHT = 1024
MAX_STRIP = 1 << 24
PAGE_CLASSES = ("absent", "base", "shared", "elsewhere", "unproven", "private")
"""What a page of a node can be, by the byte that stands for it in a strip; see `PageCounts`."""

NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"
"""What a name of a node or tree may look like. A node of a tree other than the first is ``tree/name``."""


# ---------------------------------------------------------------------------------------------- header


class RequestHeader(msgspec.Struct):
    """What every request says: ``id`` grows with each new request of a client; a retry repeats it."""

    id: Annotated[int, msgspec.Meta(ge=0)]
    verb: Annotated[str, msgspec.Meta(max_length=MAX_NAME_LENGTH)]
    node: Annotated[str, msgspec.Meta(max_length=MAX_PATH_LENGTH)] | int | None = None
    args: dict[str, Any] = {}


class Progress(msgspec.Struct):
    """How far a long request has come; ``total`` counts ticks."""

    done: int
    total: int


# ------------------------------------------------------------------------------------ values in results

NonNegative = Annotated[int, msgspec.Meta(ge=0)]
DoneTicks = Annotated[int, msgspec.Meta(ge=0, le=MAX_TICKS)]
Repeats = Annotated[int, msgspec.Meta(ge=1, le=MAX_TICKS)]

Rng: TypeAlias = Literal["same", "split"] | NonNegative
Slice: TypeAlias = tuple[int | None, int | None, int | None]
Region: TypeAlias = list[int | Slice]
"""A region of a field: for each leading axis an index, or ``[start, stop, step]`` with nulls as in Python."""


class AutosnapInfo(msgspec.Struct):
    """When snapshots of a branch are taken by themselves, and how many stay.

    ``error`` is why the last one was not taken.
    """

    every_steps: int | None
    every_s: float | None
    keep: int
    error: str = ""


EventKind: TypeAlias = Literal[
    "created",
    "restored",
    "dropped",
    "evicted",
    "died",
    "faulted",
    "cleared",
    "tagged",
    "pinned",
    "tree",
    "adopted",
    "shutdown",
]
"""What can happen."""


class NodeInfo(msgspec.Struct):
    """One node of a tree. ``private_bytes`` is measured only where it is asked for.

    ``faulted`` is what the simulation raised, where it left the node as it is; ``automatic`` says that nobody asked
    for this snapshot, so that it may go again by itself, unless it is pinned or tagged.
    """

    id: int
    name: str
    tree: str
    kind: Literal["snapshot", "branch"]
    state: Literal["idle", "busy", "dead", "faulted"]
    parent: int | None
    step: int
    created: float
    tags: list[str] = []
    pinned: bool = False
    pid: int = 0
    private_bytes: int | None = None
    death: str | None = None
    faulted: str | None = None
    automatic: bool = False
    autosnap: AutosnapInfo | None = None


class FieldInfo(msgspec.Struct):
    """A field as the simulation declared it, with its shape resolved."""

    name: str
    dtype: Any
    shape: list[int]
    units: str = ""
    doc: str = ""


class MethodInfo(msgspec.Struct):
    """A method that the author exported for `call`."""

    name: str
    signature: str
    doc: str = ""


class ArenaInfo(msgspec.Struct):
    """What simulation memory stands on. ``backing`` is one of huge_tmpfs, memfd, anonymous_thp, anonymous."""

    backing: str
    reason: str
    size_bytes: int
    segment_bytes: int
    segments: int


class HelloResult(msgspec.Struct):
    """Who answers, and where its events are published; ``atomic`` is what steps are that do not say."""

    server: str
    protocol: int
    name: str
    pid: int
    trees: list[str]
    events: str
    atomic: bool = False


class SpecResult(msgspec.Struct):
    """What a tree's simulation is: its fields, and JSON schemas of its inputs and parameters.

    ``huge_heap_bytes`` is how much of the memory outside of the arena was turned into huge pages, which fork fast.
    """

    tree: str
    simulation: str
    doc: str
    fields: list[FieldInfo]
    inputs: dict[str, Any]
    params: dict[str, Any]
    param_values: dict[str, Any]
    methods: list[MethodInfo]
    arena: ArenaInfo
    fork: str
    huge_heap_bytes: int
    setup_s: float


class MemoryStats(msgspec.Struct):
    """The budget of memory: what is charged of ``limit_bytes``, and for what; see docs/memory.md.

    ``base_bytes`` are base images, each counted once; the others are what processes of that kind hold besides, and
    ``other_bytes`` is that of processes that are no nodes, such as children of an expansion. ``evictions`` counts
    snapshots that were dropped over the budget, and ``stopped`` processes that were ended as they grew.
    """

    limit_bytes: int
    charged_bytes: int
    base_bytes: int
    master_bytes: int
    snapshot_bytes: int
    branch_bytes: int
    other_bytes: int
    evictions: int
    stopped: int


class VerbStats(msgspec.Struct):
    """The requests of one verb: how many were answered, with an error or not, and how long that took.

    ``buckets`` count them by how long they took, as `StatsResult` says; zeros at the end are left out.
    """

    verb: str
    count: int
    errors: int
    seconds: float
    buckets: list[int]


class StatsResult(msgspec.Struct):
    """Counters since the server started; times are microseconds.

    ``states`` count nodes by what they are doing, ``deaths`` those whose process ended unasked, by signal, ``none``
    where it exited. ``longest_lane`` is how many requests there are at the node that has most of them. ``active``
    are the few nodes that requests came to last, the latest first. ``bounds_s`` are the upper ends, in seconds, of
    the buckets of ``verbs``; what took longer is in one more.
    """

    uptime_s: float
    nodes: int
    snapshots: int
    branches: int
    dead: int
    clients: int
    requests: int
    errors: int
    steps: int
    forks: int
    fork_us_p50: float
    fork_us_p99: float
    in_flight: int
    descriptors: int
    threads: int
    resident_bytes: int
    memory: MemoryStats
    longest_lane: int
    states: dict[str, int]
    deaths: dict[str, int]
    verbs: list[VerbStats]
    bounds_s: list[float]
    active: list[NodeInfo]


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


class _Action(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, tag_field="kind"):
    step: NonNegative = 0
    repeat: Repeats = 1


class StepAction(_Action, tag="step"):
    """So many completed ticks. Where ``raised`` says so, one more tick began, and raised.

    As of every action, ``step`` says where the node stood before it, and ``repeat`` how often in a row it was done.
    """

    ticks: DoneTicks
    inputs: dict[str, Any] = {}
    raised: bool = False


class WriteAction(_Action, tag="write"):
    """A field, or a region of it, was changed."""

    field: str
    value: Any
    region: Region | None = None


class CallAction(_Action, tag="call"):
    """An exported method ran; ``raised`` says whether it raised."""

    method: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    raised: bool = False


class BeginAction(_Action, tag="begin"):
    """A branch began: with a random stream of its own where there is a seed, and by the author's ``on_branch``."""

    seed: int | None = None


Action: TypeAlias = StepAction | WriteAction | CallAction | BeginAction
"""Something that was done to a node, and that can be done again."""


class LogResult(msgspec.Struct):
    """The lineage of a node, the oldest first and itself last: its nearest ancestors, as many as were asked for.

    Where the first entry has a parent, the log of that entry says what came before it. Where they were asked for,
    ``actions`` are what was done to it since its tree's root, a page at a time: ``next`` is the ``start`` of the
    page after it.
    """

    entries: list[NodeInfo]
    actions: list[Action] | None = None
    next: int | None = None


class FieldVerdict(msgspec.Struct):
    """The hash of a field in the node and in its replay, 32 hexadecimal digits each."""

    name: str
    same: bool
    hash: str
    replayed: str


class VerifyResult(msgspec.Struct):
    """Whether a node's own actions, done again, lead to the same state.

    ``ok`` is about the fields; of a simulation without fields, about what its actions put out. ``outputs`` says of
    any simulation whether all of that was the same. Where it is not ok: nothing differs up to the step ``after``,
    in snapshots on the way and in outputs, and something does at ``step``; ``action`` is the one in which that
    happens, counted from where the replay began; ``error`` is what stopped the replay early. ``deterministic``
    says whether two replays agree, and if they do not, ``parted`` is the first step at which they differ, where
    that shows again.
    """

    ok: bool
    since: str
    fields: list[FieldVerdict]
    outputs: bool
    actions: int
    ticks: int
    elapsed_us: int
    after: int | None = None
    step: int | None = None
    action: int | None = None
    error: str = ""
    deterministic: bool | None = None
    parted: int | None = None


class StepResult(msgspec.Struct):
    """Where the branch stands now, and what the last tick put out."""

    step: int
    ticks: int
    outputs: Any
    elapsed_us: int


class MarkResult(msgspec.Struct):
    """The step that `rewind` will go back to; ``kept_bytes`` were private already, and were copied."""

    step: int
    kept_bytes: int
    elapsed_us: int


class RewindResult(msgspec.Struct):
    """Where the branch stands now; ``pages`` of 4 KiB were put back, in so many microseconds inside the cell."""

    step: int
    pages: int
    elapsed_us: int


class SnapshotResult(msgspec.Struct):
    """The new snapshot; ``fork_us`` is the time of the clone in the branch that was copied."""

    node: NodeInfo
    fork_us: float


class BranchResult(msgspec.Struct):
    """The new branches; ``snapshot`` is the one taken first when a live branch was branched."""

    nodes: list[NodeInfo]
    snapshot: NodeInfo | None


class Outcome(msgspec.Struct):
    """What came of one child: where it stands, the last tick's outputs, sums over ticks, fields; or its error."""

    index: int
    ok: bool
    step: int = 0
    ticks: int = 0
    outputs: Any = None
    totals: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    finished: bool = False
    elapsed_us: int = 0
    error: dict[str, Any] | None = None


class Kept(msgspec.Struct):
    """A child that was kept, by its index, and the node that it is now."""

    index: int
    node: NodeInfo


class ExpandResult(msgspec.Struct):
    """An outcome for each input in order, but for those that were sent before; and the children that were kept.

    ``snapshot`` is the one taken first when a live branch was expanded, where it is kept for its children's sake.
    """

    outcomes: list[Outcome]
    kept: list[Kept]
    snapshot: NodeInfo | None = None


class FieldDiff(msgspec.Struct):
    """How one field differs: elements changed, their bounding box and the first few of their indices."""

    name: str
    changed: int
    total: int
    box: list[tuple[int, int]]
    first: list[list[int]]


class DiffResult(msgspec.Struct):
    """How two nodes differ, field by field; only ``compared_bytes`` of each had to be read."""

    fields: list[FieldDiff]
    compared_bytes: int


class PageCounts(msgspec.Struct):
    """How many pages of a node are what.

    ``base``: the base image's page, or not looked at yet, so that reading it gives the base image's.
    ``shared``: the very page that the other node has, and not the base image's. ``private``: this process alone has
    it. ``elsewhere``: not the base image's nor the other node's, but further processes have it, such as a snapshot
    in between. ``absent``: no page yet, and no base image. ``unproven``: not the base image's; whose else it is
    could not be told.
    """

    absent: int = 0
    base: int = 0
    shared: int = 0
    elsewhere: int = 0
    unproven: int = 0
    private: int = 0


class FieldPages(msgspec.Struct):
    """The pages of one field: bytes ``first`` to ``stop`` of the strips.

    ``same`` pages are one physical page in both nodes, and ``different`` ones are surely not; what is neither is
    absent or could not be proven.
    """

    name: str
    pages: int
    first: int
    stop: int
    counts: PageCounts
    other_counts: PageCounts | None = None
    same: int | None = None
    different: int | None = None


class PagesResult(msgspec.Struct):
    """Which page is whose, field by field; the counts at this level are sums.

    ``strip`` has a byte for every ``pages_each`` pages of a field in order: the class of a page by its place in
    ``classes``, the highest of a bucket's. ``other_strip`` says the same of the other node. ``proof`` says how
    pages were told apart: physical page numbers, or only the kinds of pages that the kernel tells anybody.
    """

    classes: list[str]
    fields: list[FieldPages]
    counts: PageCounts
    strip: Any
    page_bytes: int
    pages_each: int
    proof: Literal["page numbers", "page kinds"]
    base_image: bool
    other_counts: PageCounts | None = None
    other_strip: Any = None
    same: int | None = None
    different: int | None = None


class ReadResult(msgspec.Struct):
    """A field or a region of it."""

    value: Any
    step: int


class CallResult(msgspec.Struct):
    """What the method returned."""

    value: Any


class NodeResult(msgspec.Struct):
    """The node as it is now."""

    node: NodeInfo


class DropResult(msgspec.Struct):
    """The names of the nodes that are gone."""

    dropped: list[str]


class InterruptResult(msgspec.Struct):
    """Whether there was a step to interrupt."""

    interrupted: bool


class WatchResult(msgspec.Struct):
    """Where to SUBscribe; ``sequence`` is the number of the last event published."""

    events: str
    sequence: int


class Event(msgspec.Struct):
    """Something that happened: frames on the events socket are ``[kind, msgpack of this]``."""

    sequence: int
    kind: EventKind
    time: float
    node: NodeInfo | None = None
    text: str = ""


class Empty(msgspec.Struct, forbid_unknown_fields=True):
    """No arguments, or nothing to say."""


# ------------------------------------------------------------------------------------- arguments of verbs


Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_LENGTH, pattern=NAME_PATTERN)]
PageSize = Annotated[int, msgspec.Meta(ge=1, le=MAX_PAGE)]
Ticks = Annotated[int, msgspec.Meta(ge=1, le=MAX_TICKS)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=MAX_SECONDS)]
Rungs = Annotated[int, msgspec.Meta(ge=1, le=MAX_RUNGS)]
BranchCount = Annotated[int, msgspec.Meta(ge=1, le=MAX_BRANCHES)]
Inputs = Annotated[list[dict[str, Any] | list[dict[str, Any]]], msgspec.Meta(min_length=1, max_length=MAX_BRANCHES)]


class Arguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Base of every verb's arguments: a name that is not declared is refused."""


class HelloArgs(Arguments):
    """Who asks: a name for the log, and the newest protocol version it speaks."""

    client: str = ""
    protocol: int = PROTOCOL_VERSION


class SpecArgs(Arguments):
    """Which tree; the first one by default."""

    tree: str | None = None


class TreeArgs(Arguments):
    """Which page of which tree (all of them by default); ``sizes`` measures private bytes."""

    tree: str | None = None
    offset: NonNegative = 0
    limit: PageSize = 1000
    sizes: bool = False


class CreateArgs(Arguments):
    """Which of the simulations that the server was started with, its name here and its parameters."""

    simulation: str | None = None
    name: Name | None = None
    params: dict[str, Any] = {}


class LogArgs(Arguments):
    """How many entries to list; whether to list actions too, and how many to leave out, each repetition counted."""

    limit: PageSize = 1000
    actions: bool = False
    start: NonNegative = 0


class ReplayArgs(Arguments):
    """What to do, as `log` lists it, the snapshot to start from (the first tree's root) and the branch's name."""

    actions: list[Action]
    start: str | int | None = None
    name: Name | None = None


class VerifyArgs(Arguments):
    """The ancestor to replay from, a snapshot; the root of the tree by default."""

    since: str | int | None = None


class StepArgs(Arguments):
    """How many ticks with which inputs; ``progress`` asks for progress messages.

    With ``atomic`` all of it happens or nothing does: after any failure the branch goes on from the moment before,
    and ``details["rolled_back_to"]`` of the error is its step. The server's own default holds for null. An atomic
    step that runs longer than ``timeout_s`` is ended, and is such a failure; others have no such limit.
    """

    ticks: Ticks = 1
    inputs: dict[str, Any] = {}
    progress: bool = False
    atomic: bool | None = None
    timeout_s: Seconds | None = None


class MarkArgs(Arguments):
    """Whether to make the mark, in the place of the last one, or to give it up."""

    remove: bool = False


class ResetArgs(Arguments):
    """Which random stream the fresh branch has."""

    rng: Rng = "same"


class ReadArgs(Arguments):
    """Which field, and which region of it (all of it by default)."""

    field: str
    region: Region | None = None


class WriteArgs(Arguments):
    """What to write where; the value's shape is the region's, or a scalar that fills it."""

    field: str
    value: Any
    region: Region | None = None


class CallArgs(Arguments):
    """Which exported method, with which arguments; ``atomic`` as for a step, but never by default."""

    method: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    atomic: bool = False


class SnapshotArgs(Arguments):
    """The new snapshot's name; ``s`` and its id by default."""

    name: Name | None = None


class InterruptArgs(Arguments):
    """Which of this client's own requests to stop, even while it still waits for its turn: a step or an expansion.

    By default the step that runs at the branch.

    With ``force`` the branch's process is killed rather than asked; `restore` or `reset` revives it.
    """

    request: int | None = None
    force: bool = False


class BranchArgs(Arguments):
    """How many branches, their names, and their random streams."""

    count: BranchCount = 1
    names: list[Name] | None = None
    rng: Rng = "same"


class ExpandArgs(Arguments):
    """A child for each of ``inputs``: a map, or an array of maps that are played in order.

    Each map is held for ``ticks`` ticks; then ``policy``, an exported method that returns inputs, is asked before
    each of ``policy_ticks`` more. ``read`` names fields, outputs and exported methods that are called at the end,
    and all outputs are returned if it is empty; ``sum`` names outputs to add up over all ticks. ``keep`` says which
    children become nodes: ``best`` of them by the output or sum ``by``, the ``largest`` or the smallest. With
    ``stream`` each outcome is sent as soon as it is there.
    """

    inputs: Inputs
    ticks: Ticks = 1
    policy: str | None = None
    policy_ticks: NonNegative = 0
    read: list[str] = []
    sum: list[str] = []
    parallel: BranchCount | None = None
    rng: Rng = "same"
    keep: Literal["none", "all", "best"] = "none"
    best: BranchCount = 1
    by: str = ""
    largest: bool = True
    keep_as: Literal["branch", "snapshot"] = "branch"
    timeout_s: Seconds | None = None
    stream: bool = False


class AutosnapArgs(Arguments):
    """After how many steps or seconds of stepping a snapshot is taken, one of the two, and how many of them stay.

    What is not given remains as it is; at first, `DEFAULT_RUNGS` stay. ``off`` ends it, and what there is stays.
    """

    every_steps: Ticks | None = None
    every_s: Seconds | None = None
    keep: Rungs | None = None
    off: bool = False


class RestoreArgs(Arguments):
    """Which snapshot the branch goes back to, and with which random stream."""

    snapshot: str | int
    rng: Rng = "same"


class DiffArgs(Arguments):
    """The node to compare with, and which fields (all by default)."""

    other: str | int
    fields: list[str] | None = None


class PagesArgs(Arguments):
    """Another node of the same tree to compare with, and which fields (all by default)."""

    other: str | int | None = None
    fields: list[str] | None = None


class TagArgs(Arguments):
    """A further name for the node; ``remove`` takes it away."""

    name: Name
    remove: bool = False


class PinArgs(Arguments):
    """A pinned snapshot is dropped only after it is unpinned."""

    pinned: bool = True


class DropArgs(Arguments):
    """With ``recursive`` all descendants too; with ``force`` a step or an expansion that is running is ended."""

    recursive: bool = False
    force: bool = False


# --------------------------------------------------------------------------------------------- the verbs


class _Access(msgspec.Struct, frozen=True, kw_only=True):
    reads: bool


class Verb(_Access, frozen=True):
    """One verb: what it works on, its arguments and result, and the errors of its own.

    ``on`` says what the request's ``node`` must name. ``reads`` says whether the verb leaves every node as it is:
    then clients that may only read may ask for it. Every verb has to say. ``once`` marks a verb that changes
    something: the reply to (client, id) is remembered, so that a retry gets the first reply again and nothing
    happens twice.
    Every verb can also be answered with one of `COMMON_ERRORS`.
    """

    name: str
    on: Literal["server", "branch", "node"]
    does: str
    args: type[Arguments | Empty]
    result: type[msgspec.Struct]
    errors: tuple[str, ...] = ()
    once: bool = False


COMMON_ERRORS = ("bad_request", "busy", "internal", "too_large", "unauthorized", "version_mismatch")
_NODE = ("not_found", "node_died")
_BRANCH = (*_NODE, "frozen")
_FORK = ("over_budget", "threads_running", "unsupported")

VERBS: dict[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb("hello", "server", "negotiate the version; say who answers", HelloArgs, HelloResult, reads=True),
        Verb("ping", "server", "answer at once", Empty, Empty, reads=True),
        Verb("spec", "server", "describe a tree's simulation", SpecArgs, SpecResult, ("not_found",), reads=True),
        Verb("stats", "server", "count what happened since the start", Empty, StatsResult, reads=True),
        Verb("tree", "server", "list nodes, a page at a time", TreeArgs, TreeResult, ("not_found",), reads=True),
        Verb("watch", "server", "say where events are published", Empty, WatchResult, reads=True),
        Verb("shutdown", "server", "end every cell and the server", Empty, Empty, once=True, reads=False),
        Verb(
            "create",
            "server",
            "run setup again for another tree",
            CreateArgs,
            NodeResult,
            ("name_taken", "node_died", "not_found", "simulation_error", *_FORK),
            once=True,
            reads=False,
        ),
        Verb(
            "log",
            "node",
            "list the node's ancestors, root first, and what was done to it since",
            LogArgs,
            LogResult,
            (*_NODE, *_FORK),
            reads=True,
        ),
        Verb(
            "replay",
            "server",
            "make a branch and do recorded actions again",
            ReplayArgs,
            NodeResult,
            (*_NODE, "faulted", "interrupted", "name_taken", "simulation_error", *_FORK),
            once=True,
            reads=False,
        ),
        Verb(
            "verify",
            "node",
            "do the node's own actions again and compare states",
            VerifyArgs,
            VerifyResult,
            (*_NODE, "simulation_error", *_FORK),
            reads=True,
        ),
        Verb(
            "step",
            "branch",
            "run ticks, in place",
            StepArgs,
            StepResult,
            (*_BRANCH, *_FORK, "faulted", "interrupted", "simulation_error", "timeout"),
            once=True,
            reads=False,
        ),
        Verb(
            "reset",
            "branch",
            "go back to the root snapshot",
            ResetArgs,
            NodeResult,
            (*_BRANCH, *_FORK),
            once=True,
            reads=False,
        ),
        Verb(
            "mark",
            "branch",
            "mark this moment for rewind",
            MarkArgs,
            MarkResult,
            (*_BRANCH, "faulted", "over_budget"),
            once=True,
            reads=False,
        ),
        Verb(
            "rewind",
            "branch",
            "go back to the mark, in place",
            Empty,
            RewindResult,
            _BRANCH,
            once=True,
            reads=False,
        ),
        Verb(
            "read",
            "node",
            "copy a field or a region of it",
            ReadArgs,
            ReadResult,
            (*_NODE, "unsupported"),
            reads=True,
        ),
        Verb(
            "write",
            "branch",
            "change a field or a region of it",
            WriteArgs,
            Empty,
            (*_BRANCH, "faulted"),
            once=True,
            reads=False,
        ),
        Verb(
            "call",
            "branch",
            "run a method that the author exported",
            CallArgs,
            CallResult,
            (*_BRANCH, *_FORK, "faulted", "simulation_error"),
            once=True,
            reads=False,
        ),
        Verb(
            "snapshot",
            "branch",
            "freeze a copy of this moment",
            SnapshotArgs,
            SnapshotResult,
            (*_BRANCH, "name_taken", *_FORK),
            once=True,
            reads=False,
        ),
        Verb(
            "interrupt",
            "node",
            "stop the running step after a tick",
            InterruptArgs,
            InterruptResult,
            _BRANCH,
            reads=False,
        ),
        Verb(
            "branch",
            "node",
            "make live branches of a snapshot (a live branch is snapshotted first)",
            BranchArgs,
            BranchResult,
            (*_NODE, "name_taken", "simulation_error", *_FORK),
            once=True,
            reads=False,
        ),
        Verb(
            "expand",
            "node",
            "branch, step, read and end a child for each input (a live branch is snapshotted first)",
            ExpandArgs,
            ExpandResult,
            (*_NODE, "faulted", "interrupted", "simulation_error", *_FORK),
            once=True,
            reads=False,
        ),
        Verb(
            "restore",
            "branch",
            "put the branch back to a snapshot",
            RestoreArgs,
            NodeResult,
            (*_BRANCH, "simulation_error", *_FORK),
            once=True,
            reads=False,
        ),
        Verb(
            "diff",
            "node",
            "compare two nodes, field by field",
            DiffArgs,
            DiffResult,
            (*_NODE, "unsupported"),
            reads=True,
        ),
        Verb(
            "pages", "node", "say which page is whose", PagesArgs, PagesResult, (*_NODE, "unsupported"), reads=True
        ),
        Verb(
            "clear",
            "branch",
            "go on with what a fault left",
            Empty,
            NodeResult,
            _BRANCH,
            once=True,
            reads=False,
        ),
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
            "tag",
            "node",
            "name the node once more",
            TagArgs,
            NodeResult,
            ("name_taken", "not_found"),
            once=True,
            reads=False,
        ),
        Verb(
            "pin", "node", "protect the node from drop", PinArgs, NodeResult, ("not_found",), once=True, reads=False
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
}
"""Every verb by name."""
