"""What makes a simulation go on, or has it stop: ticks, writes, calls, and many futures at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import msgspec

from ..plain import Outputs, Value
from .limits import MAX_BRANCHES, MAX_SEQUENCE, BranchCount, Name, NonNegative, Seconds, Ticks
from .readings import Condition, Every, Readings, Records, Series
from .values import Action, NodeInfo, NodeResult, Recording, Region, Rng
from .verb import BRANCH_ERRORS, FORK_ERRORS, NODE_ERRORS, Arguments, Empty, Verb

if TYPE_CHECKING:
    from ..records import Records as RecordsByStep

__all__ = [
    "CallArgs",
    "CallResult",
    "DirectResult",
    "ExpandArgs",
    "ExpandResult",
    "Inputs",
    "InterruptArgs",
    "InterruptResult",
    "Kept",
    "MarkArgs",
    "MarkResult",
    "Outcome",
    "RecordArgs",
    "RecordsArgs",
    "ReplayArgs",
    "RewindResult",
    "RunArgs",
    "RunResult",
    "StepArgs",
    "StepResult",
    "WriteArgs",
]


class StepArgs(Arguments):
    """How many ticks with which inputs; ``progress`` asks for progress messages.

    With ``atomic`` all of it happens or nothing does: after any failure the branch goes on from the moment before,
    and ``details["rolled_back_to"]`` of the error is its step. The server's own default holds for nil. An atomic
    step that runs longer than ``timeout_s`` is ended, and is such a failure; others have no such limit.

    ``record`` is what to look at after each tick whose step is a multiple of ``every``: it is kept in the branch
    (see ``records``), and what this request adds to that is in its reply. The tick after which ``until`` holds is
    the last one; ``snapshot`` is what to call a snapshot that is taken then.
    """

    ticks: Ticks = 1
    inputs: dict[str, Value] = {}
    progress: bool = False
    atomic: bool | None = None
    timeout_s: Seconds | None = None
    record: Readings = []
    every: Every = 1
    until: Condition | None = None
    snapshot: Name | None = None


class StepResult(msgspec.Struct, omit_defaults=True):
    """Where the branch stands now, and what the last tick put out.

    ``ticks`` are fewer than asked where the simulation finished; a step of one that has is a ``bad_request``. Where
    there was a condition, ``stopped`` says whether it has held, and ``snapshot`` is what was taken for that; where
    something was to be recorded, ``series`` has what this request adds.
    """

    step: int
    ticks: int
    outputs: Outputs
    elapsed_us: int
    stopped: bool | None = None
    series: Series | None = None
    snapshot: NodeInfo | None = None

    @property
    def records(self) -> RecordsByStep:
        """What this request has recorded; empty where it asked for nothing."""
        from ..records import Records as RecordsByStep  # with numpy

        return RecordsByStep.of([] if self.series is None else [self.series])

    def _repr_html_(self) -> str:
        from ..markup import facts, numeral, page, value_cell  # which only notebooks need

        outputs = self.outputs if isinstance(self.outputs, dict) else {"output": self.outputs}
        rows = [(str(name), value_cell(value)) for name, value in outputs.items()]
        took = numeral(self.elapsed_us / 1000, " ms", digits=3)
        title = f"step {self.step:,} · {self.ticks:,} ticks"
        return page(facts([*rows, ("took", took)], title))

    def __str__(self) -> str:
        from ..looks import step_in_lines  # for whoever looks at it, and for nobody else

        return step_in_lines(self)

    def __repr__(self) -> str:
        from ..looks import step_in_a_line

        return step_in_a_line(self)


class RunArgs(Arguments):
    """Inputs, of which each is for one tick; everything else is as for a step."""

    inputs: Annotated[list[dict[str, Value]], msgspec.Meta(min_length=1, max_length=MAX_SEQUENCE)]
    progress: bool = False
    atomic: bool | None = None
    timeout_s: Seconds | None = None
    record: Readings = []
    every: Every = 1
    until: Condition | None = None
    snapshot: Name | None = None


class RunResult(StepResult):
    """As of a step, but for ``outputs``: a column for each output, with a row for each tick.

    A column is an array, whose first axis is the ticks, where all ticks put out a number of the same type, or an
    array of the same shape and type; else a list. What a tick has not put out is nil.
    """


class RecordArgs(Arguments):
    """What to record from now on, whoever steps the branch or one that is made of it; nothing with no readings."""

    record: Readings = []
    every: Every = 1


class RecordsArgs(Arguments):
    """From which step on to tell what was recorded."""

    after: NonNegative = 0


class WriteArgs(Arguments):
    """What to write where: an array of the region's shape, or one value that fills it.

    An array of msgpack's will do for numbers. What the field could not hold as it is, is refused.
    """

    field: str
    value: Value
    region: Region | None = None


class CallArgs(Arguments):
    """Which exported method, with which arguments; ``atomic`` as for a step, but never by default."""

    method: str
    args: list[Value] = []
    kwargs: dict[str, Value] = {}
    atomic: bool = False


class CallResult(msgspec.Struct):
    """What the method returned."""

    value: Value


_OfChild: TypeAlias = dict[str, Value] | list[dict[str, Value]]
Inputs = Annotated[list[_OfChild], msgspec.Meta(min_length=1, max_length=MAX_BRANCHES)]


class ExpandArgs(Arguments):
    """A child for each of ``inputs``: a map, or an array of maps that are played in order.

    Each map is held for ``ticks`` ticks; then ``policy``, an exported method that returns inputs, is asked before
    each of ``policy_ticks`` more. ``read`` names fields, outputs and exported methods that are called at the end,
    and all outputs are returned if it is empty; ``sum`` names outputs to add up over all ticks. ``keep`` says which
    children become nodes: ``best`` of them by the output or sum ``by``, the ``largest`` or the smallest.

    ``seeds`` has one for the random streams of each child, in the place of ``rng``: a part of many children draws
    the same as it would among all of them.

    ``record``, ``every`` and ``until`` are those of a step, for each child. With ``stream`` each outcome is sent in
    a message of its own as soon as it is there, so that there may be any number of arrays in all of them together;
    without, they have to fit into one reply.
    """

    inputs: Inputs
    ticks: Ticks = 1
    policy: str | None = None
    policy_ticks: NonNegative = 0
    read: list[str] = []
    sum: list[str] = []
    parallel: BranchCount | None = None
    rng: Rng = "same"
    seeds: list[NonNegative] | None = None
    keep: Literal["none", "all", "best"] = "none"
    best: BranchCount = 1
    by: str = ""
    largest: bool = True
    keep_as: Literal["branch", "snapshot"] = "branch"
    timeout_s: Seconds | None = None
    stream: bool = False
    record: Readings = []
    every: Every = 1
    until: Condition | None = None


class Outcome(msgspec.Struct):
    """What came of one child: where it stands, the last tick's outputs, sums over ticks, fields; or its error.

    ``index`` is the place of its inputs. ``error`` is as in a reply: ``{code, message, hint, details}``.
    """

    index: int
    ok: bool
    step: int = 0
    ticks: int = 0
    outputs: Value = None
    totals: dict[str, Value] = {}
    fields: dict[str, Value] = {}
    finished: bool = False
    elapsed_us: int = 0
    error: dict[str, Value] | None = None
    stopped: bool | None = None
    series: Series | None = None


class Kept(msgspec.Struct):
    """A child that was kept, by its index, and the node that it is now."""

    index: int
    node: NodeInfo


class ExpandResult(msgspec.Struct):
    """An outcome for each input in order, none of them where they were streamed; and the children that were kept.

    ``snapshot`` is the one taken first when a live branch was expanded, where it is kept for its children's sake;
    ``reseeded`` names the random streams that were given other states, where that was asked for.
    """

    outcomes: list[Outcome]
    kept: list[Kept]
    snapshot: NodeInfo | None = None
    reseeded: list[str] = []


class DirectResult(msgspec.Struct):
    """The ticket for a stream to the branch's process; null where it is to be asked by way of the server now."""

    ticket: bytes | None
    step: int


