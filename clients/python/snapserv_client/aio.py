"""The client for asyncio: the same names as `snapserv_client`, awaited. Many requests may be in flight at once.

Cancelling the task that awaits a step interrupts the step: the branch stops between two ticks.
"""

from __future__ import annotations

import asyncio
import os
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import msgspec
import zmq
import zmq.asyncio

from . import protocol, requests
from .connection import (
    REQUEST_TIMEOUT_S,
    OnOutcome,
    Patience,
    Progress,
    Waiting,
    connect_again,
    refuse_missing_socket,
    release,
    unreachable,
)
from .display import Diff, NodeDisplay, ServerDisplay, Tree
from .endpoint import chosen_endpoint
from .errors import BadRequestError, FrozenError, InternalError, RequestTimeoutError, SnapservError
from .expansion import Options, Outcome, collected
from .history import Actions, Verification
from .keys import ClientKeys, keys_for
from .pages import Pages
from .private import START_WITHIN_S, PrivateServer
from .protocol import (
    Action,
    AutosnapInfo,
    Event,
    MarkResult,
    NodeInfo,
    RewindResult,
    Rng,
    SpecResult,
    StatsResult,
    StepResult,
)
from .requests import Array, RegionIndex, Reply, Request
from .sync import FROZEN_HINT
from .transport import routing_id, takes_output
from .wire import Frames, unpack

__all__ = ["Branch", "Server", "Snapshot", "connect", "local"]

T = TypeVar("T")


async def connect(
    endpoint: str | None = None,
    *,
    keys: str | os.PathLike[str] | None = None,
    timeout_s: float = 1.0,
    request_timeout_s: float | None = REQUEST_TIMEOUT_S,
) -> Server:
    """Connect to a server; see `snapserv_client.connect`.

    Raises:
        UnreachableError: Nobody answers there; says how to start a server.
        VersionMismatchError: The server speaks another version of the protocol.
    """
    chosen = chosen_endpoint(endpoint)
    server = Server(Connection(chosen, request_timeout_s, keys_for(chosen, keys)))
    try:
        await server.greet(timeout_s)
    except BaseException:
        await server.close()
        raise
    return server


async def local(
    target: str | type, /, *, backing: str | None = None, start_within_s: float = START_WITHIN_S, **params: Any
) -> Server:
    """Start a private server and connect to it; see `snapserv_client.local`."""
    started = await asyncio.to_thread(PrivateServer, target, backing, start_within_s, params)
    try:
        server = await connect(started.endpoint, timeout_s=10.0)
    except BaseException:
        await asyncio.to_thread(started.end)
        raise
    server._on_close = started.end
    return server


