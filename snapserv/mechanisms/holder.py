"""The process behind the mechanism ``fork``: it holds one region of memory, and clones itself when it is asked to.

One thread, few imports and no ZeroMQ, as in `snapserv.cell`: what is mapped is forked.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from ..cell.link import CellEnd, decode
from ..errors import BadRequestError, OverBudgetError, SnapservError
from ..ext import fork
from ..memory.arena import Arena
from ..memory.heap import use_huge_pages
from ..memory.rebasing import Rebaser

CONTROL_DESCRIPTOR = 3


def main() -> NoReturn:
    """Make the region that the first request asks for, then answer requests until the other side hangs up."""
    os.set_inheritable(CONTROL_DESCRIPTOR, False)
    control = CellEnd(CONTROL_DESCRIPTOR)
    try:
        _, header, payload, _ = control.receive()
        request = decode(header, payload)
        try:
            arena = Arena(backing=request["backing"])
            array = arena.allocate("region", np.uint8, (request["size"],))
        except SnapservError as error:
            control.send(fork.REPLY, {"error": error.to_wire()})
            os._exit(1)
        control.send(fork.REPLY, {"ok": {"address": array.ctypes.data, "backing": arena.backing}})
        _serve(control, array, arena)
    except EOFError:
        os._exit(0)


def _serve(control: CellEnd, array: np.ndarray[Any, np.dtype[np.uint8]], arena: Arena) -> NoReturn:
    rebaser = Rebaser(arena)
    while True:
        while rebaser.pending and not control.ready():
            rebaser.advance()
        _, header, payload, descriptor = control.receive()
        request = decode(header, payload)
        try:
            if request["op"] == "freeze":
                if not arena.sealed:  # what was written before the first snapshot is what setup writes elsewhere
                    arena.seal()
                    use_huge_pages(arena.addresses)
                thawed, clone_ns = _freeze(control, descriptor)
                if thawed is None:
                    rebaser.cloned(clone_ns)
                else:  # another process now: a copy of the snapshot, with a socket of its own
                    control.leave()
                    control = CellEnd(thawed)
                    rebaser.thawed()
                continue
            reply: dict[str, Any] = {"ok": _change(array, request)}
        except SnapservError as error:
            reply = {"error": error.to_wire()}
        control.send(fork.REPLY, reply)


def _freeze(control: CellEnd, descriptor: int | None) -> tuple[int | None, int]:
    """Clone a frozen sibling. Whoever asked is answered from C; see `snapserv.ext.fork.freeze`."""
    if descriptor is None:
        raise BadRequestError("a freeze comes with the snapshot's socket")
    try:
        return fork.freeze(control.fileno(), descriptor)
    except OSError as cause:
        raise OverBudgetError(
            f"the kernel made no process: {os.strerror(cause.errno or 0)}",
            hint="raise the limit on processes (ulimit -u, pids.max, kernel.pid_max) or close snapshots",
            details={"errno": cause.errno},
        ) from cause


def _change(array: np.ndarray[Any, np.dtype[np.uint8]], request: Mapping[str, Any]) -> float:
    """Write bytes, or touch some; return the seconds that it took."""
    began = time.perf_counter()
    if request["op"] == "write":
        offset, data = request["offset"], request["data"]
        array[offset : offset + len(data)] = data
    else:
        try:
            array[request["offsets"]] += 1
        except IndexError as cause:
            raise BadRequestError(f"an offset is not within the region: {cause}") from cause
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
