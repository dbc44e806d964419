"""What can go wrong: one class a code, and the codes are stable.

Every error says what was wrong (``message``), what to do about it (``hint``), whose fault it was (``fault``)
and carries the facts (``details``). Codes are append-only: a code is never renamed or given another meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, cast

from .plain import Sendable, Value

__all__ = [
    "ERRORS",
    "AddressError",
    "BadRequestError",
    "BusyError",
    "FaultedError",
    "FrozenError",
    "InternalError",
    "KeysError",
    "MachineDiffersError",
    "NameTakenError",
    "NodeDiedError",
    "NotBranchableError",
    "NotFoundError",
    "NotPortableError",
    "OverBudgetError",
    "RecordingMismatchError",
    "RequestTimeoutError",
    "SimulationError",
    "SnapservError",
    "SnapservWarning",
    "StepInterruptedError",
    "StepsLostError",
    "StoreDamagedError",
    "StoreUnavailableError",
    "ThreadsRunningError",
    "TooLargeError",
    "UnauthorizedError",
    "UnreachableError",
    "UnsavedError",
    "UnsupportedError",
    "UntrustedError",
    "VersionMismatchError",
    "error_from_wire",
]

Fault = Literal["caller", "simulation", "server", "machine"]


class SnapservWarning(UserWarning):
    """A request was done, and there is something that whoever asked for it should know; see `protocol.Notice`.

    Args:
        code: What it is, stable as an error's.
        message: The same for people.
        hint: What the reader can do; may be empty.
        details: Facts for programs.
    """

    def __init__(
        self, code: str, message: str, *, hint: str = "", details: Mapping[str, Sendable] | None = None
    ) -> None:
        super().__init__(f"{code}: {message}" + (f" ({hint})" if hint else ""))
        self.code = code
        self.message = message
        self.hint = hint
        self.details = dict(details or {})


class SnapservError(Exception):
    """Base of every error that snapserv raises.

    Args:
        message: What was wrong, naming the argument and what is allowed.
        hint: What the reader can do next; empty when the message says it all.
        details: Facts for programs: plain values that msgpack can carry.
    """

    code: ClassVar[str] = "internal"
    fault: ClassVar[Fault] = "server"

    def __init__(self, message: str, *, hint: str = "", details: Mapping[str, Sendable] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = cast("dict[str, Value]", dict(details or {}))

    def __str__(self) -> str:
        said = f"{self.message} ({self.hint})" if self.hint else self.message
        traceback = self.details.get("traceback")  # of the author's code: from their first frame on
        return f"{said}\n\n{traceback.rstrip()}" if isinstance(traceback, str) else said

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.hint, self.details)

    def to_wire(self) -> dict[str, Value]:
        """Return the ``error`` map of a reply."""
        return {"code": self.code, "message": self.message, "hint": self.hint, "details": self.details}


class BadRequestError(SnapservError):
    """The request is malformed, or an argument has the wrong type, shape or range."""

    code = "bad_request"
    fault: ClassVar[Fault] = "caller"


class NotFoundError(SnapservError):
    """No such node, tree, field, method or simulation."""

    code = "not_found"
    fault: ClassVar[Fault] = "caller"


class NameTakenError(SnapservError):
    """The name asked for belongs to another node or tree."""

    code = "name_taken"
    fault: ClassVar[Fault] = "caller"


class FrozenError(SnapservError):
    """A snapshot was asked to change; branch it and change the branch."""

    code = "frozen"
    fault: ClassVar[Fault] = "caller"


class BusyError(SnapservError):
    """The server or the client has as many requests in flight as it may; wait for replies."""

    code = "busy"
    fault: ClassVar[Fault] = "caller"


class NodeDiedError(SnapservError):
    """The process behind the node ended; ``details`` has the signal or exit status and the last whole step."""

    code = "node_died"
    fault: ClassVar[Fault] = "simulation"


class SimulationError(SnapservError):
    """The simulation's own code raised; ``details["traceback"]`` is its traceback."""

    code = "simulation_error"
    fault: ClassVar[Fault] = "simulation"


class ThreadsRunningError(SnapservError):
    """The simulation runs threads, which a fork would lose; ``details`` counts and names them."""

    code = "threads_running"
    fault: ClassVar[Fault] = "simulation"


class NotBranchableError(SnapservError):
    """The simulation holds what a clone would share or lose; ``details["held"]`` lists each, and what to do."""

    code = "not_branchable"
    fault: ClassVar[Fault] = "simulation"


class OverBudgetError(SnapservError):
    """There is no memory, process or descriptor left for this; ``details`` has the numbers."""

    code = "over_budget"
    fault: ClassVar[Fault] = "machine"


class StepInterruptedError(SnapservError):
    """It was interrupted between two ticks, or before it began; ``details["step"]`` is how far it came."""

    code = "interrupted"
    fault: ClassVar[Fault] = "caller"


class UnauthorizedError(SnapservError):
    """This client may not do that."""

    code = "unauthorized"
    fault: ClassVar[Fault] = "caller"


class VersionMismatchError(SnapservError):
    """Client and server speak different versions of the protocol; or a store is of a newer format."""

    code = "version_mismatch"
    fault: ClassVar[Fault] = "caller"


