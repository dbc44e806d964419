"""What both clients ask for: each request with how its reply is understood. No sockets and no waiting here."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import EllipsisType
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec
import numpy as np

from . import protocol
from .errors import BadRequestError, InternalError, SnapservError, TooLargeError, error_from_wire
from .expansion import Best, Options
from .wire import MAGIC, Buffer, Frames, pack, unpack

ROLLED_BACK_WITHIN_S = 10.0

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)
Array: TypeAlias = np.ndarray[Any, Any]
Index: TypeAlias = int | slice | EllipsisType
RegionIndex: TypeAlias = Index | tuple[Index, ...] | None
"""A region as numpy's basic indexing writes it: ``(slice(0, 64), 3)``, ``...``, ``np.s_[:, ::2]``."""


class Request(msgspec.Struct, Generic[T], frozen=True):
    """One request and how to understand its reply.

    Attributes:
        verb: What is asked.
        node: What it works on.
        args: The verb's arguments, plain.
        understand: Turns the reply's result into what the caller gets.
        long: Whether it may take as long as it likes; others time out.
    """

    verb: str
    node: str | int | None
    args: dict[str, Any]
    understand: Callable[[Any], T]
    long: bool = False

    def frames(self, request_id: int) -> Frames:
        """Return the message to send."""
        header: dict[str, Any] = {"id": request_id, "verb": self.verb}
        if self.node is not None:
            header["node"] = self.node
        if self.args:
            header["args"] = self.args
        return [MAGIC, *pack(header)]


class Reply(msgspec.Struct, frozen=True):
    """A message from the server: a progress report, the outcome of one child, or the final reply of a request."""

    id: int
    progress: protocol.Progress | None
    outcome: protocol.Outcome | None
    ok: Any
    error: SnapservError | None

    @property
    def final(self) -> bool:
        """Whether nothing comes after it."""
        return self.progress is None and self.outcome is None

    @staticmethod
    def parse(frames: Sequence[Buffer]) -> Reply:
        """Return the message in ``frames``; its arrays are views of them.

        Raises:
            SnapservError: It is no message of this protocol.
        """
        if len(frames) < 2 or bytes(frames[0]) != MAGIC:
            raise InternalError("the server sent something that is no reply")
        header = unpack(frames[1], frames[2:])
        if not isinstance(header, dict) or type(header.get("id")) is not int:
            raise InternalError("the server sent a reply without an id")
        error = header.get("error")
        progress, outcome = header.get("progress"), header.get("outcome")
        if error is not None and not isinstance(error, dict):
            raise InternalError("the server sent an error that is none")
        return Reply(
            header["id"],
            None if progress is None else convert(progress, protocol.Progress),
            None if outcome is None else convert(outcome, protocol.Outcome),
            header.get("ok"),
            None if error is None else error_from_wire(error),
        )


# -------------------------------------------------------------------------------------------- the server's verbs


def hello(client: str) -> Request[protocol.HelloResult]:
    """Ask who is there."""
    return _request(protocol.HelloResult, "hello", client=client, protocol=protocol.PROTOCOL_VERSION)


def ping() -> Request[None]:
    """Ask for an answer."""
    return Request("ping", None, {}, _nothing)


def spec(tree: str | None) -> Request[protocol.SpecResult]:
    """Ask what a tree's simulation is."""
    return _request(protocol.SpecResult, "spec", tree=tree)


def stats() -> Request[protocol.StatsResult]:
    """Ask for the counters."""
    return _request(protocol.StatsResult, "stats")


def tree(name: str | None, *, offset: int, sizes: bool) -> Request[protocol.TreeResult]:
    """Ask for a page of nodes."""
    return _request(protocol.TreeResult, "tree", tree=name, offset=offset, sizes=sizes)


def watch() -> Request[protocol.WatchResult]:
    """Ask where events are published."""
    return _request(protocol.WatchResult, "watch")


def shutdown() -> Request[None]:
    """Ask the server to end."""
    return Request("shutdown", None, {}, _nothing)


def create(simulation: str | None, name: str | None, params: Mapping[str, Any]) -> Request[protocol.NodeInfo]:
    """Ask for another tree."""
    args = {"simulation": simulation, "name": name, "params": dict(params)}
    return Request("create", None, args, _node, long=True)


# ----------------------------------------------------------------------------------------------- nodes' verbs


def info(node: str | int) -> Request[protocol.NodeInfo]:
    """Ask what a node is: the log of itself alone."""
    return Request("log", node, {"limit": 1}, lambda ok: convert(ok, protocol.LogResult).entries[-1])


def lineage(node: str | int) -> Request[list[protocol.NodeInfo]]:
    """Ask for a node's nearest ancestors and itself, a page of them."""
    return Request("log", node, {}, lambda ok: convert(ok, protocol.LogResult).entries)


