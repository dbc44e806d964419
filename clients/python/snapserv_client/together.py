"""Requests to several branches at the same time, each to the branch's process where this client may ask that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .direct import ElsewhereError, LeaseOverError, goes_directly
from .errors import SnapservError
from .requests import Request
from .sync.branch import DirectBranch
from .sync.own import Stream


def run_together(branches: Sequence[DirectBranch], wanted: Sequence[Request[Any]]) -> list[Any]:
    """Send a request to each of several branches of one connection, and wait for all of their results, in order.

    Raises:
        SnapservError: The first error, once all are answered.
    """
    found = [
        each._leased() if goes_directly(request) else None for each, request in zip(branches, wanted, strict=True)
    ]
    streams = [stream for stream in found if stream is not None]
    if len(streams) < len(wanted):
        return branches[0].run_together(wanted)
    connection = branches[0]._server._connection
    waiting: list[tuple[Stream, int]] = []
    results: list[Any] = []
    failed: SnapservError | None = None
    try:
        for stream, request in zip(streams, wanted, strict=True):
            waiting.append((stream, connection.next_id()))
            stream.begin(request, waiting[-1][1])
        for request in wanted:
            stream, request_id = waiting[0]
            try:
                try:
                    reply = stream.end(request, request_id, None, None)
                    reply.tell()
                    results.append(request.understand(reply.ok))
                except (LeaseOverError, ElsewhereError):
                    results.append(connection.run(request, request_id=request_id))
            except SnapservError as error:
                failed = failed or error
            del waiting[0]
    finally:
        for stream, _ in waiting:  # where the waiting was broken off, late replies are nobody's
            stream.close()
    if failed is not None:
        raise failed
    return results
