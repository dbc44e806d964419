"""How a child of an expansion goes back to where it stood, and does there what had it go back.

Nothing of its memory is left but a note: the request itself, as it came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from snapserv_client.errors import SnapservError

from ..errors import BadRequestError
from ..ext import fork
from .link import PREFIX, Prefix, decode, encode


def go_back(request: Mapping[str, Any]) -> NoReturn:
    """Take this whole process back to its mark, where `begin_again` does what a request asks.

    What it is to play stays behind where that is too much for a note, and the server asks for it again.

    Raises:
        BadRequestError: It cannot be taken back; nothing has changed.
    """
    told = {name: value for name, value in request.items() if name != "again"}
    note = b"".join(encode(fork.REQUEST, told))
    if len(note) > fork.MOST_NOTE:
        del told["play"]
        note = b"".join(encode(fork.REQUEST, told))
    try:
        fork.reset_in_place(note)
    except fork.CannotResetError as cause:
        raise BadRequestError(f"the process cannot be reset in place: {cause}") from cause


def begin_again(
    note: bytes,
    begin: Callable[[dict[str, Any], None], dict[str, Any]],
    play: Callable[[dict[str, Any], None], Any],
) -> dict[str, Any]:
    """Begin as a note says, and play what is in it; return what both came to.

    Raises:
        SnapservError: What beginning raised. What playing did is ``failed`` in what is returned.
    """
    prefix = Prefix(*PREFIX.unpack_from(note))
    start = PREFIX.size + prefix.header_bytes
    request = decode(memoryview(note)[PREFIX.size : start], memoryview(note)[start:])
    begun = begin(request, None)
    if "play" not in request:
        return begun
    try:
        return {**begun, "played": play(request["play"], None)}
    except SnapservError as error:
        return {**begun, "failed": error.to_wire()}