class InterruptArgs(Arguments):
    """Which of this client's own requests to stop, a step or an expansion: at whatever node, even while it waits.

    By default the step that runs at the branch, whoever asked for it. With ``force`` the branch's process is killed
    rather than asked; `restore` or `reset` revives it.
    """

    request: int | None = None
    force: bool = False


class InterruptResult(msgspec.Struct):
    """Whether there was a step to interrupt."""

    interrupted: bool


class MarkArgs(Arguments):
    """Whether to make the mark, in the place of the last one, or to give it up."""

    remove: bool = False


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


class ReplayArgs(Arguments):
    """What to do, as `log` lists it, the snapshot to start from (the first tree's root) and the branch's name.

    Where there is a ``recording``, what it is of and where it leads are checked, unless ``force`` says to go on.
    ``progress`` asks to be told how many ticks are done.
    """

    actions: list[Action]
    start: str | int | None = None
    name: Name | None = None
    recording: Recording | None = None
    force: bool = False
    progress: bool = False


VERBS = (
    Verb(
        "step",
        "branch",
        "run ticks, in place",
        StepArgs,
        StepResult,
        (*BRANCH_ERRORS, *FORK_ERRORS, "faulted", "interrupted", "simulation_error", "timeout"),
        once=True,
        reads=False,
    ),
    Verb(
        "run",
        "branch",
        "run a tick with each of several inputs, in place",
        RunArgs,
        RunResult,
        (*BRANCH_ERRORS, *FORK_ERRORS, "faulted", "interrupted", "name_taken", "simulation_error", "timeout"),
        once=True,
        reads=False,
    ),
    Verb(
        "record",
        "branch",
        "record outputs and numbers of fields from now on",
        RecordArgs,
        Empty,
        BRANCH_ERRORS,
        reads=False,
    ),
    Verb(
        "records",
        "node",
        "what was recorded at a node and before it",
        RecordsArgs,
        Records,
        NODE_ERRORS,
        reads=True,
    ),
    Verb(
        "write",
        "branch",
        "change a field or a region of it",
        WriteArgs,
        Empty,
        (*BRANCH_ERRORS, "faulted"),
        once=True,
        reads=False,
    ),
    Verb(
        "call",
        "branch",
        "run a method that the author exported",
        CallArgs,
        CallResult,
        (*BRANCH_ERRORS, *FORK_ERRORS, "faulted", "simulation_error"),
        once=True,
        reads=False,
    ),
    Verb(
        "direct",
        "branch",
        "lease the branch: its process then takes requests by a stream, which is fetched at the side channel",
        Empty,
        DirectResult,
        (*BRANCH_ERRORS, "faulted"),
        reads=False,
    ),
    Verb(
        "expand",
        "node",
        "branch, step, read and end a child for each input (a live branch is snapshotted first)",
        ExpandArgs,
        ExpandResult,
        (*NODE_ERRORS, "faulted", "interrupted", "simulation_error", *FORK_ERRORS),
        once=True,
        reads=False,
    ),
    Verb(
        "interrupt",
        "node",
        "stop the running step after a tick",
        InterruptArgs,
        InterruptResult,
        BRANCH_ERRORS,
        reads=False,
    ),
    Verb(
        "mark",
        "branch",
        "mark this moment for rewind",
        MarkArgs,
        MarkResult,
        (*BRANCH_ERRORS, "faulted", "over_budget"),
        once=True,
        reads=False,
    ),
    Verb(
        "rewind",
        "branch",
        "go back to the mark, in place",
        Empty,
        RewindResult,
        BRANCH_ERRORS,
        once=True,
        reads=False,
    ),
    Verb(
        "clear",
        "branch",
        "go on with what a fault left",
        Empty,
        NodeResult,
        BRANCH_ERRORS,
        once=True,
        reads=False,
    ),
    Verb(
        "replay",
        "server",
        "make a branch and do recorded actions again",
        ReplayArgs,
        NodeResult,
        (
            *NODE_ERRORS,
            "faulted",
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
