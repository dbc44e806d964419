"""Faulted nodes: the simulation raised, and what it left may be anything. Nothing is built upon that unasked.

A faulted node can be read, compared, snapshotted and branched, to look into it; its snapshots and their branches
are faulted as well, since the state is the same. It is not stepped, written, called or marked before it was put
back (`restore`, `reset`, `rewind`) or cleared.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import FaultedError, NodeDiedError, SnapservError, StepInterruptedError, UnsupportedError
from .nodes import Nodes
from .tree import Fault, Node


def refuse_faulted(node: Node, *, unless: bool = False) -> None:
    """Raise FaultedError where what a node holds is not to be built upon.

    ``unless`` is whether what is asked was done already, and left the fault, and was not told.
    """
    if node.fault is not None and not unless:
        raise FaultedError(
            f"{node.path} is faulted since step {node.step:,}: {node.fault.message}",
            hint="restore, reset or rewind it; or look into it, and clear it to go on with what there is",
            details={"message": node.fault.message, "step": node.step},
        )


@contextmanager
def noting_faults(nodes: Nodes, branch: Node) -> Iterator[None]:
    """Mark a branch, whose turn the caller holds, where what is done in it leaves a fault."""
    try:
        yield
    except SnapservError as error:
        note_fault(nodes, branch, error)
        raise


def note_fault(nodes: Nodes, branch: Node, error: SnapservError) -> None:
    """Mark a branch, whose turn the caller holds, where ``error`` says that the simulation raised in the middle.

    It did not where the process ended, where a step stopped between two ticks or what was to be looked at after one
    was not there, where only the result could not be sent, and where the request was refused before any tick: that
    is the caller's fault, or the machine lacks what it takes, and changes nothing.
    """
    ended = branch.death is not None or isinstance(error, NodeDiedError)
    told = error.details
    whole = ended or isinstance(error, StepInterruptedError) or told.get("completed") or told.get("whole")
    refused = (error.fault == "caller" or isinstance(error, UnsupportedError)) and not error.details.get("ticks")
    if not whole and not refused:
        step, traceback = nodes.look(branch), str(told.get("traceback", ""))
        action = told.get("action")
        number = action if isinstance(action, int) else None
        nodes.fault(branch, Fault(error.message, step, time.time(), number, traceback))
