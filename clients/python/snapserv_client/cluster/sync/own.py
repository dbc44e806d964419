"""What the synchronous cluster does its own way; all else is generated from the asyncio one.

An expansion over hosts has a thread for as long as it runs, with an event loop: many requests are in flight.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

from ...protocol import Outcome
from ...sync.own import blocking
from ..expanding import Expansion

__all__ = ["blocking", "play", "together"]


def together(works: Sequence[Callable[[], Any]]) -> list[Any]:
    """Do several things one after the other, and return what each returns: connections are of one thread."""
    return [work() for work in works]


def play(expansion: Expansion, on_outcome: Callable[[Outcome], None]) -> None:
    """Have an expansion be played; its outcomes are given out as they come. Ctrl-C ends it."""
    arrived: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
    failed: list[BaseException] = []
    loop = asyncio.new_event_loop()
    task = loop.create_task(expansion.run(arrived.put))

    def work() -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(task)
        except BaseException as error:  # noqa: BLE001 - it is raised where somebody waits for it
            failed.append(error)
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
            arrived.put(None)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (outcome := arrived.get()) is not None:
            on_outcome(outcome)
    except BaseException:
        if not loop.is_closed():
            loop.call_soon_threadsafe(task.cancel)
        thread.join()
        raise
    thread.join()
    if failed:
        raise failed[0]