class Connection:
    """A DEALER socket, one task that reads it, and the futures of the requests in flight."""

    def __init__(self, endpoint: str, timeout_s: float | None, keys: ClientKeys | None = None) -> None:
        self.endpoint = endpoint
        self.timeout_s = timeout_s
        self.keys = keys
        self.closed = False
        self._owner = os.getpid()
        refuse_missing_socket(endpoint)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        dealer = self._context.socket(zmq.DEALER)
        # Whether closed or forgotten, and whether the loop still runs: first the socket goes, then the context,
        # which would wait for it.
        self._release = weakref.finalize(self, release, os.getpid(), dealer, self._context)
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.setsockopt(zmq.ROUTING_ID, routing_id())
        if keys is not None:
            keys.secure(dealer)
        self._dealer = dealer
        self._socket = zmq.asyncio.Socket(shadow=dealer)
        try:
            dealer.connect(endpoint)
        except zmq.ZMQError as cause:
            self.closed = True
            self._release()
            raise BadRequestError(
                f"{endpoint!r} is no endpoint: {cause.strerror}", hint="write ipc:///PATH or tcp://HOST:PORT"
            ) from cause
        self._last_id = 0
        self._waiting: dict[int, tuple[asyncio.Future[Any], Progress | None, OnOutcome | None]] = {}
        self._loop = asyncio.get_running_loop()
        self._heard = self._connected = self._loop.time()
        self._reader = self._loop.create_task(self._read())

    async def run(
        self,
        request: Request[T],
        *,
        timeout_s: float | None = None,
        progress: Progress | None = None,
        outcome: OnOutcome | None = None,
    ) -> T:
        """Send a request and await its result; see `snapserv_client.connection.Connection.run`."""
        if self.closed or self._owner != os.getpid():
            raise BadRequestError("the connection is closed, or another process's", hint="connect again")
        if self._loop is not asyncio.get_running_loop():
            raise BadRequestError("the connection belongs to another event loop", hint="connect again in this one")
        self._last_id += 1
        request_id = self._last_id
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = (reply, progress, outcome)
        limit = timeout_s if timeout_s is not None or request.long else self.timeout_s
        frames = request.frames(request_id)
        try:
            if len(self._waiting) == 1 and not takes_output(self._dealer):
                connect_again(self._dealer, self.endpoint)  # it broke while nobody waited for anything
            await self._socket.send_multipart(frames, copy=False)
            async with asyncio.timeout(limit):
                return request.understand(await self._patiently(reply, frames))
        except TimeoutError as cause:
            raise RequestTimeoutError(
                f"no reply to {request.verb} within {limit:g} s",
                hint="it may still be running; interrupt stops a step",
            ) from cause
        except asyncio.CancelledError:
            if request.verb in ("step", "expand") and request.node is not None and not self.closed:
                self._last_id += 1
                stop = requests.interrupt(request.node, request=request_id)
                await self._socket.send_multipart(stop.frames(self._last_id))
            raise
        finally:
            self._waiting.pop(request_id, None)

    async def _patiently(self, reply: asyncio.Future[Any], frames: Frames) -> Any:
        """Await a reply, and send the request again where it takes long; see `connection.Patience`.

        Raises:
            UnreachableError: The server is gone, and no other has taken its place.
        """
        patience = Patience(self._loop.time(), sum(map(len, frames)))
        while not reply.done():
            await asyncio.wait((reply,), timeout=max(0.0, patience.next - self._loop.time()))
            now = self._loop.time()
            if reply.done():
                break
            patience.heard(self._heard)
            if patience.lost(now):
                raise unreachable(self.endpoint)
            broken = patience.deaf(now, self._connected) or not takes_output(self._dealer)
            if patience.retry(now):
                if broken:
                    connect_again(self._dealer, self.endpoint)
                    self._connected = now
                self._last_id += 1
                await self._socket.send_multipart(frames, copy=False)
                await self._socket.send_multipart(requests.ping().frames(self._last_id))
        return reply.result()

    def subscribe(self, endpoint: str) -> zmq.Socket[bytes]:
        """Return a SUB socket on the server's events, which the caller closes."""
        socket = self._context.socket(zmq.SUB)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        if self.keys is not None:
            self.keys.secure(socket)
        socket.connect(endpoint)
        return socket

    async def close(self) -> None:
        """Close the socket; requests that are in flight get an error. In a forked child it only forgets it."""
        if self.closed:
            return
        self.closed = True
        if self._owner != os.getpid():
            return
        if self._loop is asyncio.get_running_loop():
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        for reply, _, _ in self._waiting.values():
            if not reply.done():
                reply.set_exception(BadRequestError("the connection was closed", hint="connect again"))
                reply.exception()  # whoever waits has it; asyncio need not complain of those that nobody waits for
        # It leaves the event loop as well, where a later connection may get the same descriptor.
        self._socket.close(0)
        self._release()

    def __del__(self) -> None:
        if not self.closed:
            warnings.warn(f"the connection to {self.endpoint} was not closed", ResourceWarning, stacklevel=2)

    async def _read(self) -> None:
        while True:
            frames = await self._socket.recv_multipart(copy=False)
            self._heard = self._loop.time()
            try:
                reply = Reply.parse([frame.buffer for frame in frames])
            except SnapservError as error:
                self._fail(InternalError(f"the server sent nonsense: {error}"))
                continue
            future, progress, outcome = self._waiting.get(reply.id, (None, None, None))
            if future is None or future.done():
                continue  # late: its caller gave up
            if reply.error is not None:
                future.set_exception(reply.error)
            elif reply.final:
                future.set_result(reply.ok)
            else:
                try:
                    if progress is not None and reply.progress is not None:
                        progress(reply.progress.done, reply.progress.total)
                    if outcome is not None and reply.outcome is not None:
                        outcome(reply.outcome)
                except Exception as error:  # noqa: BLE001 - it is the caller's, and goes to the caller
                    future.set_exception(error)

    def _fail(self, error: SnapservError) -> None:
        for reply, _, _ in self._waiting.values():
            if not reply.done():
                reply.set_exception(error)


