"""Requests that make a simulation go on, or have it stop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

from ..errors import BadRequestError, TooLargeError
from ..expansion import Best, Options
from ..plain import InputValues, Outputs, Sendable, Value
from ..protocol import (
    Action,
    CallResult,
    Condition,
    DirectResult,
    ExpandResult,
    InterruptResult,
    MarkResult,
    NodeInfo,
    Reading,
    Recording,
    Records,
    RewindResult,
    RunResult,
    StepResult,
)
from ..watching import Until, Watched, readings_of
from ..wire import pack
from .message import RegionIndex, Request, convert, region_to_wire, understand_node, understand_nothing

__all__ = [
    "INTERRUPTIBLE",
    "call",
    "clear",
    "direct",
    "expand",
    "interrupt",
    "look",
    "mark",
    "patience_s",
    "record",
    "records",
    "replay",
    "rewind",
    "run",
    "step",
    "write",
]

INTERRUPTIBLE = frozenset({"step", "run", "expand", "goto"})
"""Verbs whose work is stopped where whoever waits for it gives up."""
ROLLED_BACK_WITHIN_S = 10.0


def step(
    node: str | int,
    ticks: int,
    inputs: InputValues,
    *,
    progress: bool,
    atomic: bool | None = None,
    timeout_s: float | None = None,
    look: Look | None = None,
) -> Request[StepResult]:
    """Ask for ticks; ``timeout_s`` is the server's to keep to, where the step is atomic."""
    args: dict[str, Any] = {"ticks": ticks, "inputs": dict(inputs)}
    if progress or atomic is not None or timeout_s is not None:  # a message is read the faster the less it says
        args |= {"progress": progress, "atomic": atomic, "timeout_s": timeout_s}
    if look is not None:
        args |= look
    return Request("step", node, args, _understand_step, long=True)


def run(
    node: str | int,
    inputs: Sequence[InputValues],
    *,
    progress: bool,
    atomic: bool | None,
    timeout_s: float | None,
    look: Look | None,
) -> Request[RunResult]:
    """Ask for a tick with each of several inputs.

    Raises:
        BadRequestError: They are none.
        TooLargeError: They do not fit in one request.
    """
    if isinstance(inputs, Mapping) or not all(isinstance(each, Mapping) for each in inputs):
        raise BadRequestError("the inputs of a run are a sequence of maps, one for each tick")
    args: dict[str, Any] = {"inputs": [dict(each) for each in inputs], "progress": progress}
    args |= {"atomic": atomic, "timeout_s": timeout_s, **(look or {})}
    return Request("run", node, args, lambda ok: convert(ok, RunResult), long=True)


class Look(TypedDict, total=False):
    """What is to be looked at after each tick, as the protocol has it."""

    record: list[Reading]
    every: int
    until: Condition
    snapshot: str


def look(
    record: Watched | Iterable[Watched], every: int, until: Until | None, snapshot: str | None = None
) -> Look | None:
    """Return what is to be looked at after each tick; None for nothing."""
    asked: Look = {}
    if readings := readings_of(record):
        asked |= {"record": readings, "every": every}
    if until is not None:
        asked["until"] = until.condition
    if snapshot is not None:
        asked["snapshot"] = snapshot
    return asked or None


def record(node: str | int, wanted: Watched | Iterable[Watched], every: int) -> Request[None]:
    """Ask to record something from now on."""
    return Request("record", node, {"record": readings_of(wanted), "every": every}, understand_nothing)


def records(node: str | int, after: int) -> Request[Records]:
    """Ask what was recorded at a node."""
    return Request("records", node, {"after": after}, lambda ok: convert(ok, Records), long=True)


def _understand_step(ok: Any) -> StepResult:
    result = convert(ok, StepResult)
    said: Outputs | None = result.outputs
    result.outputs = {} if said is None else said  # a step may put out nothing
    return result


def patience_s(timeout_s: float | None, *, atomic: bool) -> float | None:
    """Return how long to wait for a step: the server ends an atomic one in time, and then has to roll it back."""
    return timeout_s + ROLLED_BACK_WITHIN_S if atomic and timeout_s is not None else timeout_s


def write(node: str | int, field: str, value: Sendable, region: RegionIndex) -> Request[None]:
    """Ask to change a field or a region of it."""
    args = {"field": field, "value": value, "region": region_to_wire(region)}
    return Request("write", node, args, understand_nothing)


