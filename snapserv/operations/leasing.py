"""Leases: a client talks to a branch's cell without the server, which holds the branch's turn for it meanwhile.

A lease is given up as soon as anybody else wants the branch: it spares the way through the server, and changes
nothing in who comes when. What the server has to know of it, the cell says when it is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from asyncio import Future
from collections import deque
from typing import Any

import structlog

from ..errors import SnapservError, StepInterruptedError, error_from_wire
from ..nodes.answers import Answer
from ..nodes.faults import note_fault
from ..nodes.nodes import Nodes
from ..nodes.process import CellProcess, RequestKey
from ..nodes.tree import Node

log = structlog.get_logger(__name__)

MOST_MISSED = 256
"""So many answers that no client has got are kept for a retry."""


GIVES_WAY_WITHIN_S = 0.1
"""A cell that nobody asks anything ends a lease in far less."""


class Lease:
    """One client's lease of a branch."""

    def __init__(self, cell: CellProcess, node: Node, client: bytes, theirs: socket.socket) -> None:
        self.client = client
        self._cell = cell
        self._yielding: Future[Any] | None = None
        self._over: Future[dict[str, Any]] = cell.ask("lease", descriptor=theirs, client=client, path=node.path)
        self._number = cell.number

    async def interrupt(self) -> bool:
        """Have what runs stop after its tick, and the lease end with it; return whether anything ran."""
        self._cell.interrupt(self._number)
        if not await self.gives_way():
            return True
        error = None if self._over.exception() is not None else self._over.result()["error"]
        return error is not None and error["code"] == StepInterruptedError.code

    async def gives_way(self) -> bool:
        """Have it end, and return whether it has soon: it has not where something runs that takes its time."""
        self.end()
        await asyncio.wait((self._over,), timeout=GIVES_WAY_WITHIN_S)
        return self._over.done()

    def end(self) -> None:
        """Have it end after the request that runs."""
        if self._yielding is None:
            self._yielding = self._cell.ask("yield")
            self._yielding.add_done_callback(_look_at)

    async def ended(self) -> dict[str, Any]:
        """Wait until it is over, and the cell has nothing of it any more; return what there is to know of it.

        Raises:
            NodeDiedError: The process has ended.
        """
        told = await self._over
        if self._yielding is not None:
            await self._yielding
        return told


class Leases:
    """The leases of a server.

    Args:
        nodes: Its nodes.
    """

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._held: dict[int, Lease] = {}
        self._missed: deque[RequestKey] = deque()

    def begin(self, node: Node, client: bytes, turn: contextlib.AsyncExitStack) -> socket.socket:
        """Have a client lease a branch; return its end of the line.

        Args:
            node: The branch, not faulted, that takes no snapshots by itself.
            client: Whom it is for.
            turn: The branch's turn, which is left when the lease is over.
        """
        cell, queue = self._nodes.cell(node), self._nodes.queue(node)
        ours, theirs = socket.socketpair()
        self._held[node.id] = lease = Lease(cell, node, client, theirs)
        queue.wanted = lease.end
        if len(queue.turns) > 1:
            lease.end()
        self._nodes.in_background(self._until_over(node, lease, turn))
        return ours

    def of(self, node: Node) -> Lease | None:
        """Return the lease of a branch, if there is one."""
        return self._held.get(node.id)

    async def _until_over(self, node: Node, lease: Lease, turn: contextlib.AsyncExitStack) -> None:
        nodes = self._nodes
        async with turn:
            try:
                told = await lease.ended()
            except SnapservError as error:
                log.info("lease_ended", node=node.path, why=error.message)  # the process has ended
                return
            finally:
                del self._held[node.id]
                nodes.queue(node).wanted = None
            nodes.counters.steps += told["ticks"]
            if told["error"] is not None:
                note_fault(nodes, node, error_from_wire(told["error"]))
            if told["missed"] is not None:
                request, reply = told["missed"]
                self._remember((lease.client, request), reply)
            nodes.look(node)

    def _remember(self, key: RequestKey, reply: dict[str, Any]) -> None:
        """Keep what a client did not get, for when it asks the server: it is not done a second time."""
        nodes = self._nodes
        nodes.processes.answers[key] = Answer(reply)
        with nodes.ledger.at_once():
            nodes.ledger.put("answer", key, lambda: [0, reply])
        self._missed.append(key)
        if len(self._missed) > MOST_MISSED:
            nodes.answered(self._missed.popleft())


def _look_at(answer: Future[Any]) -> None:
    """Have nobody complain that an answer was an error."""
    if not answer.cancelled():
        answer.exception()
