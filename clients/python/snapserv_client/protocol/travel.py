"""Time travel: going back to a step of a node's own past."""

from __future__ import annotations

import msgspec

from ..plain import Value
from .limits import Name, NonNegative
from .readings import Condition
from .values import NodeInfo
from .verb import FORK_ERRORS, NODE_ERRORS, Arguments, Verb

__all__ = ["GotoArgs", "GotoResult"]


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