class Server(ServerDisplay):
    """A server, as one client sees it. Use it in an ``async with`` block, or `close` it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._on_close: Callable[[], None] | None = None
        self.hello: protocol.HelloResult | None = None

    @property
    def endpoint(self) -> str:
        """The address."""
        return self._connection.endpoint

    async def greet(self, timeout_s: float) -> protocol.HelloResult:
        """Negotiate the protocol's version."""
        try:
            self.hello = await self._run(requests.hello("snapserv-client.aio"), timeout_s=timeout_s)
        except RequestTimeoutError as cause:
            raise unreachable(self.endpoint) from cause
        return self.hello

    @property
    def atomic(self) -> bool:
        """Whether steps that do not say are atomic."""
        return self.hello is not None and self.hello.atomic

    async def ping(self) -> float:
        """Return the seconds that a round trip takes."""
        clock = asyncio.get_running_loop().time
        began = clock()
        await self._run(requests.ping())
        return clock() - began

    async def spec(self, tree: str | None = None) -> SpecResult:
        """Return what a tree's simulation is."""
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
        """Return a node by name, id or tag."""
        info = await self._run(requests.info(name))
        return self._wrap(info)

    async def branch(self, name: str | int) -> Branch:
        """Return a live branch by name, id or tag."""
        node = await self.node(name)
        if not isinstance(node, Branch):
            raise FrozenError(f"{node.name} is a snapshot, and snapshots never change", hint=FROZEN_HINT)
        return node

    async def replay(
        self,
        actions: Iterable[Action | Mapping[str, Any]],
        start: Snapshot | str | int | None = None,
        name: str | None = None,
    ) -> Branch:
        """Make a branch and do recorded actions again, also those of a node of another server.

        Args:
            actions: As `Node.actions` returns them.
            start: The snapshot to start from; the root of the first tree by default.
            name: The new branch's name.

        Raises:
            SnapservError: What an action met; ``details["index"]`` says which one. There is no branch then.
        """
        reference = None if start is None else _reference(start)
        return Branch(self, await self._run(requests.replay(actions, reference, name)))

    async def snapshot(self, name: str | int) -> Snapshot:
        """Return a snapshot by name, id or tag."""
        node = await self.node(name)
        if not isinstance(node, Snapshot):
            raise BadRequestError(f"{node.name} is a branch", hint="server.branch(name) returns branches")
        return node

    async def create(
        self,
        simulation: str | None = None,
        name: str | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        **named_params: Any,
    ) -> Branch:
        """Make another tree and return its branch ``main``."""
        return Branch(self, await self._run(requests.create(simulation, name, {**(params or {}), **named_params})))

    async def diff(self, a: Node | str, b: Node | str, fields: Sequence[str] | None = None) -> Diff:
        """Return how two nodes differ, field by field."""
        result = await self._run(requests.diff(_reference(a), _reference(b), fields))
        names = [node.name if isinstance(node, Node) else node for node in (a, b)]
        return Diff(names[0], names[1], result.fields, result.compared_bytes)

    async def watch(self) -> AsyncIterator[Event]:
        """Yield events as they happen, until the server ends."""
        where = await self._run(requests.watch())
        plain = self._connection.subscribe(requests.events_endpoint(self.endpoint, where.events))
        socket = zmq.asyncio.Socket(shadow=plain)
        try:
            while True:
                _, header, *buffers = await socket.recv_multipart()
                event = msgspec.convert(unpack(header, buffers), Event)
                yield event
                if event.kind == "shutdown":
                    return
        finally:
            socket.close()
            plain.close()

    async def shutdown(self) -> None:
        """End the server and every cell of it."""
        await self._run(requests.shutdown())

    async def close(self) -> None:
        """Close the connection; a private server (`local`) ends with it."""
        await self._connection.close()
        if self._on_close is not None:
            on_close, self._on_close = self._on_close, None
            await asyncio.to_thread(on_close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, cause: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, request: Request[T], **waiting: Unpack[Waiting]) -> T:
        return await self._connection.run(request, **waiting)

    def _wrap(self, info: NodeInfo) -> Branch | Snapshot:
        return Branch(self, info) if info.kind == "branch" else Snapshot(self, info)