def actions(node: str | int, start: int) -> Request[protocol.LogResult]:
    """Ask for a page of what was done to a node."""
    return Request(
        "log",
        node,
        {"limit": 1, "actions": True, "start": start},
        lambda ok: convert(ok, protocol.LogResult),
        long=True,
    )


def replay(actions_: Iterable[Any], start: str | int | None, name: str | None) -> Request[protocol.NodeInfo]:
    """Ask to do actions again.

    Raises:
        TooLargeError: They do not fit in one request.
    """
    args = {"actions": list(actions_), "start": start, "name": name}
    try:
        pack(args)
    except TooLargeError as cause:
        hint = "replay a part of them, snapshot the branch that it makes, and replay the rest from there"
        raise TooLargeError(cause.message, hint=hint) from cause
    return Request("replay", None, args, _node, long=True)


def verify(node: str | int, since: str | int | None) -> Request[protocol.VerifyResult]:
    """Ask whether a node can be reached again."""
    return Request("verify", node, {"since": since}, lambda ok: convert(ok, protocol.VerifyResult), long=True)


def read(node: str | int, field: str, region: RegionIndex) -> Request[Array]:
    """Ask for a field or a region of it."""
    args = {"field": field, "region": region_to_wire(region)}
    return Request("read", node, args, lambda ok: np.asarray(convert(ok, protocol.ReadResult).value))


def write(node: str | int, field: str, value: Any, region: RegionIndex) -> Request[None]:
    """Ask to change a field or a region of it."""
    args = {"field": field, "value": value, "region": region_to_wire(region)}
    return Request("write", node, args, _nothing)


def step(
    node: str | int,
    ticks: int,
    inputs: Mapping[str, Any],
    *,
    progress: bool,
    atomic: bool | None = None,
    timeout_s: float | None = None,
) -> Request[protocol.StepResult]:
    """Ask for ticks; ``timeout_s`` is the server's to keep to, where the step is atomic."""
    args = {"ticks": ticks, "inputs": dict(inputs), "progress": progress, "atomic": atomic, "timeout_s": timeout_s}
    return Request("step", node, args, lambda ok: convert(ok, protocol.StepResult), long=True)


def patience_s(timeout_s: float | None, *, atomic: bool) -> float | None:
    """Return how long to wait for a step: the server ends an atomic one in time, and then has to roll it back."""
    return timeout_s + ROLLED_BACK_WITHIN_S if atomic and timeout_s is not None else timeout_s


def call(
    node: str | int, method: str, args: Sequence[Any], kwargs: Mapping[str, Any], *, atomic: bool = False
) -> Request[Any]:
    """Ask to run an exported method."""
    arguments = {"method": method, "args": list(args), "kwargs": dict(kwargs), "atomic": atomic}
    return Request("call", node, arguments, lambda ok: convert(ok, protocol.CallResult).value, long=True)


def snapshot(node: str | int, name: str | None) -> Request[protocol.SnapshotResult]:
    """Ask for a snapshot."""
    return Request("snapshot", node, {"name": name}, lambda ok: convert(ok, protocol.SnapshotResult))


def branch(
    node: str | int, count: int, names: Sequence[str] | None, rng: protocol.Rng
) -> Request[protocol.BranchResult]:
    """Ask for branches."""
    args = {"count": count, "names": None if names is None else list(names), "rng": rng}
    return Request("branch", node, args, lambda ok: convert(ok, protocol.BranchResult))


def _is_inputs(given: Any) -> bool:
    return isinstance(given, Mapping) or (
        isinstance(given, Sequence) and all(isinstance(each, Mapping) for each in given)
    )


