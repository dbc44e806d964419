"""All or nothing: work in a branch that leaves no trace where it fails, whatever the way in which it does.

Before the work the branch is frozen into a *backup*, a cell that is no node of the tree and has no name. If the
work fails, the branch goes on from the backup, under its own name, with the same random streams and without a hook
of the author's; its old process is ended, if it has not ended already. Either way the backup ends with the work.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import structlog

from ..errors import NodeDiedError, RequestTimeoutError, SnapservError, StepInterruptedError
from ..nodes.faults import note_fault
from ..nodes.nodes import Nodes
from ..nodes.process import CellProcess
from ..nodes.records import forget_backup, keep_backup
from ..nodes.tree import Node

log = structlog.get_logger(__name__)
T = TypeVar("T")

MOST_TRIES = 3


async def atomically(
    nodes: Nodes, branch: Node, work: Callable[[], Awaitable[T]], *, deadline_s: float | None = None
) -> T:
    """Do some work in a branch, whose turn the caller holds: all of it, or nothing.

    Args:
        nodes: Where the branch is.
        branch: It is not faulted.
        work: Asks the branch's cell for something.
        deadline_s: When the work is ended, by the event loop's clock.

    Raises:
        RequestTimeoutError: The deadline has passed; the process was killed, and the branch rolled back.
        SnapservError: What the work met, with the step at which the branch stands again: ``rolled_back_to`` in the
            details, None where the backup was lost as well. Or there could be no backup, and nothing was begun.
    """
    step = nodes.look(branch)
    if deadline_s is not None and asyncio.get_running_loop().time() >= deadline_s:
        raise _too_late("its turn came too late, and nothing was begun", step)
    cell, heirs = nodes.cell(branch), nodes.processes.leftovers.heirs
    try:
        backup, fork_us = await nodes.processes.freeze(cell)
    except NodeDiedError as cause:
        if cell.ended.done():
            raise
        details = {"step": step, "rolled_back_to": step}
        raise NodeDiedError("the copy to roll back to ended; nothing was begun", details=details) from cause
    nodes.counters.count_fork(fork_us)
    heirs[cell.pid] = None  # what it has started goes on, with whichever process goes on from here
    keep_backup(nodes.ledger, branch, backup, step)
    try:
        async with asyncio.timeout_at(deadline_s):
            return await work()
    except TimeoutError as cause:
        error = _too_late("it ran for too long and was ended", None)
        raise await _undisturbed(_roll_back(nodes, branch, backup, step, error)) from cause
    except SnapservError as error:
        raise await _undisturbed(_roll_back(nodes, branch, backup, step, error)) from error
    except asyncio.CancelledError as cause:
        raise await _undisturbed(
            _roll_back(nodes, branch, backup, step, StepInterruptedError("given up"))
        ) from cause
    finally:
        forget_backup(nodes.ledger, branch)
        successor = nodes.cell_of(branch)
        if successor is None or successor is cell:
            del heirs[cell.pid]
        else:
            heirs[cell.pid] = successor
        nodes.in_background(nodes.processes.end(backup))


async def _roll_back(
    nodes: Nodes, branch: Node, backup: CellProcess, step: int, error: SnapservError
) -> SnapservError:
    """Put a branch back, and return what its client is to be told."""
    details = {"step": nodes.look(branch), **error.details}
    try:
        await _resume(nodes, branch, backup, step)
    except SnapservError as lost:
        log.warning("not_rolled_back", node=branch.path, step=step, error=lost.message)
        if isinstance(error, RequestTimeoutError):
            await _kill(nodes, branch)
        else:
            note_fault(nodes, branch, error)
        message = f"{error.message}; {branch.path} could not be rolled back: {lost.message}"
        return type(error)(message, hint=error.hint, details={**details, "rolled_back_to": None})
    log.info("rolled_back", node=branch.path, step=step, code=error.code)
    return type(error)(
        f"{error.message}; {branch.path} is rolled back to step {step:,}",
        hint=error.hint
        if error.hint and error.fault == "caller"
        else "nothing is left of it: it can be tried again",
        details={**details, "rolled_back_to": step},
    )


async def _resume(nodes: Nodes, branch: Node, backup: CellProcess, step: int) -> None:
    """Have the branch go on from the backup; again if only the new process was killed, and the backup lives."""
    for left in reversed(range(MOST_TRIES)):
        try:
            await nodes.resume(branch, backup, step=step)
        except NodeDiedError:
            if backup.ended.done() or not left:
                raise
        else:
            return


async def _kill(nodes: Nodes, branch: Node) -> None:
    """End the process of a branch that does not stop by itself."""
    with contextlib.suppress(NodeDiedError):  # it has ended already
        cell = nodes.cell(branch)
        cell.kill()
        await asyncio.shield(cell.ended)


async def _undisturbed(work: Coroutine[Any, Any, T]) -> T:
    """Await what must not be left half done, also where whoever waits for it is told to give up meanwhile."""
    task = asyncio.get_running_loop().create_task(work)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([task])
    return task.result()


def _too_late(message: str, step: int | None) -> RequestTimeoutError:
    details = {} if step is None else {"step": step, "rolled_back_to": step}
    return RequestTimeoutError(message, hint="give it longer, or fewer ticks", details=details)
