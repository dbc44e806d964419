"""What the author's code raises, as a typed error that says where it was raised."""

from __future__ import annotations

import traceback

from ..errors import SimulationError, SnapservError
from .leaving import leave

MOST_TRACEBACK = 16_000


class AuthorsCode:
    """Turns what the author's code raises into a typed error that names ``what`` was run."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, cause: BaseException | None, _: object) -> None:
        if cause is not None and not isinstance(cause, EOFError):
            raise blame(cause, self._what) from cause


def blame(cause: BaseException, what: str) -> SnapservError:
    """Return the error to report for ``cause``, raised in ``what``; a process that wants to exit may."""
    if isinstance(cause, SnapservError):
        return cause
    if isinstance(cause, SystemExit):
        leave(cause.code if isinstance(cause.code, int) else 0 if cause.code is None else 1)
    text = "".join(traceback.format_exception(cause))
    return SimulationError(
        f"{what} raised {type(cause).__name__}: {cause}",
        hint="the traceback is in details",
        details={"type": type(cause).__name__, "traceback": text[-MOST_TRACEBACK:]},
    )
