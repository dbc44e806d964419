"""What the author's code raises, as a typed error that says where it was raised."""

from __future__ import annotations

import os
import traceback

from ..errors import SimulationError, SnapservError
from .leaving import leave

MOST_TRACEBACK = 16_000
OURS = f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}{os.sep}"
EXAMPLES = f"{OURS}examples{os.sep}"
FROZEN = "<frozen importlib"


class AuthorsCode:
    """Turns what the author's code raises into a typed error that names ``what`` was run."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, cause: BaseException | None, _: object) -> None:
        if cause is not None and not isinstance(cause, EOFError):
            raise blame(cause, self._what) from cause


def named(cause: BaseException) -> str:
    """Return what an exception is and says; where it says nothing, as of `assert`, the line that raised it."""
    if said := str(cause):
        return f"{type(cause).__name__}: {said}"
    frames = traceback.extract_tb(cause.__traceback__)
    if not frames:
        return type(cause).__name__
    last = frames[-1]
    line = f": {last.line}" if last.line else ""
    return f"{type(cause).__name__} at {os.path.basename(last.filename)}:{last.lineno}{line}"


def lacking(cause: BaseException) -> str:
    """Return what to do about a module that is not installed; "" where that is not what is wrong."""
    if not isinstance(cause, ModuleNotFoundError) or cause.name is None:
        return ""
    return f"install what brings the module {cause.name!r}, where the server runs"


def blame(cause: BaseException, what: str) -> SnapservError:
    """Return the error to report for ``cause``, raised in ``what``; a process that wants to exit may."""
    if isinstance(cause, SnapservError):
        return cause
    if isinstance(cause, SystemExit):
        leave(cause.code if isinstance(cause.code, int) else 0 if cause.code is None else 1)
    return SimulationError(
        f"{what} raised {named(cause)}",
        hint=lacking(cause),
        details={"type": type(cause).__name__, "traceback": authors_traceback(cause)},
    )


def authors_traceback(cause: BaseException) -> str:
    """Return the traceback of what an author's code raised, from their own first frame on.

    What led there is left out: calls of ours, and of Python's import; of each exception that is told along as well.
    """
    told = traceback.TracebackException.from_exception(cause)
    waiting, seen = [told], set[int]()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        frames = list(each.stack)
        first = next((index for index, frame in enumerate(frames) if not _leads_there(frame.filename)), None)
        if first is not None:
            each.stack = traceback.StackSummary.from_list(frames[first:])
        elif isinstance(cause, SyntaxError):  # which names its line itself
            each.stack = traceback.StackSummary()
        waiting += [other for other in (each.__cause__, each.__context__, *(each.exceptions or ())) if other]
    return "".join(told.format())[-MOST_TRACEBACK:]


def _leads_there(filename: str) -> bool:
    """Return whether a frame is of what calls the author's code, and not of that."""
    return filename.startswith((OURS, FROZEN)) and not filename.startswith(EXAMPLES)
