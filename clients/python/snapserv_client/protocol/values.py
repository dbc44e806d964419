"""What messages of several subjects are made of: the header, nodes, regions and actions."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from ..plain import Value
from .limits import MAX_NAME_LENGTH, MAX_PATH_LENGTH, DoneTicks, NonNegative, Repeats

__all__ = [
    "Action",
    "AutosnapInfo",
    "BeginAction",
    "CallAction",
    "NodeInfo",
    "NodeResult",
    "Notice",
    "Progress",
    "Recording",
    "Region",
    "RequestHeader",
    "Rng",
    "Slice",
    "StepAction",
    "WriteAction",
]


class RequestHeader(msgspec.Struct):
    """What every request says: ``id`` grows with each new request of a client; a retry repeats it."""

    id: Annotated[int, msgspec.Meta(ge=0)]
    verb: Annotated[str, msgspec.Meta(max_length=MAX_NAME_LENGTH)]
    node: Annotated[str, msgspec.Meta(max_length=MAX_PATH_LENGTH)] | int | None = None
    args: dict[str, Value] = {}


class Progress(msgspec.Struct):
    """How far a step has come, in ticks: said about every 50 ms, and never at its end."""

    done: int
    total: int


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


class NodeInfo(msgspec.Struct):
    """One node of a tree. ``private_bytes`` is measured only where it is asked for.

    ``faulted`` is what the simulation raised, where it left the node as it is; ``message`` what was said of a
    snapshot by whoever took it; ``automatic`` says that nobody asked
    for this snapshot, so that it may go again by itself, unless it is pinned or tagged. ``name`` is ``tree/name``
    in all trees but the first, and ``tags`` are bare; ``created`` is in seconds since 1970 (UTC).
    ``shared`` is what all nodes of its tree share, or have lost, since it was allowed. ``durable`` says that it
    lasts: it lies in the server's store; ``recorded`` that what was done to it does, and nothing else of it. One
    that is ``stored`` has no process now, and gets one when it is needed.
    """

    id: int
    name: str
    tree: str
    kind: Literal["snapshot", "branch"]
    state: Literal["idle", "busy", "dead", "faulted", "stored"]
    parent: int | None
    step: int
    created: float
    tags: list[str] = []
    pinned: bool = False
    pid: int = 0
    private_bytes: int | None = None
    death: str | None = None
    faulted: str | None = None
    message: str = ""
    automatic: bool = False
    autosnap: AutosnapInfo | None = None
    shared: list[str] = []
    durable: bool = False
    recorded: bool = False


class NodeResult(msgspec.Struct):
    """The node as it is now; where it was given other random streams, ``reseeded`` names them."""

    node: NodeInfo
    reseeded: list[str] = []


class Notice(msgspec.Struct):
    """Something about a request that was done, which its caller should know: by a stable code, as an error's.

    ``rng_unchanged``: another random stream was asked for, and there was none to change. ``rng_partly_unchanged``:
    some may not have been changed, which the message names. ``not_branchable``: the simulation holds what cannot be
    copied whole, so that the next snapshot will be refused. ``threads_running``: so it will, since a tick has left
    threads. ``not_the_same``: what was done again has put out something else than it did then.
    """

    code: str
    message: str
    hint: str = ""
    details: dict[str, Value] = {}


class _Action(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, tag_field="kind"):
    step: NonNegative = 0
    repeat: Repeats = 1


class StepAction(_Action, tag="step"):
    """So many completed ticks. Where ``raised`` says so, one more tick began, and raised.

    As of every action, ``step`` says where the node stood before it, and ``repeat`` how often in a row it was done.
    """

    ticks: DoneTicks
    inputs: dict[str, Value] = {}
    raised: bool = False


class WriteAction(_Action, tag="write"):
    """A field, or a region of it, was changed."""

    field: str
    value: Value
    region: Region | None = None


class CallAction(_Action, tag="call"):
    """An exported method ran; ``raised`` says whether it raised."""

    method: str
    args: list[Value] = []
    kwargs: dict[str, Value] = {}
    raised: bool = False


class BeginAction(_Action, tag="begin"):
    """A branch began: with a random stream of its own where there is a seed, and by the author's ``on_branch``."""

    seed: int | None = None


Action: TypeAlias = StepAction | WriteAction | CallAction | BeginAction
"""Something that was done to a node, and that can be done again."""


class Recording(msgspec.Struct):
    """What recorded actions are of, and where they lead.

    The simulation by its name, the ``version`` of its package and a checksum of its ``source``, both empty where
    there is none; its parameters, as text or checksums; the ``step`` at which the actions begin. ``start`` and
    ``end`` are hashes of the fields there and after the last of them, ``last_step`` is where they end: empty, or
    null, where that is not to be checked.
    """

    simulation: str
    version: str = ""
    source: str = ""
    params: dict[str, str] = {}
    step: NonNegative = 0
    start: dict[str, str] = {}
    last_step: NonNegative | None = None
    end: dict[str, str] = {}