class Node(NodeDisplay):
    """A point of a tree; see `snapserv_client.sync.Node`."""

    _server: Server

    async def info(self) -> NodeInfo:
        """Return what the server knows of it now."""
        self.last = await self._run(requests.info(self.id))
        return self.last

    async def log(self) -> list[NodeInfo]:
        """Return its lineage, from the root to itself."""
        entries = await self._run(requests.lineage(self.id))
        while entries[0].parent is not None:
            earlier = await self._run(requests.lineage(entries[0].id))
            entries = earlier[:-1] + entries
        return entries

    async def actions(self) -> Actions:
        """Return what was done to it since its tree's root."""
        found: list[Action] = []
        start: int | None = 0
        while start is not None:
            page = await self._run(requests.actions(self.id, start))
            found += page.actions or []
            start = page.next
        return Actions(self.name, found)

    async def verify(self, since: Snapshot | str | int | None = None) -> Verification:
        """Do its own actions again from an ancestor, the root by default, and return how the states compare."""
        reference = None if since is None else _reference(since)
        return Verification(self.name, await self._run(requests.verify(self.id, reference)))

    async def read(self, field: str, region: RegionIndex = None) -> Array:
        """Return a copy of a field, or of a region of it."""
        return await self._run(requests.read(self.id, field, region))

    async def branch(
        self,
        count: int | None = None,
        *,
        name: str | None = None,
        names: Sequence[str] | None = None,
        rng: Rng = "same",
    ) -> Any:
        """Make live branches that continue from here: one, or a list where ``count`` or ``names`` is given."""
        wanted = names if names is not None else None if name is None else [name]
        number = count if count is not None else 1 if wanted is None else len(wanted)
        result = await self._run(requests.branch(self.id, number, wanted, rng))
        branches = [Branch(self._server, info) for info in result.nodes]
        return branches[0] if count is None and names is None else branches

    async def expand(
        self, inputs: Sequence[Mapping[str, Any] | Sequence[Mapping[str, Any]]], **options: Unpack[Options]
    ) -> list[Outcome]:
        """Try every input from here, a child each; see `snapserv_client.sync.Node.expand`.

        Cancelling the task ends the children that are left.
        """
        request = requests.expand(self.id, inputs, options, stream=False)
        result = await self._run(request)
        outcomes = collected(result.outcomes, len(inputs))
        for kept in result.kept:
            outcomes[kept.index].node = self._server._wrap(kept.node)
        return outcomes

    async def expand_as_completed(
        self, inputs: Sequence[Mapping[str, Any] | Sequence[Mapping[str, Any]]], **options: Unpack[Options]
    ) -> AsyncIterator[Outcome]:
        """Try every input from here, and yield what came of each as soon as it is there; those that are kept last.

        Closing it early ends the children that are left: loop over it in ``async with contextlib.aclosing(...)``.
        """
        arrived: asyncio.Queue[protocol.Outcome | None] = asyncio.Queue()
        request = requests.expand(self.id, inputs, options, stream=True)
        running = asyncio.create_task(self._run(request, outcome=arrived.put_nowait))
        running.add_done_callback(lambda _: arrived.put_nowait(None))
        held: dict[int, Outcome] = {}
        keeps = options.get("keep", "none") != "none"
        try:
            while (found := await arrived.get()) is not None:
                outcome = Outcome(found)
                if keeps and outcome.ok:
                    held[outcome.index] = outcome
                else:
                    yield outcome
            for kept in (await running).kept:
                held[kept.index].node = self._server._wrap(kept.node)
            for outcome in held.values():
                yield outcome
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def diff(self, other: Node | str, fields: Sequence[str] | None = None) -> Diff:
        """Return how another node differs from this one, field by field."""
        return await self._server.diff(self, other, fields)

    async def pages(self, other: Node | str | None = None, fields: Sequence[str] | None = None) -> Pages:
        """Return which of its pages are whose: the base image's, another node's as well, or its own."""
        reference = None if other is None else _reference(other)
        result = await self._run(requests.pages(self.id, reference, fields))
        return Pages(self.name, other.name if isinstance(other, Node) else other, result)

    async def tag(self, name: str, *, remove: bool = False) -> None:
        """Give it a further name, or take one away."""
        self.last = await self._run(requests.tag(self.id, name, remove=remove))

    async def pin(self, pinned: bool = True) -> None:
        """Protect it from `drop`, or no longer."""
        self.last = await self._run(requests.pin(self.id, pinned=pinned))

    async def drop(self, *, recursive: bool = False, force: bool = False) -> list[str]:
        """End it; return the names of what is gone."""
        return await self._run(requests.drop(self.id, recursive=recursive, force=force))

    async def _run(self, request: Request[T], **waiting: Unpack[Waiting]) -> T:
        return await self._server._run(request, **waiting)