class TooLargeError(SnapservError):
    """The request or its reply is larger than the protocol allows."""

    code = "too_large"
    fault: ClassVar[Fault] = "caller"


class InternalError(SnapservError):
    """A fault of snapserv itself; please report it with the server's log."""

    code = "internal"
    fault: ClassVar[Fault] = "server"


class UnsupportedError(SnapservError):
    """This kernel, user or file system cannot do that; ``snapserv doctor`` says what it can."""

    code = "unsupported"
    fault: ClassVar[Fault] = "machine"


class AddressError(SnapservError):
    """The server cannot listen there: address in use, or no permission; raised where it starts, never sent."""

    code = "address_unavailable"
    fault: ClassVar[Fault] = "caller"


class FaultedError(SnapservError):
    """The simulation raised here before, and what it left is not to be trusted: restore, reset, rewind or clear it.

    ``details`` has the original error's ``message`` and the ``step`` at which it happened.
    """

    code = "faulted"
    fault: ClassVar[Fault] = "simulation"


class UnreachableError(SnapservError):
    """No server answers at the address; raised by clients, never sent."""

    code = "unreachable"
    fault: ClassVar[Fault] = "caller"


class RequestTimeoutError(SnapservError):
    """It took too long. Raised by a client, the request may still be running; sent by the server, it was ended."""

    code = "timeout"
    fault: ClassVar[Fault] = "caller"


class KeysError(SnapservError):
    """A key file is missing, is none, or others may use it; raised where keys are read, never sent."""

    code = "keys"
    fault: ClassVar[Fault] = "caller"


class RecordingMismatchError(SnapservError):
    """Recorded actions are of another simulation, parameters or start, or led elsewhere.

    ``details["differs"]`` says in what.
    """

    code = "recording_mismatch"
    fault: ClassVar[Fault] = "caller"


class UntrustedError(SnapservError):
    """An ipc socket, or a store's folder, may be a stranger's: another user's, or others may write to it."""

    code = "untrusted"
    fault: ClassVar[Fault] = "caller"


class StoreDamagedError(SnapservError):
    """An object of a store is missing, or not what was written; ``details["key"]`` names it."""

    code = "store_damaged"
    fault: ClassVar[Fault] = "machine"


class StoreUnavailableError(SnapservError):
    """A store cannot be read or written now; nothing that was in it has changed.

    ``details["reason"]`` is ``full``, ``refused``, ``network``, ``input_output`` or ``in_use``.
    """

    code = "store_unavailable"
    fault: ClassVar[Fault] = "machine"


class NotPortableError(SnapservError):
    """The process holds what no store can keep; ``details["held"]`` lists it, where it is known."""

    code = "not_portable"
    fault: ClassVar[Fault] = "simulation"


class MachineDiffersError(SnapservError):
    """A stored process relies on what is otherwise here; ``details["differs"]`` says in what."""

    code = "machine_differs"
    fault: ClassVar[Fault] = "machine"


class UnsavedError(SnapservError):
    """The server does not end: nodes would be gone that are not saved; ``details["lost"]`` lists them."""

    code = "unsaved"
    fault: ClassVar[Fault] = "caller"


class StepsLostError(SnapservError):
    """A branch came back on another host of its cluster, without its newest steps; raised by clients, never sent.

    ``details`` has the ``step`` at which it stands now, ``was``, the last one that was acknowledged, how many are
    ``missing``, and the ``host``. The branch that was asked stands for the one that came back.
    """

    code = "steps_lost"
    fault: ClassVar[Fault] = "machine"


ERRORS: dict[str, type[SnapservError]] = {
    error.code: error
    for error in (
        BadRequestError,
        NotFoundError,
        NameTakenError,
        FrozenError,
        BusyError,
        NodeDiedError,
        SimulationError,
        ThreadsRunningError,
        OverBudgetError,
        StepInterruptedError,
        UnauthorizedError,
        VersionMismatchError,
        TooLargeError,
        InternalError,
        UnsupportedError,
        AddressError,
        UnreachableError,
        RequestTimeoutError,
        FaultedError,
        KeysError,
        NotBranchableError,
        RecordingMismatchError,
        UntrustedError,
        StoreDamagedError,
        StoreUnavailableError,
        NotPortableError,
        MachineDiffersError,
        UnsavedError,
        StepsLostError,
    )
}
"""Every error class by its code."""


def error_from_wire(error: Mapping[str, Value]) -> SnapservError:
    """Return the exception that a reply's ``error`` map stands for.

    A code that this version does not know becomes a plain `SnapservError` that keeps it in ``details``.
    """
    code = str(error.get("code", ""))
    details = error.get("details")
    known = dict(details) if isinstance(details, Mapping) else {}
    cls = ERRORS.get(code)
    if cls is None:
        cls, known = SnapservError, {**known, "code": code}
    return cls(str(error.get("message", code)), hint=str(error.get("hint", "")), details=known)


def _rebuild(cls: type[SnapservError], message: str, hint: str, details: dict[str, Any]) -> SnapservError:
    return cls(message, hint=hint, details=details)
