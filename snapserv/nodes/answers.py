"""What a cell answers, and what becomes of it: a result, a typed error, or why there is no process."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import NotBranchableError, SnapservError, error_from_wire
from ..machine.limits import cannot_clone


class Answered(Protocol):
    """What is told of a cell's answer: a future, or whoever does without one."""

    def done(self) -> bool:
        """Return whether the answer is wanted no more."""

    def set_result(self, result: Any, /) -> None:
        """Take the answer."""

    def set_exception(self, error: Any, /) -> None:
        """Take the error that there is in its place."""


@dataclass
class Answer:
    """What a cell did for an earlier server, and did not tell: part of what was asked, and the end of it.

    ``given`` is whether whoever does the rest of it has had it.
    """

    reply: dict[str, Any]
    given: bool = False


def failure(number: int, descriptor: int) -> SnapservError:
    """Return why there is no process: the kernel made none, or a file could not be opened again."""
    cause = OSError(number, os.strerror(number))
    if descriptor < 0:
        return cannot_clone(cause)
    return NotBranchableError(
        f"the file of descriptor {descriptor} cannot be opened again, for an offset of its own: {cause.strerror}",
        hint="close it before setup and step return, or open it so that this user may open it again",
        details={"descriptor": descriptor, "errno": number},
    )


def resolve(reply: Answered, answer: Mapping[str, Any]) -> None:
    """Give whoever waits for ``reply`` what a cell answered: its result, or its error."""
    if reply.done():
        return  # given up by whoever asked
    if "error" in answer:
        reply.set_exception(error_from_wire(answer["error"]))
    else:
        reply.set_result(answer["ok"])
