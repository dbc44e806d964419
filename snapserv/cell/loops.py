"""Event loops of asyncio that a simulation has: each clone goes on with loops of its own.

A loop's epoll and the socket pair by which it is woken are its own affair: nobody else has them, and between two
requests no loop runs. So a branch makes them anew, under the same numbers. asyncio also forgets the current loop in
a forked child (Python 3.12); a branch is no child but goes on, so `snapserv.ext.fork` puts it back.
"""

from __future__ import annotations

import os
import sys
from typing import Any

_loops: list[Any] = []


def descriptors() -> frozenset[int]:
    """Return the descriptors of the loops that there are: asyncio's own kinds alone, which can be made anew."""
    events = sys.modules.get("asyncio.selector_events")
    if events is None:
        return frozenset()
    import gc

    kind = events.BaseSelectorEventLoop
    # Those from before the last clone are frozen, and not listed; they are remembered.
    # Only their types are asked: an object may answer for its class itself, and raise, or load something.
    _loops.extend(each for each in gc.get_objects() if issubclass(type(each), kind) and each not in _loops)
    _loops[:] = [each for each in _loops if not each.is_closed() and _selector(each) is not None]
    return frozenset(
        number
        for each in _loops
        for number in (_selector(each).fileno(), each._ssock.fileno(), each._csock.fileno())
    )


def renew() -> None:
    """Give each loop an epoll and a pair of sockets of its own, in a process that has just been cloned."""
    if not _loops:
        return
    import select
    import socket

    for loop in _loops:
        if loop.is_closed():
            continue
        for made, place in zip(socket.socketpair(), (loop._ssock, loop._csock), strict=True):
            with made:
                made.setblocking(False)
                os.dup2(made.fileno(), place.fileno(), inheritable=False)
        selector = _selector(loop)
        watching = select.epoll()
        try:
            for key in loop._selector.get_map().values():
                watching.register(key.fd, _mask(select, key.events))
            os.dup2(watching.fileno(), selector.fileno(), inheritable=False)
        finally:
            watching.close()


def _selector(loop: Any) -> Any:
    """Return the epoll of a loop; None where it waits by other means."""
    inner = getattr(loop._selector, "_selector", None)
    return inner if type(inner).__name__ == "epoll" else None


def _mask(select: Any, events: int) -> int:
    import selectors

    reads = select.EPOLLIN if events & selectors.EVENT_READ else 0
    return int(reads | (select.EPOLLOUT if events & selectors.EVENT_WRITE else 0))
