"""A request and its reply: what is sent, how an answer is understood, and regions as the protocol writes them."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Sequence
from types import EllipsisType
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec

from ..errors import BadRequestError, InternalError, SnapservError, SnapservWarning, error_from_wire
from ..plain import Array
from ..protocol import NodeInfo, NodeResult, Notice, Outcome, Progress
from ..wire import MAGIC, Buffer, Frames, pack, unpack

__all__ = ["Array", "Index", "RegionIndex", "Reply", "Request", "convert", "region_to_wire"]

CALLERS_FRAME = 7
"""How far up the caller of a method of a synchronous node stands, so that a warning names that line."""

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)
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
        outcomes: How many outcomes are sent before its reply.
    """

    verb: str
    node: str | int | None
    args: dict[str, Any]
    understand: Callable[[Any], T]
    long: bool = False
    outcomes: int = 0

    def frames(self, request_id: int) -> Frames:
        """Return the message to send."""
        header: dict[str, Any] = {"id": request_id, "verb": self.verb}
        if self.node is not None:
            header["node"] = self.node
        if self.args:
            header["args"] = self.args
        return [MAGIC, *pack(header)]


class Reply(msgspec.Struct, frozen=True):
    """A message from the server: a progress report, the outcome of one child, or the final reply of a request.

    A kind of message that this version does not know is none of the three, and says nothing.
    """

    id: int
    progress: Progress | None
    outcome: Outcome | None
    ok: Any
    error: SnapservError | None
    notices: list[Notice] = []

    @property
    def final(self) -> bool:
        """Whether nothing comes after it."""
        return self.ok is not None or self.error is not None

    @staticmethod
    def parse(frames: Sequence[Buffer]) -> Reply:
        """Return the message in ``frames``; its arrays are views of them.

        Raises:
            SnapservError: It is no message of this protocol.
        """
        if len(frames) < 2 or frames[0] != MAGIC:
            raise InternalError("the server sent something that is no reply")
        header = unpack(frames[1], frames[2:])
        if type(header) is dict and len(header) == 2 and type(header.get("id")) is int and "ok" in header:
            return Reply(header["id"], None, None, header["ok"], None)  # nearly all
        return Reply.of(header)

    @staticmethod
    def of(header: Any) -> Reply:
        """Return the message that has this header.

        Raises:
            SnapservError: It is no message of this protocol.
        """
        if not isinstance(header, dict) or type(header.get("id")) is not int:
            raise InternalError("the server sent a reply without an id")
        error = header.get("error")
        progress, outcome = header.get("progress"), header.get("outcome")
        if error is not None and not isinstance(error, dict):
            raise InternalError("the server sent an error that is none")
        return Reply(
            header["id"],
            None if progress is None else convert(progress, Progress),
            None if outcome is None else convert(outcome, Outcome),
            header.get("ok"),
            None if error is None else error_from_wire(error),
            [convert(notice, Notice) for notice in header.get("notices", ())],
        )

    def tell(self, frame: int = CALLERS_FRAME) -> None:
        """Warn of what the caller should know, who stands so many frames up."""
        for notice in self.notices:
            told = SnapservWarning(notice.code, notice.message, hint=notice.hint, details=notice.details)
            warnings.warn(told, stacklevel=frame)


def convert(ok: Any, kind: type[S]) -> S:
    """Return a result as the type that the protocol declares.

    Raises:
        InternalError: The server sent something else.
    """
    try:
        return msgspec.convert(ok, kind)
    except msgspec.ValidationError as cause:
        from ..refusals import in_words

        raise InternalError(f"the server sent a malformed {kind.__name__}: {in_words(cause)}") from cause


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


def _bound(value: Any) -> int | None:
    if value is None:
        return None
    try:
        return operator.index(value)
    except TypeError:
        raise BadRequestError(
            f"region: {value!r} is neither an index nor a bound of a slice", hint="ints and slices are allowed"
        ) from None


def ask(kind: type[S], verb: str, **args: Any) -> Request[S]:
    """Return a request to the server itself, whose result is given out as it comes."""
    return Request(verb, None, args, lambda ok: convert(ok, kind))


def understand_node(ok: Any) -> NodeInfo:
    """Return the node of a result that is nothing else."""
    return convert(ok, NodeResult).node


def understand_nothing(ok: Any) -> None:
    """Return None: the result has nothing to say."""
