"""A client with nodes of its own: nobody else changes these, so that the model knows what every reply must be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from snapserv_client import protocol, requests
from snapserv_client.aio import Server, connect
from snapserv_client.errors import NodeDiedError, SnapservError
from snapserv_client.requests import Request

from .model import Model, ModelNode, State
from .report import FaultFoundError, Report
from .schedule import Operation

T = TypeVar("T")
E = TypeVar("E", bound=SnapservError)

CONNECT_WITHIN_S = 60.0
SETTLE_WITHIN_S = 60.0
POLL_S = 0.02

Do = Callable[["Client", tuple[int, ...]], Awaitable[None]]
OPERATIONS: dict[str, Do] = {}
"""How each kind of operation is done."""


def operation(kind: str) -> Callable[[Do], Do]:
    """Register how operations of a kind are done."""

    def register(do: Do) -> Do:
        OPERATIONS[kind] = do
        return do

    return register


class Client:
    """One client; its operations are in `work` and `perils`.

    Args:
        name: What the names of its nodes begin with.
        server: Its connection.
        keys: The folder of its keys, for further connections.
        model: Shared by all clients.
        report: Where requests are counted.
        commons: Snapshots of nobody, which are never dropped, and which all clients may use.
    """

    def __init__(
        self, name: str, server: Server, keys: Path, model: Model, report: Report, commons: list[ModelNode]
    ) -> None:
        self.name = name
        self.server = server
        self.keys = keys
        self.model = model
        self.report = report
        self.commons = commons
        self.own: dict[int, ModelNode] = {}
        self.others: list[Client] = []
        self._names = 0

    @staticmethod
    async def connect(
        name: str, endpoint: str, keys: Path, model: Model, report: Report, commons: list[ModelNode]
    ) -> Client:
        """Connect, and make a first branch."""
        server = await connect(endpoint, keys=keys, timeout_s=CONNECT_WITHIN_S, request_timeout_s=None)
        client = Client(name, server, keys, model, report, commons)
        await client.make_branch(commons[0])
        return client

    async def do(self, wanted: Operation) -> None:
        """Do one operation, and check what comes of it.

        Raises:
            FaultFoundError: Something that the model rules out.
        """
        try:
            await OPERATIONS[wanted.kind](self, wanted.draws)
        except SnapservError as error:
            raise FaultFoundError("surprise", f"{self.name}, {wanted.kind}: {error.code}: {error}") from error

    # ----------------------------------------------------------------------------------------------- requests

    async def ask(self, request: Request[T]) -> T:
        """Ask for something; return the result."""
        self.report.done["requests"] += 1
        return await self.server._connection.run(request)

    async def refused(self, request: Request[Any], kind: type[E]) -> E:
        """Ask for something that must be refused; return the error."""
        try:
            result = await self.ask(request)
        except kind as error:
            return error
        raise FaultFoundError("surprise", f"{self.name}: {request.verb} gave {result!r}, not {kind.code}")

    async def info(self, node: ModelNode) -> protocol.NodeInfo:
        """Return what the server knows of a node."""
        return (await self.ask(requests.lineage(node.id)))[-1]

    def check(self, condition: bool, text: str) -> None:
        """Check what must be so."""
        if not condition:
            raise FaultFoundError("surprise", f"{self.name}: {text}")

    def check_stepped(self, node: ModelNode, before: int, wanted: int, step: int) -> None:
        """Check that ticks were run, all of them, and once."""
        if step > before + wanted:
            raise FaultFoundError("applied twice", f"{node.name}: step {step}, after {wanted} ticks from {before}")
        self.check(step == before + wanted, f"{node.name}: step {step}, after {wanted} ticks from {before}")

    def check_state(self, node: ModelNode, state: State, census: dict[str, Any]) -> None:
        """Check a census of a node, whose state is to be ``state``."""
        if not (state.same_bytes(census["cloth"], census["count"]) and census["knot"] == state.knot):
            raise FaultFoundError("wrong bytes", f"{node.name} at step {census['count']}, expected {state.count}")

    # -------------------------------------------------------------------------------------------------- nodes

    def fresh_name(self) -> str:
        """Return a name that no other node has."""
        self._names += 1
        return f"{self.name}-{self._names}"

    def branches(self, *, alive: bool = True) -> list[ModelNode]:
        """Return its branches."""
        return [node for node in self.own.values() if node.kind == "branch" and (node.alive or not alive)]

    def snapshots(self, *, alive: bool = True) -> list[ModelNode]:
        """Return its snapshots."""
        return [node for node in self.own.values() if node.kind == "snapshot" and (node.alive or not alive)]

    def usable(self) -> list[ModelNode]:
        """Return the snapshots that can be branched or restored: its own, and those of nobody."""
        return self.snapshots() + self.commons

    async def live_branch(self, draw: int) -> ModelNode:
        """Return one of its branches; where it is dead, the server must say so, and it is revived first."""
        branches = self.branches(alive=False)
        chosen = branches[draw % len(branches)]
        if chosen.dead:
            error = await self.refused(requests.step(chosen.id, 1, {}, progress=False), NodeDiedError)
            self.check(
                error.details["step"] == chosen.step, f"{chosen.name} died at {error.details}, not {chosen.step}"
            )
            await self.restore(chosen, self.usable()[draw % len(self.usable())])
        return chosen

    async def make_branch(self, snapshot: ModelNode) -> ModelNode:
        """Make a branch of a snapshot."""
        result = await self.ask(requests.branch(snapshot.id, 1, [self.fresh_name()], "same"))
        return self.keep(self.model.branch(snapshot, result.nodes[0]))

    async def restore(self, branch: ModelNode, snapshot: ModelNode) -> None:
        """Put a branch back to a snapshot."""
        told = (await self.ask(requests.restore(branch.id, snapshot.id, "same"))).node
        self.model.restored(branch, snapshot)
        self.check(told.state != "dead", f"{branch.name} was restored, and is dead")
        self.check(told.step == branch.step, f"{branch.name} was restored to {told.step}, not {branch.step}")

    async def drop(self, node: ModelNode, *, force: bool = False) -> None:
        """End one of its nodes."""
        node.leaving = True
        gone = await self.ask(requests.drop(node.id, recursive=False, force=force))
        self.check(gone == [node.name], f"{gone} was dropped, not {node.name}")
        self.own.pop(node.id, None)
        self.model.dropped(node)

    def keep(self, node: ModelNode) -> ModelNode:
        """Count a node as one of its own."""
        self.own[node.id] = node
        return node

    async def until(self, condition: Callable[[protocol.NodeInfo], bool], node: ModelNode) -> protocol.NodeInfo:
        """Ask for a node until a condition holds.

        Raises:
            FaultFoundError: It does not come to hold.
        """
        deadline = time.monotonic() + SETTLE_WITHIN_S
        while not condition(info := await self.info(node)):
            self.check(time.monotonic() < deadline, f"{node.name} stays {info}")
            await asyncio.sleep(POLL_S)
        return info