def _names(given: str | Sequence[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def expand(
    node: str | int,
    inputs: Sequence[Mapping[str, Any] | Sequence[Mapping[str, Any]]],
    options: Options,
    *,
    stream: bool,
) -> Request[protocol.ExpandResult]:
    """Ask for a child for each input."""
    if not isinstance(inputs, Sequence) or not all(_is_inputs(each) for each in inputs):
        raise BadRequestError("the inputs of an expansion are a map, or a sequence of maps, for each child")
    keep = options.get("keep", "none")
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
        "keep": "best" if isinstance(keep, Best) else keep,
        "best": best.count,
        "by": best.by,
        "largest": best.largest,
        "keep_as": options.get("keep_as", "branch"),
        "timeout_s": options.get("timeout_s"),
        "stream": stream,
    }
    return Request("expand", node, args, lambda ok: convert(ok, protocol.ExpandResult), long=True)


def restore(node: str | int, snapshot_: str | int, rng: protocol.Rng) -> Request[protocol.NodeInfo]:
    """Ask to go back to a snapshot."""
    return Request("restore", node, {"snapshot": snapshot_, "rng": rng}, _node)


def reset(node: str | int, rng: protocol.Rng) -> Request[protocol.NodeInfo]:
    """Ask to go back to the root."""
    return Request("reset", node, {"rng": rng}, _node)


def mark(node: str | int, *, remove: bool) -> Request[protocol.MarkResult]:
    """Ask to mark a moment."""
    return Request("mark", node, {"remove": remove}, lambda ok: convert(ok, protocol.MarkResult), long=True)


def rewind(node: str | int) -> Request[protocol.RewindResult]:
    """Ask to go back to the mark."""
    return Request("rewind", node, {}, lambda ok: convert(ok, protocol.RewindResult), long=True)


def interrupt(node: str | int, *, request: int | None = None, force: bool = False) -> Request[bool]:
    """Ask a step to stop after a tick."""
    args = {"request": request, "force": force}
    return Request("interrupt", node, args, lambda ok: convert(ok, protocol.InterruptResult).interrupted)


def clear(node: str | int) -> Request[protocol.NodeInfo]:
    """Ask to go on with what a fault left."""
    return Request("clear", node, {}, _node)


def autosnap(
    node: str | int, every_steps: int | None, every_s: float | None, keep: int | None, *, off: bool
) -> Request[protocol.NodeInfo]:
    """Ask for snapshots that are taken by themselves, or for none any more."""
    args = {"every_steps": every_steps, "every_s": every_s, "keep": keep, "off": off}
    return Request("autosnap", node, args, _node)


def diff(node: str | int, other: str | int, fields: Sequence[str] | None) -> Request[protocol.DiffResult]:
    """Ask how two nodes differ."""
    args = {"other": other, "fields": None if fields is None else list(fields)}
    return Request("diff", node, args, lambda ok: convert(ok, protocol.DiffResult), long=True)


def pages(node: str | int, other: str | int | None, fields: Sequence[str] | None) -> Request[protocol.PagesResult]:
    """Ask which page is whose."""
    args = {"other": other, "fields": None if fields is None else list(fields)}
    return Request("pages", node, args, lambda ok: convert(ok, protocol.PagesResult), long=True)


def tag(node: str | int, name: str, *, remove: bool) -> Request[protocol.NodeInfo]:
    """Ask for a further name."""
    return Request("tag", node, {"name": name, "remove": remove}, _node)


def pin(node: str | int, *, pinned: bool) -> Request[protocol.NodeInfo]:
    """Ask to protect a node."""
    return Request("pin", node, {"pinned": pinned}, _node)


def drop(node: str | int, *, recursive: bool, force: bool) -> Request[list[str]]:
    """Ask to end a node."""
    args = {"recursive": recursive, "force": force}
    return Request("drop", node, args, lambda ok: convert(ok, protocol.DropResult).dropped, long=recursive)


# ------------------------------------------------------------------------------------------------- conversions


def region_to_wire(region: RegionIndex) -> list[Any] | None:
    """Return a region as the protocol writes it.

    Raises:
        BadRequestError: Something that basic indexing does not allow, or an ellipsis that is not at the end.
    """
    if region is None:
        return None
    parts = list(region) if isinstance(region, tuple) else [region]
    if parts and parts[-1] is Ellipsis:
        parts.pop()
    wire: list[Any] = []
    for part in parts:
        if isinstance(part, slice):
            wire.append([_bound(part.start), _bound(part.stop), _bound(part.step)])
        elif part is Ellipsis:
            raise BadRequestError("region: an ellipsis may only stand at the end", hint="write slice(None) instead")
        else:
            wire.append(_bound(part))
    return wire


def events_endpoint(endpoint: str, events: str) -> str:
    """Return where to subscribe: for TCP, the server's port on the host that this client reaches it by."""
    if not endpoint.startswith("tcp://"):
        return events
    host = endpoint.removeprefix("tcp://").rpartition(":")[0]
    return f"tcp://{host}:{events.rpartition(':')[2]}"


def convert(ok: Any, kind: type[S]) -> S:
    """Return a result as the type that the protocol declares.

    Raises:
        InternalError: The server sent something else.
    """
    try:
        return msgspec.convert(ok, kind)
    except msgspec.ValidationError as cause:
        raise InternalError(f"the server sent a malformed {kind.__name__}: {cause}") from cause


def _bound(value: Any) -> int | None:
    if value is None:
        return None
    try:
        return operator.index(value)
    except TypeError:
        raise BadRequestError(
            f"region: {value!r} is neither an index nor a bound of a slice", hint="ints and slices are allowed"
        ) from None


def _request(kind: type[S], verb: str, **args: Any) -> Request[S]:
    return Request(verb, None, args, lambda ok: convert(ok, kind))


def _node(ok: Any) -> protocol.NodeInfo:
    return convert(ok, protocol.NodeResult).node


def _nothing(ok: Any) -> None:
    return None