class Snapshot(Node):
    """A frozen moment. ``fork_us`` is what taking it cost the branch, where this client took it."""

    def __init__(self, server: Server, info: NodeInfo, fork_us: float | None = None) -> None:
        super().__init__(server, info)
        self.fork_us = fork_us


class Branch(Node):
    """A live simulation; see `snapserv_client.sync.Branch`."""

    async def step(
        self,
        ticks: int = 1,
        *,
        progress: Progress | None = None,
        atomic: bool | None = None,
        timeout_s: float | None = None,
        inputs: Mapping[str, Any] | None = None,
        **named_inputs: Any,
    ) -> StepResult:
        """Run ticks, all with the same inputs, in one request."""
        given = {**(inputs or {}), **named_inputs}
        whole = self._server.atomic if atomic is None else atomic
        request = requests.step(
            self.id,
            ticks,
            given,
            progress=progress is not None,
            atomic=atomic,
            timeout_s=timeout_s if whole else None,
        )
        patience_s = requests.patience_s(timeout_s, atomic=whole)
        result = await self._run(request, timeout_s=patience_s, progress=progress)
        self.last.step = result.step
        return result

    async def snapshot(self, name: str | None = None) -> Snapshot:
        """Freeze a copy of this moment."""
        result = await self._run(requests.snapshot(self.id, name))
        return Snapshot(self._server, result.node, result.fork_us)

    async def restore(self, snapshot: Snapshot | str | int, *, rng: Rng = "same") -> None:
        """Go back to a snapshot; the branch keeps its name, and lives again if it had died."""
        self.last = await self._run(requests.restore(self.id, _reference(snapshot), rng))

    async def reset(self, *, rng: Rng = "same") -> None:
        """Go back to the moment after setup."""
        self.last = await self._run(requests.reset(self.id, rng))

    async def mark(self, *, remove: bool = False) -> MarkResult:
        """Mark this moment, in the place of the last mark, or give the mark up."""
        return await self._run(requests.mark(self.id, remove=remove))

    async def rewind(self) -> RewindResult:
        """Go back to the mark, in place."""
        result = await self._run(requests.rewind(self.id))
        self.last.step = result.step
        return result

    async def write(self, field: str, value: Any, region: RegionIndex = None) -> None:
        """Change a field or a region of it; a scalar fills it, an array must have its shape."""
        await self._run(requests.write(self.id, field, value, region))

    async def call(self, method: str, /, *args: Any, atomic: bool = False, **kwargs: Any) -> Any:
        """Run a method that the author exported, and return what it returns; ``atomic`` is as for `step`."""
        return await self._run(requests.call(self.id, method, args, kwargs, atomic=atomic))

    async def clear(self) -> None:
        """Go on with what the simulation left when it raised: the branch is no longer faulted."""
        self.last = await self._run(requests.clear(self.id))

    async def autosnap(
        self,
        *,
        every_steps: int | None = None,
        every_s: float | None = None,
        keep: int | None = None,
        off: bool = False,
    ) -> AutosnapInfo | None:
        """Have the server take snapshots of it by itself, and thin them out: the older they are, the sparser.

        What is not given remains as it is.

        Args:
            every_steps: Take one at each multiple of so many steps.
            every_s: Take one after so many seconds in which it steps.
            keep: How many stay, those that are pinned or tagged not counted; 16 at first.
            off: Take no more; what there is stays.

        Returns:
            What holds now; None where none are taken.
        """
        self.last = await self._run(requests.autosnap(self.id, every_steps, every_s, keep, off=off))
        return self.last.autosnap

    async def interrupt(self, *, force: bool = False) -> bool:
        """Stop the step that runs, after its tick; return whether one ran. ``force`` kills the process."""
        return await self._run(requests.interrupt(self.id, force=force))


def _reference(node: Node | str | int) -> str | int:
    return node.id if isinstance(node, Node) else node