def call(
    node: str | int, method: str, args: Sequence[Sendable], kwargs: InputValues, *, atomic: bool = False
) -> Request[Value]:
    """Ask to run an exported method."""
    arguments = {"method": method, "args": list(args), "kwargs": dict(kwargs), "atomic": atomic}
    return Request("call", node, arguments, lambda ok: convert(ok, CallResult).value, long=True)


def direct(node: str | int) -> Request[DirectResult]:
    """Ask for a stream to a branch's own process."""
    return Request("direct", node, {}, lambda ok: convert(ok, DirectResult), long=True)


def expand(
    node: str | int,
    inputs: Sequence[InputValues | Sequence[InputValues]],
    options: Options,
    *,
    stream: bool = True,
) -> Request[ExpandResult]:
    """Ask for a child for each input; with ``stream`` outcomes have a message each, in which every one has room."""
    if not isinstance(inputs, Sequence) or not all(_is_inputs(each) for each in inputs):
        raise BadRequestError("the inputs of an expansion are a map, or a sequence of maps, for each child")
    keep, seeds = options.get("keep", "none"), options.get("seeds")
    if seeds is not None and len(seeds) != len(inputs):
        raise BadRequestError(f"{len(seeds)} seeds for {len(inputs)} children", hint="give one for each")
    best = keep if isinstance(keep, Best) else Best(1, "")
    args = {
        "inputs": [dict(each) if isinstance(each, Mapping) else [dict(one) for one in each] for each in inputs],
        "ticks": options.get("steps", 1),
        "policy": options.get("policy"),
        "policy_ticks": options.get("policy_steps", 0),
        "read": _names(options.get("read", ())),
        "sum": _names(options.get("sum", ())),
        "parallel": options.get("parallel"),
        "rng": options.get("rng", "same"),
        **(look(options.get("record", ()), options.get("every", 1), options.get("until")) or {}),
        "keep": "best" if isinstance(keep, Best) else keep,
        "best": best.count,
        "by": best.by,
        "largest": best.largest,
        "keep_as": options.get("keep_as", "branch"),
        "timeout_s": options.get("timeout_s"),
        **({} if seeds is None else {"seeds": list(seeds)}),
        "stream": stream,
    }
    streamed = len(inputs) if stream else 0
    return Request("expand", node, args, lambda ok: convert(ok, ExpandResult), long=True, outcomes=streamed)


def interrupt(node: str | int, *, request: int | None = None, force: bool = False) -> Request[bool]:
    """Ask a step to stop after a tick."""
    args = {"request": request, "force": force}
    return Request("interrupt", node, args, lambda ok: convert(ok, InterruptResult).interrupted)


def mark(node: str | int, *, remove: bool) -> Request[MarkResult]:
    """Ask to mark a moment."""
    return Request("mark", node, {"remove": remove}, lambda ok: convert(ok, MarkResult), long=True)


def rewind(node: str | int) -> Request[RewindResult]:
    """Ask to go back to the mark."""
    return Request("rewind", node, {}, lambda ok: convert(ok, RewindResult), long=True)


def clear(node: str | int) -> Request[NodeInfo]:
    """Ask to go on with what a fault left."""
    return Request("clear", node, {}, understand_node)


def replay(
    actions_: Iterable[Action | InputValues],
    start: str | int | None,
    name: str | None,
    recording: Recording | None = None,
    *,
    force: bool = False,
    progress: bool = False,
) -> Request[NodeInfo]:
    """Ask to do actions again.

    Raises:
        TooLargeError: They do not fit in one request.
    """
    args = {
        "actions": list(actions_),
        "start": start,
        "name": name,
        "recording": recording,
        "force": force,
        "progress": progress,
    }
    try:
        pack(args)
    except TooLargeError as cause:
        hint = "replay a part of them, snapshot the branch that it makes, and replay the rest from there"
        raise TooLargeError(cause.message, hint=hint) from cause
    return Request("replay", None, args, understand_node, long=True)


def _is_inputs(given: Any) -> bool:
    return isinstance(given, Mapping) or (
        isinstance(given, Sequence) and all(isinstance(each, Mapping) for each in given)
    )


def _names(given: str | Sequence[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)
