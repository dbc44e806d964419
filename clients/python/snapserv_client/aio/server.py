"""A server, as one client sees it: what is asked of it rather than of one of its nodes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from .. import requests
from ..bars import shown
from ..channel import Channel
from ..connection import Progress
from ..display import Diff, Tree
from ..errors import BadRequestError, FrozenError, RequestTimeoutError
from ..history import Actions
from ..plain import InputValues, Sendable
from ..probing import why_unreachable
from ..protocol import Action, HelloResult, NodeInfo, SpecResult, StatsResult, StoredNode
from ..watching import Until
from .branch import Branch
from .connection import Connection
from .node import Node, Snapshot, compare, reference
from .own import CLIENT, OwnServer, blocking

if TYPE_CHECKING:
    from ..bisection import Bisection

FROZEN_HINT = "branch it, and change the branch; server.snapshot(name) returns the snapshot"


class Server(OwnServer):
    """A server, as one client sees it. It is a context manager; otherwise, `close` it."""

    def __init__(self, connection: Connection, on_close: Callable[[], None] | None = None) -> None:
        self._connection = connection
        self._on_close = on_close
        self.hello: HelloResult | None = None

    @property
    def endpoint(self) -> str:
        """The address."""
        return self._connection.endpoint

    async def greet(self, timeout_s: float) -> HelloResult:
        """Negotiate the protocol's version.

        Raises:
            UnreachableError: No answer in time.
        """
        try:
            self.hello = await self._run(requests.hello(CLIENT), timeout_s=timeout_s)
        except RequestTimeoutError as cause:
            raise await blocking(why_unreachable, self.endpoint, self._connection.keys, timeout_s) from cause
        self.channel = Channel.to(self.endpoint, self.hello)
        return self.hello

    async def ping(self) -> float:
        """Return the seconds that a round trip takes."""
        began = time.perf_counter()
        await self._run(requests.ping())
        return time.perf_counter() - began

    async def spec(self, tree: str | None = None) -> SpecResult:
        """Return what a tree's simulation is: fields, inputs, parameters, methods, arena."""
        return await self._run(requests.spec(tree))

    async def stats(self) -> StatsResult:
        """Return what happened since the server started."""
        return await self._run(requests.stats())

    async def tree(self, tree: str | None = None, *, sizes: bool = False) -> Tree:
        """Return all nodes, of one tree or of all; with ``sizes`` their private bytes are measured."""
        page = await self._run(requests.tree(tree, offset=0, sizes=sizes))
        nodes = list(page.nodes)
        while page.next is not None:
            page = await self._run(requests.tree(tree, offset=page.next, sizes=sizes))
            nodes += page.nodes
        return Tree(page.trees, nodes)

    async def node(self, name: str | int) -> Branch | Snapshot:
        """Return a node by name, id or tag.

        Raises:
            NotFoundError: There is none.
        """
        return self._wrap(await self._run(requests.info(name)))

    async def branch(self, name: str | int) -> Branch:
        """Return a live branch by name, id or tag.

        Raises:
            NotFoundError: There is none.
            FrozenError: It is a snapshot.
        """
        node = await self.node(name)
        if not isinstance(node, Branch):
            raise FrozenError(f"{node.name} is a snapshot, and snapshots never change", hint=FROZEN_HINT)
        return node

    async def load(
        self,
        stored: str,
        name: str | None = None,
        *,
        tree: bool = False,
        replay: bool = False,
        progress: Progress | bool | None = None,
    ) -> Snapshot:
        """Take a snapshot out of the server's store, with its ancestors.

        Args:
            stored: Its ``uid`` there, its name or a tag, or ``tree/name``.
            name: What to call its tree here, if that is not here yet.
            tree: Whether to take all of its tree.
            replay: Whether to do again what was done to nodes that no image brings here.
            progress: Called with how many ticks of a replay are done and wanted, now and then; True shows a bar.

        Raises:
            NotFoundError: There is none.
            NotPortableError: It lasts as its recording alone, and is not to be replayed.
            RecordingMismatchError: What was done to it does not lead there any more; nothing was loaded.
            MachineDiffersError: It cannot be brought back here; ``details["differs"]`` says why.
            StoreDamagedError: It is not what was written.
        """
        request = requests.load(stored, name, tree=tree, replay=replay, progress=bool(progress))
        with shown(progress, stored, 1) as told:
            result = await self._run(request, progress=told.heard)
            told.ended()
        return Snapshot(self, result.node)

    async def stored(self) -> list[StoredNode]:
        """Return what the server's store holds, in order of when it was taken."""
        page = await self._run(requests.stored(0))
        nodes = list(page.nodes)
        while page.next is not None:
            page = await self._run(requests.stored(page.next))
            nodes += page.nodes
        return nodes

    async def replay(
        self,
        actions: Iterable[Action | InputValues],
        start: Snapshot | str | int | None = None,
        name: str | None = None,
        *,
        force: bool = False,
        progress: Progress | bool | None = None,
    ) -> Branch:
        """Make a branch and do recorded actions again, also those of a node of another server.

        Args:
            actions: As `Node.actions` returns them. Those, and parts of them, know what they are of, and it is
                checked; a plain list of actions does not.
            start: The snapshot to start from; the root of the first tree by default.
            name: The new branch's name.
            force: Whether to go on where they are of something else, or lead to another state.
            progress: Called with how many ticks are done and wanted, now and then; True shows a bar.

        Raises:
            RecordingMismatchError: They are, or do; ``details["differs"]`` says in what. There is no branch then.
            SnapservError: What an action met; ``details["index"]`` says which one. There is no branch then.
        """
        origin = None if start is None else reference(start)
        recording = actions.recording if isinstance(actions, Actions) else None
        asked = requests.replay(actions, origin, name, recording, force=force, progress=bool(progress))
        with shown(progress, name or "replay", 1) as told:
            made = await self._run(asked, progress=told.heard)
            told.ended()
        return Branch(self, made)

    async def snapshot(self, name: str | int) -> Snapshot:
        """Return a snapshot by name, id or tag.

        Raises:
            NotFoundError: There is none.
            BadRequestError: It is a live branch.
        """
        node = await self.node(name)
        if not isinstance(node, Snapshot):
            raise BadRequestError(f"{node.name} is a branch", hint="server.branch(name) returns branches")
        return node

    async def create(
        self,
        simulation: str | None = None,
        name: str | None = None,
        *,
        params: InputValues | None = None,
        **named_params: Sendable,
    ) -> Branch:
        """Make another tree and return its branch ``main``; the simulation is one that the server serves."""
        return Branch(self, await self._run(requests.create(simulation, name, {**(params or {}), **named_params})))

    async def bisect(
        self,
        good: Snapshot | str,
        bad: Branch | Snapshot | str,
        test: Until | Callable[[Branch], object],
        *,
        progress: Progress | bool | None = None,
    ) -> Bisection:
        """Find the first step at which something holds, between a snapshot and a node that comes of it.

        See `Node.bisect`.
        """
        node = bad if isinstance(bad, Node) else await self.node(bad)
        return await node.bisect(good, None, test, progress=progress)

    async def diff(self, a: Node | str, b: Node | str | None = None, fields: Sequence[str] | None = None) -> Diff:
        """Return how two nodes differ, field by field; without ``b``, how ``a`` differs from its parent."""
        return await compare(self, a, b, fields)

    async def shutdown(self, *, force: bool = True) -> None:
        """End the server and every cell of it.

        Args:
            force: Whether to end it also where nodes would be gone that are not saved.

        Raises:
            UnsavedError: It is not to be forced, and nodes would be gone; ``details["lost"]`` lists them.
        """
        await self._run(requests.shutdown(force=force))

    async def close(self) -> None:
        """Close the connection; a private server (`snapserv_client.local`) ends with it."""
        await self._connection.close()
        if self._on_close is not None:
            on_close, self._on_close = self._on_close, None
            await blocking(on_close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, cause: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _wrap(self, info: NodeInfo) -> Branch | Snapshot:
        return Branch(self, info) if info.kind == "branch" else Snapshot(self, info)
