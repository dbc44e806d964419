# Generated from ../aio/blocks.py by generate_sync.py: change that one, and run `make client`.
"""Blocks that branches end with: ``async with await snapshot.branch(4) as branches``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self, TypeVar

from .. import requests
from ..display import NodeDisplay
from ..errors import NotFoundError, SnapservError
from ..protocol import NodeInfo
from .home import Home

Made = TypeVar("Made", bound=NodeDisplay)


class Branches(list[Made]):
    """Branches that were made together: a list, and a block at whose end they are dropped."""

    def __init__(self, server: Home, branches: Iterable[Made], source: NodeInfo | None) -> None:
        super().__init__(branches)
        self._server = server
        self._source = source

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, cause: BaseException | None, trace: TracebackType | None
    ) -> None:
        leave(self._server, self, self._source, cause)


def leave(
    server: Home, branches: Sequence[NodeDisplay], source: NodeInfo | None, cause: BaseException | None
) -> None:
    """Drop branches at the end of their block, and the snapshot that the server took to make them.

    What is gone already is passed over. Snapshots that were taken of them stay, with what was made of those; so
    does the one that the server took, where it was tagged, pinned or saved meanwhile.

    Args:
        server: Where they are.
        branches: What ends.
        source: The snapshot that was taken for them; None where they were made of one that there was.
        cause: What the block raised, which goes on to who is outside of it: what fails here is a note on it.

    Raises:
        SnapservError: One could not be dropped; the others were.
    """
    failed: SnapservError | None = None
    for each in branches:
        try:
            server._run(requests.drop(each.id, recursive=False, force=False))
        except NotFoundError:
            pass
        except SnapservError as error:
            failed = failed or error
    if source is not None and failed is None:
        try:
            now = server._run(requests.info(source.id))
            if not (now.pinned or now.tags or now.durable):
                server._run(requests.drop(source.id, recursive=False, force=False))
        except NotFoundError:
            pass
        except SnapservError as error:
            failed = error
    if failed is not None and cause is None:
        raise failed
    if failed is not None and cause is not None:
        cause.add_note(f"not all of the block's branches were dropped: {failed}")
