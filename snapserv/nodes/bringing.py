"""Cells that come out of a store: new processes that a script makes what an image says, or clones of a relative."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..cell.link import LEDGER_DESCRIPTOR
from ..errors import SnapservError
from ..ext import LOADER
from ..machine.descriptors import socket_pair
from ..machine.limits import cannot_clone
from ..machine.locked_folders import make_shared, share_or_make
from ..machine.oom import SNAPSHOT, prefer
from .process import CellProcess
from .process_table import ProcessTable
from .stacks import TEMPORARY, Stacks, temporary_root
from .temporaries import Temporaries


def new_temporaries(
    table: ProcessTable, described: Mapping[str, Any]
) -> tuple[Temporaries | None, Mapping[str, Any]]:
    """Return folders for temporary files of a tree that comes out of a store, and what its master would say now.

    Raises:
        OverBudgetError: They cannot be made.
    """
    if described.get("temporary") is None:
        return None, described
    root, held = make_shared(table.stores.name(TEMPORARY))
    now = {**described, "temporary": {**described["temporary"], "root": root}}
    return Temporaries(table.stores, now["temporary"], held=held), now


def new_stacks(table: ProcessTable, described: Mapping[str, Any]) -> Stacks:
    """Return layers, without owners yet, for folders that come out of a store.

    Where its folder for temporary files was branched, a process has that at the path that it had, made again.

    Args:
        table: Whose cells will stand on them.
        described: What was said of the folders where they were saved.

    Raises:
        OverBudgetError: There is no place for them.
    """
    places = table.stores.name()
    before = os.path.dirname(described["store"])
    store, lock = make_shared(sorted(places, key=lambda place: os.path.dirname(place) != before))
    held, bottom = [lock], []
    for path in described["paths"]:
        if (root := temporary_root(path)) is not None:
            held.append(share_or_make(root))
            bottom.append(root)
    return Stacks(table.stores, {**described, "store": store, "bottom": bottom, "loaded": True}, held)


async def revive(
    table: ProcessTable,
    script: int,
    above: int,
    explain: Callable[[int, int], SnapservError],
    relative: CellProcess | None,
) -> CellProcess:
    """Make a frozen cell of a script that brings one back from its image.

    Args:
        table: Where it belongs.
        script: The script's memfd, closed here.
        above: The least number that it and the socket may have in the new process.
        explain: Says what it means that one of its operations failed: the error's number, and which one.
        relative: A frozen cell that becomes it in a clone; None where a new process does.

    Raises:
        SnapservError: What ``explain`` says, or the kernel made no process.
    """
    try:
        await table.admit("a node that is brought back", relative)
        ours, theirs = socket_pair()
    except BaseException:
        os.close(script)
        raise
    cell = CellProcess(table, ours)
    cell.explain = explain
    try:
        if relative is None:
            cell.adopt(_load(table, script, theirs, above))
            table.leftovers.sessions.add(cell.pid)
        else:
            relative.ask_to_become(theirs, script, above)
        await cell.introduced()
        if relative is not None:
            cell.shares_with, cell.child = [relative], relative.child
        with contextlib.suppress(OSError):
            prefer(cell.pid, SNAPSHOT, table.own_score)
        cell.settle(table.waiting["adoption"], table.waiting["orphan_grace_s"])
        cell.rest()
    except BaseException:
        cell.kill()
        if cell.pid:
            await asyncio.shield(cell.ended)
        raise
    return cell


def _load(table: ProcessTable, script: int, control: socket.socket, above: int) -> int:
    """Start the loader, and close what it was given here."""
    try:
        with _moved(script, control.fileno(), table.ledger.descriptor, above=above + 2) as given:
            return os.posix_spawn(
                LOADER,
                [LOADER, str(above), str(above + 1)],
                {},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, given[0], above),
                    (os.POSIX_SPAWN_DUP2, given[1], above + 1),
                    (os.POSIX_SPAWN_DUP2, given[2], LEDGER_DESCRIPTOR),
                ],
                setsid=True,
            )
    except OSError as cause:
        raise cannot_clone(cause) from cause
    finally:
        os.close(script)
        control.close()


@contextlib.contextmanager
def _moved(*descriptors: int, above: int) -> Iterator[list[int]]:
    """Have descriptors at numbers that are out of the way of those that they are to get elsewhere."""
    moved = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, above) for each in descriptors]
    try:
        yield moved
    finally:
        for each in moved:
            os.close(each)
