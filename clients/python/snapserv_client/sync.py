"""The synchronous client: `connect`, and the server, branches and snapshots that it gives.

A connection belongs to the thread and the process that made it, because its ZeroMQ socket does: every use from
elsewhere is refused with a clear error. Threads that need the server make a connection each.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack

import msgspec

from . import protocol, requests
from .connection import REQUEST_TIMEOUT_S, Connection, Progress, Waiting, unreachable
from .display import Diff, NodeDisplay, ServerDisplay, Tree
from .endpoint import chosen_endpoint
from .errors import BadRequestError, FrozenError, RequestTimeoutError
from .expansion import Keep, Options, Outcome, collected
from .history import Actions, Verification
from .keys import keys_for
from .pages import Pages
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
from .requests import Array, RegionIndex, Request
from .wire import unpack

T = TypeVar("T")
FROZEN_HINT = "branch it, and change the branch; server.snapshot(name) returns the snapshot"


def connect(
    endpoint: str | None = None,
    *,
    keys: str | os.PathLike[str] | None = None,
    timeout_s: float = 1.0,
    request_timeout_s: float | None = REQUEST_TIMEOUT_S,
) -> Server:
    """Connect to a server.

    Args:
        endpoint: ``ipc:///PATH`` or ``tcp://HOST:PORT``; SNAPSERV_ENDPOINT or the user's default server otherwise.
        keys: A folder with this client's keys and the server's public one, as ``snapserv keygen client`` makes it.
            By default ipc goes without keys, and tcp with those that SNAPSERV_KEYS names, or beyond loopback with
            the user's own in ~/.config/snapserv/keys, where there are any.
        timeout_s: How long the server may take to answer the first time.
        request_timeout_s: How long any request may take that does not run the simulation's code; None for ever.

    Raises:
        UnreachableError: Nobody answers there; says how to start a server. A server that does not know the key
            does not answer either.
        KeysError: A key file is missing, or others may use the secret one.
        VersionMismatchError: The server speaks another version of the protocol.
    """
    chosen = chosen_endpoint(endpoint)
    server = Server(Connection(chosen, request_timeout_s, keys_for(chosen, keys)))
    try:
        server.greet(timeout_s)
    except BaseException:
        server.close()
        raise
    return server


class Server(ServerDisplay):
    """A server, as one client sees it. Use it in a ``with`` block, or `close` it."""

    def __init__(self, connection: Connection, on_close: Callable[[], None] | None = None) -> None:
        self._connection = connection
        self._on_close = on_close
        self.hello: protocol.HelloResult | None = None

    @property
    def endpoint(self) -> str:
        """The address."""
        return self._connection.endpoint

    def greet(self, timeout_s: float) -> protocol.HelloResult:
        """Negotiate the protocol's version.

        Raises:
            UnreachableError: No answer in time.
        """
        try:
            self.hello = self._run(requests.hello("snapserv-client"), timeout_s=timeout_s)
        except RequestTimeoutError as cause:
            raise unreachable(self.endpoint) from cause
        return self.hello

    @property
    def atomic(self) -> bool:
        """Whether steps that do not say are atomic."""
        return self.hello is not None and self.hello.atomic

    def ping(self) -> float:
        """Return the seconds that a round trip takes."""
        began = time.perf_counter()
        self._run(requests.ping())
        return time.perf_counter() - began

    def spec(self, tree: str | None = None) -> SpecResult:
        """Return what a tree's simulation is: fields, inputs, parameters, methods, arena."""
        return self._run(requests.spec(tree))

    def stats(self) -> StatsResult:
        """Return what happened since the server started."""
        return self._run(requests.stats())

    def tree(self, tree: str | None = None, *, sizes: bool = False) -> Tree:
        """Return all nodes, of one tree or of all; with ``sizes`` their private bytes are measured."""
        page = self._run(requests.tree(tree, offset=0, sizes=sizes))
        nodes = list(page.nodes)
        while page.next is not None:
            page = self._run(requests.tree(tree, offset=page.next, sizes=sizes))
            nodes += page.nodes
        return Tree(page.trees, nodes)

    def node(self, name: str | int) -> Branch | Snapshot:
        """Return a node by name, id or tag.

        Raises:
            NotFoundError: There is none.
        """
        return self._wrap(self._run(requests.info(name)))

    def branch(self, name: str | int) -> Branch:
        """Return a live branch by name, id or tag.

        Raises:
            NotFoundError: There is none.
            FrozenError: It is a snapshot.
        """
        node = self.node(name)
        if not isinstance(node, Branch):
            raise FrozenError(f"{node.name} is a snapshot, and snapshots never change", hint=FROZEN_HINT)
        return node

    def replay(
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
        return Branch(self, self._run(requests.replay(actions, reference, name)))

    def snapshot(self, name: str | int) -> Snapshot:
        """Return a snapshot by name, id or tag.

        Raises:
            NotFoundError: There is none.
            BadRequestError: It is a live branch.
        """
        node = self.node(name)
        if not isinstance(node, Snapshot):
            raise BadRequestError(f"{node.name} is a branch", hint="server.branch(name) returns branches")
        return node

    def create(
        self,
        simulation: str | None = None,
        name: str | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        **named_params: Any,
    ) -> Branch:
        """Make another tree and return its branch ``main``; the simulation is one that the server serves."""
        return Branch(self, self._run(requests.create(simulation, name, {**(params or {}), **named_params})))

    def diff(self, a: Node | str, b: Node | str, fields: Sequence[str] | None = None) -> Diff:
        """Return how two nodes differ, field by field."""
        result = self._run(requests.diff(_reference(a), _reference(b), fields))
        return Diff(str(_name(a)), str(_name(b)), result.fields, result.compared_bytes)

    def watch(self, *, timeout_s: float | None = None) -> Iterator[Event]:
        """Yield events as they happen, until the server ends or none came for ``timeout_s``."""
        where = self._run(requests.watch())
        socket = self._connection.subscribe(requests.events_endpoint(self.endpoint, where.events))
        try:
            while socket.poll(None if timeout_s is None else round(timeout_s * 1000)):
                _, header, *buffers = socket.recv_multipart()
                event = msgspec.convert(unpack(header, buffers), Event)
                yield event
                if event.kind == "shutdown":
                    return
        finally:
            socket.close()

    def shutdown(self) -> None:
        """End the server and every cell of it."""
        self._run(requests.shutdown())

    def close(self) -> None:
        """Close the connection; a private server (`snapserv_client.local`) ends with it."""
        self._connection.close()
        if self._on_close is not None:
            on_close, self._on_close = self._on_close, None
            on_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, cause: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not self._connection.closed:
            warnings.warn(f"{self!r} was not closed", ResourceWarning, stacklevel=2)
            self.close()

    def _run(self, request: Request[T], **waiting: Unpack[Waiting]) -> T:
        return self._connection.run(request, **waiting)

    def _wrap(self, info: NodeInfo) -> Branch | Snapshot:
        return Branch(self, info) if info.kind == "branch" else Snapshot(self, info)


class Node(NodeDisplay):
    """A point of a tree. ``last`` is what the server said of it last; `info` asks again."""

    _server: Server

    def info(self) -> NodeInfo:
        """Return what the server knows of it now."""
        self.last = self._run(requests.info(self.id))
        return self.last

    def log(self) -> list[NodeInfo]:
        """Return its lineage, from the root to itself."""
        entries = self._run(requests.lineage(self.id))
        while entries[0].parent is not None:
            earlier = self._run(requests.lineage(entries[0].id))
            entries = earlier[:-1] + entries
        return entries

    def actions(self) -> Actions:
        """Return what was done to it since its tree's root."""
        found: list[Action] = []
        start: int | None = 0
        while start is not None:
            page = self._run(requests.actions(self.id, start))
            found += page.actions or []
            start = page.next
        return Actions(self.name, found)

    def verify(self, since: Snapshot | str | int | None = None) -> Verification:
        """Do its own actions again from an ancestor, the root by default, and return how the states compare."""
        reference = None if since is None else _reference(since)
        return Verification(self.name, self._run(requests.verify(self.id, reference)))

    def read(self, field: str, region: RegionIndex = None) -> Array:
        """Return a copy of a field, or of a region of it: a view of the received message, not writable.

        Args:
            field: Its name.
            region: Basic indexing, as ``(slice(0, 64), 3)`` or ``np.s_[:64, 3]``.
        """
        return self._run(requests.read(self.id, field, region))

    def branch(
        self,
        count: int | None = None,
        *,
        name: str | None = None,
        names: Sequence[str] | None = None,
        rng: Rng = "same",
    ) -> Any:
        """Make live branches that continue from here; of a live branch, a snapshot is taken first.

        Args:
            count: How many; one by default.
            name: The name of a single branch.
            names: The names of several.
            rng: ``"same"``, identical siblings; ``"split"``, a random stream of its own each; an int, that seed.

        Returns:
            A `Branch`, or a list of them where ``count`` or ``names`` is given.
        """
        wanted = names if names is not None else None if name is None else [name]
        number = count if count is not None else 1 if wanted is None else len(wanted)
        result = self._run(requests.branch(self.id, number, wanted, rng))
        branches = [Branch(self._server, info) for info in result.nodes]
        return branches[0] if count is None and names is None else branches

    def expand(
        self,
        inputs: Sequence[Mapping[str, Any] | Sequence[Mapping[str, Any]]],
        *,
        steps: int = 1,
        policy: str | None = None,
        policy_steps: int = 0,
        read: Sequence[str] = (),
        sum: Sequence[str] = (),
        parallel: int | None = None,
        rng: Rng = "same",
        keep: Keep = "none",
        keep_as: Literal["branch", "snapshot"] = "branch",
        timeout_s: float | None = None,
        on_outcome: Callable[[Outcome], None] | None = None,
    ) -> list[Outcome]:
        """Try every input from here: a child each, which is branched, stepped, read and ended, in one round trip.

        A child that fails, or whose process ends, is an outcome like the others, and hurts none of them. A live
        branch is snapshotted first.

        Args:
            inputs: For each child its inputs, or a sequence of inputs that are played one after the other.
            steps: For how many ticks each inputs are held.
            policy: A method that the simulation exports, which returns the inputs of the next tick: it is asked in
                the child for ``policy_steps`` more ticks.
            policy_steps: How many.
            read: Names of what to return: fields, outputs, and exported methods that need no arguments, which are
                called in the child at the end. All outputs of the last tick, and no fields, by default.
            sum: Names of outputs to add up over all ticks.
            parallel: How many children run at a time; as many as there are cores by default.
            rng: As for `branch`: ``"split"`` gives each child a random stream of its own.
            keep: ``"all"``, ``"none"``, or the `Best` of them: what is kept becomes a node.
            keep_as: What node: a live branch, or a snapshot.
            timeout_s: How long each child may take.
            on_outcome: Called with each outcome as soon as it is there.

        Returns:
            The outcomes, in the order of ``inputs``.

        Raises:
            BadRequestError: Nothing to expand, or arguments that do not go together.
            NotFoundError: A policy that is not exported.
        """
        streamed: list[protocol.Outcome] = []

        def collect(outcome: protocol.Outcome) -> None:
            streamed.append(outcome)
            if on_outcome is not None:
                on_outcome(Outcome(outcome))

        options: Options = {
            "steps": steps,
            "policy": policy,
            "policy_steps": policy_steps,
            "read": read,
            "sum": sum,
            "parallel": parallel,
            "rng": rng,
            "keep": keep,
            "keep_as": keep_as,
            "timeout_s": timeout_s,
        }
        request = requests.expand(self.id, inputs, options, stream=on_outcome is not None)
        result = self._run(request, outcome=collect)
        outcomes = collected(result.outcomes or streamed, len(inputs))
        for kept in result.kept:
            outcomes[kept.index].node = self._server._wrap(kept.node)
        return outcomes

    def diff(self, other: Node | str, fields: Sequence[str] | None = None) -> Diff:
        """Return how another node differs from this one, field by field."""
        return self._server.diff(self, other, fields)

    def pages(self, other: Node | str | None = None, fields: Sequence[str] | None = None) -> Pages:
        """Return which of its pages are whose: the base image's, another node's as well, or its own."""
        reference = None if other is None else _reference(other)
        result = self._run(requests.pages(self.id, reference, fields))
        return Pages(self.name, other.name if isinstance(other, Node) else other, result)

    def tag(self, name: str, *, remove: bool = False) -> None:
        """Give it a further name, or take one away."""
        self.last = self._run(requests.tag(self.id, name, remove=remove))

    def pin(self, pinned: bool = True) -> None:
        """Protect it from `drop`, or no longer."""
        self.last = self._run(requests.pin(self.id, pinned=pinned))

    def drop(self, *, recursive: bool = False, force: bool = False) -> list[str]:
        """End it; return the names of what is gone. Descendants live on unless ``recursive``."""
        return self._run(requests.drop(self.id, recursive=recursive, force=force))

    def _run(self, request: Request[T], **waiting: Unpack[Waiting]) -> T:
        return self._server._run(request, **waiting)

    def run_together(self, wanted: Sequence[Request[T]]) -> list[T]:
        """Run requests of `snapserv_client.requests` at the same time, on its connection; see `Connection`."""
        return self._server._connection.run_together(wanted)


class Snapshot(Node):
    """A frozen moment. ``fork_us`` is what taking it cost the branch, where this client took it."""

    def __init__(self, server: Server, info: NodeInfo, fork_us: float | None = None) -> None:
        super().__init__(server, info)
        self.fork_us = fork_us


class Branch(Node):
    """A live simulation."""

    def step(
        self,
        ticks: int = 1,
        *,
        progress: Progress | None = None,
        atomic: bool | None = None,
        timeout_s: float | None = None,
        inputs: Mapping[str, Any] | None = None,
        **named_inputs: Any,
    ) -> StepResult:
        """Run ticks, all with the same inputs, in one request.

        Args:
            ticks: How many.
            progress: Called with ticks done and wanted, now and then.
            atomic: Whether all of it happens or nothing does: after any failure the branch goes on from the moment
                before. The server's own default holds for None.
            timeout_s: How long it may take; for ever by default. An atomic step that takes longer is ended by the
                server, and rolled back; of another one, only the waiting ends.
            inputs: Inputs whose names are no Python names, or those of other arguments.
            **named_inputs: The other inputs.

        Raises:
            SimulationError: The simulation raised; ``details`` has its traceback and the last whole step.
            NodeDiedError: Its process ended.
            StepInterruptedError: Somebody interrupted it.
            BadRequestError: An input is wrong; says which.
            FaultedError: It raised before, and was not restored, reset, rewound or cleared since.
            RequestTimeoutError: It took too long.
        """
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
        result = self._run(request, timeout_s=patience_s, progress=progress)
        self.last.step = result.step
        return result

    def snapshot(self, name: str | None = None) -> Snapshot:
        """Freeze a copy of this moment."""
        result = self._run(requests.snapshot(self.id, name))
        return Snapshot(self._server, result.node, result.fork_us)

    def restore(self, snapshot: Snapshot | str | int, *, rng: Rng = "same") -> None:
        """Go back to a snapshot; the branch keeps its name, and lives again if it had died."""
        self.last = self._run(requests.restore(self.id, _reference(snapshot), rng))

    def reset(self, *, rng: Rng = "same") -> None:
        """Go back to the moment after setup."""
        self.last = self._run(requests.reset(self.id, rng))

    def mark(self, *, remove: bool = False) -> MarkResult:
        """Mark this moment, in the place of the last mark, or give the mark up: see `rewind`.

        Raises:
            BadRequestError: The simulation keeps state that a rewind would leave as it is; says which.
        """
        return self._run(requests.mark(self.id, remove=remove))

    def rewind(self) -> RewindResult:
        """Go back to the mark, in place: no process is made, and it takes time by the page written since.

        Raises:
            BadRequestError: There is no mark, or state has changed that would stay as it is; says which. Nothing
                has changed then, and `restore` does it.
        """
        result = self._run(requests.rewind(self.id))
        self.last.step = result.step
        return result

    def write(self, field: str, value: Any, region: RegionIndex = None) -> None:
        """Change a field or a region of it; a scalar fills it, an array must have its shape."""
        self._run(requests.write(self.id, field, value, region))

    def call(self, method: str, /, *args: Any, atomic: bool = False, **kwargs: Any) -> Any:
        """Run a method that the author exported, and return what it returns; ``atomic`` is as for `step`."""
        return self._run(requests.call(self.id, method, args, kwargs, atomic=atomic))

    def clear(self) -> None:
        """Go on with what the simulation left when it raised: the branch is no longer faulted."""
        self.last = self._run(requests.clear(self.id))

    def autosnap(
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
        self.last = self._run(requests.autosnap(self.id, every_steps, every_s, keep, off=off))
        return self.last.autosnap

    def interrupt(self, *, force: bool = False) -> bool:
        """Stop the step that runs, after its tick; return whether one ran. ``force`` kills the process."""
        return self._run(requests.interrupt(self.id, force=force))


def _reference(node: Node | str | int) -> str | int:
    return node.id if isinstance(node, Node) else node


def _name(node: Node | str | int) -> str | int:
    return node.name if isinstance(node, Node) else node


__all__ = ["Branch", "Node", "Server", "Snapshot", "connect"]
