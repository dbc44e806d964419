"""Steps the short way: most need nothing but their branch's cell, and nobody is before them.

Such a step is neither a task nor a future: the cell is asked as soon as the request was read, its answer is the
client's reply, and what is to be noted of either is noted while somebody else is at work. All other steps, and all
that turn out to be none of these, are served as every request is; see `snapserv.server.verbs.run`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, TypeAlias

from snapserv_client.protocol import StepArgs

from ..errors import SnapservError, StepInterruptedError
from ..nodes.process import CellProcess
from ..nodes.tree import Node
from ..nodes.turns import Turn
from ..operations.stepping import Stepping
from .service import Call, Service
from .sessions import Session

VARIABLE = "SNAPSERV_QUICK"
"""``off`` has every step served as all other requests are."""

Conclude: TypeAlias = Callable[["QuickStep", Any, "SnapservError | None"], None]
"""Told what the cell has answered: the result, or the error."""


class QuickStep:
    """One such step while its cell works on it, in the place of a future: it is told of the answer at once.

    ``began`` is when it was asked for.
    """

    __slots__ = ("_conclude", "_given", "_service", "_turn", "began", "call", "cell", "node", "session")

    def __init__(self, service: Service, node: Node, cell: CellProcess, conclude: Conclude) -> None:
        self._service = service
        self._conclude = conclude
        self._given = False
        self._turn: Turn | None = None
        self.node = node
        self.cell = cell
        self.began = time.monotonic()
        self.call: Call
        self.session: Session

    def note(self, call: Call, session: Session) -> None:
        """Take note of the request, which is on its way to the cell by now."""
        self.call, self.session = call, session
        call.stepping = Stepping(self.cell, self.cell.number, call.key)
        call.quick = self
        self._turn = Turn(self._service.nodes.queue(self.node))

    def leave(self) -> None:
        """Have the next request at its branch go on."""
        self.call.stepping = self.call.quick = None
        if self._turn is not None:
            self._turn.leave()

    def done(self) -> bool:
        """Return whether it was answered, or given up."""
        return self._given

    def set_result(self, result: Any) -> None:
        """Take the cell's answer."""
        self._given = True
        self._conclude(self, result, None)

    def set_exception(self, error: SnapservError) -> None:
        """Take the cell's error, or that it has ended, once whoever noticed that has seen to it."""
        self._given = True
        self._service.nodes.processes.loop.call_soon(self._conclude, self, None, error)

    def give_up(self) -> None:
        """Answer now: the server ends."""
        if not self._given:
            self._given = True
            step = self._service.nodes.look(self.node)
            self._conclude(self, None, StepInterruptedError("given up", details={"step": step}))


class QuickSteps:
    """Begins steps the short way where there is nothing in it.

    Args:
        service: What they are served with.
        conclude: Called with each that was answered.
    """

    def __init__(self, service: Service, conclude: Conclude) -> None:
        self._service = service
        self._nodes = service.nodes
        self._conclude = conclude
        self._open = os.environ.get(VARIABLE, "") != "off"

    def ask(self, reference: str | int | None, args: StepArgs, client: bytes, request_id: int) -> QuickStep | None:
        """Ask a branch's cell for ticks, and return the step, of which nothing is noted yet.

        None where it is none of the usual ones, and nothing was done: it may be an error, which is told elsewhere.
        """
        service, nodes = self._service, self._nodes
        atomic = service.options.atomic if args.atomic is None else args.atomic
        if (
            atomic
            or args.progress
            or args.record
            or args.until is not None
            or args.snapshot
            or reference is None
            or not self._open
            or not service.first_tree.is_set()
        ):
            return None
        node = nodes.forest.find(reference)
        if node is None or node.kind != "branch" or node.faulted is not None or node.autosnap is not None:
            return None
        cell = nodes.cell_of(node)
        if cell is None or not cell.idle or nodes.queue(node).busy:
            return None
        key = (client, request_id)
        if key in nodes.processes.answers:
            return None
        step = QuickStep(service, node, cell, self._conclude)
        ticks = args.ticks
        asked = {"ticks": ticks, "inputs": args.inputs, "before": 0, "total": ticks, "within_s": None, "key": key}
        try:
            cell.ask_for(step, "step", asked)
        except SnapservError:
            return None  # inputs that cannot be sent
        return step
