"""A client's request to step: one asking of the cell, or several where automatic snapshots fall due in between."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from snapserv_client.protocol import RunArgs, Series, StepArgs, StepResult

from ..cell.ticks import PROGRESS_EVERY_S, looked_at
from ..errors import StepInterruptedError
from ..nodes.faults import noting_faults
from ..nodes.nodes import Nodes
from ..nodes.process import CellProcess, RequestKey
from ..nodes.tree import Node
from . import autosnap
from .atomic import atomically


@dataclass(eq=False, slots=True)
class Stepping:
    """What an interrupt reaches: the cell that works on a request, and the number of the piece that it is at.

    ``key`` says whose request it is, where it is done at most once. ``interrupted`` also reaches a request that is
    between two pieces. ``held`` is what the cell was found to hold that no clone could have.
    """

    cell: CellProcess
    number: int = 0
    key: RequestKey | None = None
    interrupted: bool = False
    held: list[dict[str, str]] = field(default_factory=list)

    def ask(self, op: str, **arguments: Any) -> Awaitable[Any]:
        """Ask the cell for the next piece."""
        self.number = self.cell.number + 1
        return self.cell.ask(op, key=self.key, **arguments)

    def interrupt(self) -> None:
        """Have it stop after the tick that runs."""
        self.interrupted = True
        self.cell.interrupt(self.number)


async def step(
    nodes: Nodes,
    branch: Node,
    stepping: Stepping,
    args: StepArgs | RunArgs,
    *,
    atomic: bool,
    deadline_s: float | None,
) -> StepResult:
    """Run the ticks that a client asks for in a branch, whose turn the caller holds.

    An atomic step is not cut: a snapshot that falls due in it is taken at its end. It alone has a deadline, since
    it can be ended at any time.

    Raises:
        SnapservError: What the simulation met, or what kept an atomic step from beginning.
    """
    before = nodes.look(branch)
    kind = _Sequence if isinstance(args, RunArgs) else _Ticks
    if atomic:
        work = kind(nodes, branch, stepping, args, whole=True)
        await atomically(nodes, branch, work.run, deadline_s=deadline_s)
        await autosnap.keep_up(nodes, branch, before)
    else:
        work = kind(nodes, branch, stepping, args, whole=False)
        with noting_faults(nodes, branch):
            await work.run()
    return work.result


class _Ticks:
    """The ticks of one request; ``result`` is what has come of them so far."""

    def __init__(self, nodes: Nodes, branch: Node, stepping: Stepping, args: Any, *, whole: bool) -> None:
        self._nodes = nodes
        self._branch = branch
        self._stepping = stepping
        self._args = args
        self._whole = whole
        self._reported = time.monotonic()
        self.result = StepResult(nodes.look(branch), 0, {}, 0)

    async def run(self) -> None:
        """Run all of them, or fewer where the simulation is finished."""
        result, total = self.result, self._total
        while result.ticks < total:
            if self._stepping.interrupted:
                raise StepInterruptedError(
                    f"interrupted after {result.ticks:,} of {total:,} ticks",
                    details={"step": result.step, "ticks": result.ticks},
                )
            self._report()
            done, more = await self._piece(total - result.ticks)
            if not self._whole:
                await autosnap.keep_up(self._nodes, self._branch, result.step - done)
            if not more:
                return

    def _report(self) -> None:
        """Report progress between pieces, each of which can be too short for the cell to do so."""
        report, now = self._stepping.cell.on_progress, time.monotonic()
        if report is not None and now - self._reported >= PROGRESS_EVERY_S:
            self._reported = now
            report(self.result.ticks, self._total)

    async def _piece(self, left: int) -> tuple[int, bool]:
        """Run some of the ticks that are left.

        Returns:
            How many were done, also by an earlier server, and whether there may be more: the simulation can be
            finished.
        """
        result = self.result
        ticks, within_s = (left, None) if self._whole else autosnap.piece(self._branch, result.step, left)
        op, asked = self._asked(ticks)
        done = await self._stepping.ask(
            op, **asked, before=result.ticks, total=self._total, within_s=within_s, **looked_at(self._args)
        )
        result.ticks = done.get("before", result.ticks)  # an earlier server had done so much of it already
        self._nodes.counters.steps += done["ticks"]
        result.elapsed_us += done["elapsed_us"]
        self._stepping.held += done.get("held", ())
        self._add_records(done.get("series"))
        result.stopped = done.get("stopped", result.stopped)
        if done["ticks"] or not result.ticks:
            result.step = done["step"]
            self._put_out(done["outputs"])
            result.ticks += done["ticks"]
        return done["ticks"], bool(done["ticks"]) and not result.stopped and (ticks < left or within_s is not None)

    @property
    def _total(self) -> int:
        total: int = self._args.ticks
        return total

    def _asked(self, ticks: int) -> tuple[str, dict[str, Any]]:
        """Return what a cell is asked for so many of the ticks that are left."""
        return "step", {"ticks": ticks, "inputs": self._args.inputs}

    def _put_out(self, outputs: Any) -> None:
        """Take note of what a piece has put out."""
        self.result.outputs = outputs

    def _add_records(self, more: dict[str, Any] | None) -> None:
        """Add the rows of another piece to those that there are."""
        if more is None:
            return
        found, series = msgspec.convert(more, Series), self.result.series
        if series is None:
            self.result.series = found
        elif len(found.steps):
            series.every = found.every
            series.steps = np.concatenate((series.steps, found.steps))
            for name, values in found.columns.items():
                series.columns[name] = np.concatenate((series.columns[name], values))


class _Sequence(_Ticks):
    """One request for a tick with each of several inputs."""

    @property
    def _total(self) -> int:
        return len(self._args.inputs)

    def _asked(self, ticks: int) -> tuple[str, dict[str, Any]]:
        done = self.result.ticks
        return "run", {"inputs": self._args.inputs[done : done + ticks]}

    def _put_out(self, outputs: dict[str, Any]) -> None:
        there, before = self.result.outputs, self.result.ticks
        if not before:
            self.result.outputs = outputs
            return
        more = len(next(iter(outputs.values()), ()))
        for name in dict.fromkeys((*there, *outputs)):
            one, other = there.get(name, [None] * before), outputs.get(name, [None] * more)
            there[name] = _joined(one, other)


def _joined(one: Any, other: Any) -> Any:
    """Return two columns as one: an array, where both are arrays of the same kind of values."""
    arrays = isinstance(one, np.ndarray) and isinstance(other, np.ndarray)
    if arrays and (one.dtype, one.shape[1:]) == (other.dtype, other.shape[1:]):
        return np.concatenate((one, other))
    return [*one, *other]
