"""What the page knows of a server: its nodes as events tell of them, what it does, and whether it is there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .. import aio, requests
from ..activity import Activity, between
from ..errors import NotFoundError, SnapservError, UnauthorizedError
from ..protocol import Event, NodeInfo, SpecResult, StatsResult, TreeInfo

Change: TypeAlias = Literal["server", "tree", "nodes", "activity", "event"]
"""What has changed: whether there is a server, which nodes there are, what they do, its counters, what happened."""
Listener: TypeAlias = Callable[[Change], None]

LOOK_EVERY_S = 1.0
GONE_AFTER_S = 4.0
"""A server that says nothing for so long is said to be gone; it may be at work, and then it comes back."""
TELL_EVERY_S = 0.1
MEASURE_EVERY_S = 3.0
MOST_MEASURED = 500
"""Where there are more nodes, memory is measured of a node that is looked at, and of no others."""
MOST_ASKED = 32
KEPT_ACTIVITY = 300
KEPT_EVENTS = 500
NO_NODE = 2**53 - 1
"""An id that no node has: what is asked of it changes nothing, and is refused where a key only reads."""


@dataclass(frozen=True)
class Reached:
    """How a server is reached: its address, and the keys for it."""

    endpoint: str
    keys: str | os.PathLike[str] | None = None


class Session:
    """A server, as all who look at the page see it. One task keeps it up to date: `run`.

    Args:
        reached: Where the server is.
        only_looks: Whether nothing is to be changed, whatever the key may do.

    Attributes:
        nodes: All nodes by id; what changes them is said to `listeners`.
        away: Why there is no server now; empty where there is one.
        version: Grows whenever nodes come, go or have another parent.
    """

    def __init__(self, reached: Reached, *, only_looks: bool = False) -> None:
        self.reached = reached
        self.server: aio.Server | None = None
        self.nodes: dict[int, NodeInfo] = {}
        self.trees: list[TreeInfo] = []
        self.away = "not there yet"
        self.version = 0
        self.activity: deque[tuple[float, Activity]] = deque(maxlen=KEPT_ACTIVITY)
        self.events: deque[Event] = deque(maxlen=KEPT_EVENTS)
        self.listeners: set[Listener] = set()
        self.may_change = False
        self.why_not = ""
        self._only_looks = only_looks
        self._specs: dict[str, SpecResult] = {}
        self._untold: set[Change] = set()
        self._unmeasured = True
        self._measured_at = 0.0

    @property
    def here(self) -> aio.Server:
        """The server.

        Raises:
            UnreachableError: It is not there now.
        """
        if self.server is None:
            from ..connection import unreachable

            raise unreachable(self.reached.endpoint, self.away)
        return self.server

    def node(self, node: int) -> aio.Branch | aio.Snapshot:
        """Return what is asked to do something with a node.

        Raises:
            NotFoundError: It is gone.
            UnreachableError: The server is.
        """
        info = self.nodes.get(node)
        if info is None:
            raise NotFoundError("the node is gone", hint="choose another one")
        return aio.Branch(self.here, info) if info.kind == "branch" else aio.Snapshot(self.here, info)

    def branch(self, node: int) -> aio.Branch:
        """Return a branch.

        Raises:
            NotFoundError: It is gone, or a snapshot.
        """
        found = self.node(node)
        if not isinstance(found, aio.Branch):
            raise NotFoundError(f"{found.name} is a snapshot", hint="branch it")
        return found

    async def spec(self, tree: str) -> SpecResult:
        """Return what a tree's simulation is."""
        if tree not in self._specs:
            self._specs[tree] = await self.here.spec(tree)
        return self._specs[tree]

    def learn(self, infos: Iterable[NodeInfo]) -> None:
        """Take note of what a server said of nodes."""
        for info in infos:
            before = self.nodes.get(info.id)
            if info.private_bytes is None and before is not None:
                info.private_bytes = before.private_bytes
            self.nodes[info.id] = info
            self._tell("nodes")
            if before is None or before.parent != info.parent:
                self._moved()

    def touched(self) -> None:
        """Have memory measured anew some time."""
        self._unmeasured = True

    async def run(self) -> None:
        """Keep a connection, and all that is known, until it is cancelled."""
        telling = asyncio.create_task(self._telling())
        try:
            while True:
                with contextlib.suppress(SnapservError, TimeoutError, OSError):
                    await self._connected()
                await asyncio.sleep(LOOK_EVERY_S / 2)
        finally:
            telling.cancel()
            await self._leave("the page has ended")

    async def _connected(self) -> None:
        """Connect, and go on until the server is gone."""
        try:
            server = await aio.connect(self.reached.endpoint, keys=self.reached.keys, timeout_s=2.0)
        except SnapservError as error:
            self._gone(error.message)
            raise
        self.server = server
        try:
            await self._find_rights(server)
            listening = asyncio.create_task(self._listen(server))
            try:
                await self._load(server)
                await self._look(server, listening)
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
        except (SnapservError, TimeoutError) as error:
            await self._leave(str(error) or f"it has said nothing for {GONE_AFTER_S:g} s")
            raise
        except BaseException:
            await self._leave("the connection ended")
            raise

    async def _find_rights(self, server: aio.Server) -> None:
        """Find out whether the key may change anything, by what changes nothing."""
        try:
            async with asyncio.timeout(GONE_AFTER_S):
                await server._run(requests.pin(NO_NODE, pinned=False))
        except NotFoundError:
            self.may_change, self.why_not = not self._only_looks, ""
        except UnauthorizedError:
            self.may_change, self.why_not = False, "the key of this page may only read"
        if self._only_looks:
            self.why_not = "this page only looks"

    async def _load(self, server: aio.Server) -> None:
        async with asyncio.timeout(60):
            tree = await server.tree()
        self._specs.clear()
        self._replace(tree.trees, tree.nodes)
        self.away = ""
        self._tell("server")

    def _replace(self, trees: list[TreeInfo], nodes: list[NodeInfo]) -> None:
        sizes = {id_: node.private_bytes for id_, node in self.nodes.items()}
        for node in nodes:
            if node.private_bytes is None:
                node.private_bytes = sizes.get(node.id)
        self.trees, self.nodes = trees, {node.id: node for node in nodes}
        self._moved()

    async def _look(self, server: aio.Server, listening: asyncio.Task[None]) -> None:
        """Look at counters every second, until nobody answers."""
        before, looked = await self._stats(server), time.monotonic()
        while not listening.done():
            await asyncio.sleep(LOOK_EVERY_S)
            after, now = await self._stats(server), time.monotonic()
            activity = between(before, after, now - looked)
            self.activity.append((time.time(), activity))
            if activity.restarted:
                await self._load(server)
            before, looked = after, now
            self._note_steps(after)
            self._tell("activity")
            if self._unmeasured and now > self._measured_at + MEASURE_EVERY_S and len(self.nodes) <= MOST_MEASURED:
                self._unmeasured, self._measured_at = False, now
                async with asyncio.timeout(60):
                    self.learn((await server.tree(sizes=True)).nodes)

    async def _stats(self, server: aio.Server) -> StatsResult:
        async with asyncio.timeout(GONE_AFTER_S):
            return await server.stats()

    def _note_steps(self, stats: StatsResult) -> None:
        """Take note of how far the nodes are that were used last: no event says that."""
        for now in stats.active:
            known = self.nodes.get(now.id)
            if known is not None and (known.step, known.state) != (now.step, now.state):
                self._unmeasured = True
                self.learn([now])

    async def _listen(self, server: aio.Server) -> None:
        """Take in events until the server says that it ends."""
        async for event in server.watch():
            self.events.append(event)
            self._tell("event")
            if event.kind == "tree" or (event.kind == "adopted"):
                await self._load(server)
            if event.node is None:
                continue
            self._unmeasured = True
            if event.kind in ("dropped", "evicted"):
                self._forget(event.node.id)
            else:
                self.learn([event.node])
            if event.kind == "created" and event.node.kind == "snapshot":
                await self._ask_who_moved(server, event.node)

    def _forget(self, node: int) -> None:
        gone = self.nodes.pop(node, None)
        if gone is None:
            return
        for each in self.nodes.values():
            if each.parent == node:
                each.parent = gone.parent
        self._moved()

    async def _ask_who_moved(self, server: aio.Server, snapshot: NodeInfo) -> None:
        """Find the branch that a new snapshot was taken of: it comes of that now, which no event says."""
        beside = [node for node in self.nodes.values() if node.kind == "branch" and node.parent == snapshot.parent]
        if len(beside) > MOST_ASKED:
            tree = await server.tree()
            self._replace(tree.trees, tree.nodes)
            return
        for node in beside:
            with contextlib.suppress(NotFoundError):
                self.learn([await server._run(requests.info(node.id))])

    def _moved(self) -> None:
        self.version += 1
        self._tell("tree")

    def _gone(self, why: str) -> None:
        if self.away != why:
            self.away = why
            self._tell("server")

    async def _leave(self, why: str) -> None:
        server, self.server = self.server, None
        self._gone(why)
        if server is not None:
            with contextlib.suppress(SnapservError):
                await server.close()

    def _tell(self, what: Change) -> None:
        self._untold.add(what)

    async def _telling(self) -> None:
        """Say what has changed, a few times a second at most."""
        while True:
            await asyncio.sleep(TELL_EVERY_S)
            untold, self._untold = self._untold, set()
            for what in sorted(untold):
                for listener in tuple(self.listeners):
                    listener(what)
