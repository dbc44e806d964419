"""The front door: ZeroMQ on one side, turns and handlers on the other, in one event loop that never waits.

The server owns the tree and the processes, and holds no simulation memory. Requests come in on a ROUTER, each
becomes a task, and its reply goes out when it is ready; long copies are made in a few worker threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import functools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import structlog
import uvloop
import zmq
import zmq.utils.garbage as garbage
from snapserv_client.endpoint import default_endpoint
from snapserv_client.protocol import MAX_IN_FLIGHT, PROTOCOL_VERSION, VERBS, Outcome, Progress, RequestHeader
from snapserv_client.transport import has_input, receive_frames
from snapserv_client.wire import (
    MAGIC,
    MAX_BUFFERS,
    MAX_MESSAGE_BYTES,
    Frames,
    convert,
    leading_id,
    pack,
    unpack,
)

from ..budget.budget import Budget
from ..errors import (
    BadRequestError,
    BusyError,
    InternalError,
    NotFoundError,
    SnapservError,
    StepInterruptedError,
    TooLargeError,
    VersionMismatchError,
)
from ..ext import fork
from ..nodes.histograms import RequestCounts
from ..nodes.ledger import Ledger
from ..nodes.nodes import Nodes
from ..nodes.tree import Autosnap
from ..recovery.adoption import AdoptionSocket, end, find_survivors
from ..recovery.resuming import Recovery
from . import logs
from .access import door_of
from .events import Events
from .listening import adoption_path, bind, prepare, watch_peers
from .outgoing import Outgoing, replies_wait
from .rates import DEFAULT_PER_S, Rates
from .sessions import Session, Sessions
from .throttled_log import ThrottledLog
from .verbs import HANDLERS, Call

if TYPE_CHECKING:
    from .metrics import MetricsPage

log = structlog.get_logger(__name__)
T = TypeVar("T")

WORKERS = 2
MOST_WAITING = 1000
BATCH = 64
MOST_SAID = 200
"""An error's message may repeat what was sent."""
SWEEP_EVERY_S = 1.0
ORPHAN_GRACE_S = 60.0
SLOW_S = 1.0
"""A request that took longer has a line in the log."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class ServeOptions:
    """What to serve and where.

    Args:
        targets: Simulations, as `snapserv.cell.loading.load_simulation` takes them; the first one's ``setup`` is
            run at once, the others are there for ``create``.
        params: Parameters of the first one's ``setup``.
        endpoint: Where to listen; the user's default ipc socket for None.
        keys: A folder of keys: only clients that it names are let in; see `snapserv_client.keys.chosen_folder`.
        rate: Requests a second that one client may ask, or with keys one key.
        backing: The arena's backing; the best that there is for None.
        branch_dirs: Folders that belong to the node, besides those that simulations name.
        atomic: Whether steps are atomic that do not say.
        autosnap: When snapshots of each tree's ``main`` are taken by themselves.
        memory_bytes: The budget of memory; a share of what there is for None, see `snapserv.budget.budget`.
        ready_fd: A descriptor that gets one line of JSON when the server answers, or why it does not.
        exit_with_stdin: End when standard input is closed: the server then never outlives who started it.
        own_folder: Whether the socket's folder is this server's alone, and goes with it.
        orphan_grace_s: For how long nodes wait for another server, where this one is killed outright.
        fresh: End the nodes that wait there already, rather than to take them in.
        metrics: Where Prometheus may read metrics, as HOST:PORT; see `snapserv.server.metrics.MetricsPage`.
    """

    targets: list[str]
    params: Mapping[str, Any] = field(default_factory=dict)
    endpoint: str | None = None
    keys: str | None = None
    rate: float = DEFAULT_PER_S
    backing: str | None = None
    branch_dirs: list[str] = field(default_factory=list)
    atomic: bool = False
    autosnap: Autosnap | None = None
    memory_bytes: int | None = None
    ready_fd: int | None = None
    exit_with_stdin: bool = False
    own_folder: bool = False
    orphan_grace_s: float = ORPHAN_GRACE_S
    fresh: bool = False
    metrics: str | None = None


def serve(
    options: ServeOptions, *, on_ready: Callable[[Server], None] | None = None, then_exit: bool = False
) -> None:
    """Serve until SIGTERM, SIGINT or ``shutdown``; then end every cell and leave nothing behind.

    Args:
        options: What to serve and where.
        on_ready: Called once the first tree stands and requests are answered.
        then_exit: Whether the process ends when this returns. SIGTERM and SIGINT are ignored then: one that comes
            when all is done would only make a failure of a success.

    Raises:
        SnapservError: The server could not start: the address, or what ``setup`` met.
    """

    def report(outcome: dict[str, Any]) -> None:
        if options.ready_fd is not None:
            with os.fdopen(options.ready_fd, "w") as ready:
                ready.write(json.dumps(outcome, default=str) + "\n")

    async def run() -> None:
        server = Server(options)
        try:
            await server.start()
            report({"endpoint": server.endpoint, "pid": os.getpid(), **server.where_metrics})
            if on_ready is not None:
                on_ready(server)
            await server.stopped()
        finally:
            await server.close()

    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        uvloop.run(run())
    except SnapservError as error:
        report({"error": error.to_wire()})
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if then_exit else handler)


class Server:
    """A running server; see `serve`."""

    def __init__(self, options: ServeOptions) -> None:
        self.options = options
        self._began = time.monotonic()
        self.calls: dict[tuple[bytes, int], Call] = {}
        self._rates = Rates(options.rate)
        self._throttled = ThrottledLog()
        self.counts = RequestCounts()
        self.requests = 0
        self.errors = 0
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._planted = asyncio.Event()
        self._workers = ThreadPoolExecutor(WORKERS, "snapserv-copy")
        # Started now: where nodes have taken all processes that there may be, none could be started to read.
        together = threading.Barrier(WORKERS)
        for _ in range(WORKERS):
            self._workers.submit(together.wait)
        garbage.gc.start()  # likewise pyzmq's thread, without which it sends nothing large
        self._drain_planned = False
        self._finishing: asyncio.Task[None] | None = None
        self._closers = contextlib.ExitStack()
        endpoint = options.endpoint or default_endpoint()
        self._door = door_of(endpoint, options.keys)
        place = prepare(endpoint)
        self._closers.callback(place.leave)
        try:
            context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            self._closers.callback(context.term)
            self._router = context.socket(zmq.ROUTER)
            self._closers.callback(self._router.close, 0)
            self._router.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
            self._router.setsockopt(zmq.SNDHWM, MOST_WAITING)
            self._router.setsockopt(zmq.RCVHWM, MOST_WAITING)
            # A client that reconnects takes its name over, and a reply that cannot be sent is an error to log.
            self._router.setsockopt(zmq.ROUTER_HANDOVER, 1)
            self._router.setsockopt(zmq.ROUTER_MANDATORY, 1)
            watch_peers(self._router, place.endpoint)
            self._door.guard(self._router)
            # Before anybody can connect: without an answer for keys, ZeroMQ would let everybody in.
            self._door.open(context, self._router)
            self._closers.callback(self._door.close)
            self.endpoint = bind(self._router, place.endpoint)
            self.name = self.endpoint.rsplit("/", 1)[-1].removesuffix(".sock")
            adoption = adoption_path(self.endpoint)
            survivors = find_survivors(adoption, fresh=options.fresh)
            self.ledger, self._orphans = survivors.ledger, survivors.orphans
            self._closers.callback(self.ledger.close)
            _check_survivors(self.ledger, options, self.endpoint)
            self._adoption_socket = AdoptionSocket(adoption, self.ledger)
            self._closers.callback(self._adoption_socket.close)
            events = self.ledger.entries("about").get("events", place.events_endpoint)
            self.events = Events(context, events, self._door.guard)
            self._closers.callback(self.events.close)
            self._outgoing = Outgoing(self._router)
            self.metrics = self._open_metrics(options.metrics)
        except BaseException:
            self._closers.close()
            raise
        self.sessions = Sessions(self.ledger)
        self.nodes = Nodes(
            self.events.publish,
            self.ledger,
            adoption=str(adoption),
            orphan_grace_s=options.orphan_grace_s,
            backing=options.backing,
            search_path=[os.getcwd(), *_own_path()],
            branch_dirs=[os.path.abspath(path) for path in options.branch_dirs],
            autosnap=options.autosnap,
        )
        self.recovery = Recovery(self.nodes)
        self.budget = Budget(self.nodes, options.memory_bytes)

    # -------------------------------------------------------------------------------------------- a server's life

    def _open_metrics(self, address: str | None) -> MetricsPage | None:
        if address is None:
            return None
        from .metrics import MetricsPage  # with prometheus-client, which most servers do without

        return MetricsPage(self, address)

    async def start(self) -> None:
        """Answer requests, and run the first simulation's setup.

        Raises:
            SnapservError: What setup met.
        """
        for number in STOP_SIGNALS:
            # Not the loop's own way, which has them end the process as soon as the loop is closed.
            signal.signal(number, self._on_signal)
        if self.options.exit_with_stdin:
            self._loop.add_reader(sys.stdin.fileno(), self._on_stdin)
        if fork.mode()[0] == "fork":
            _become_subreaper()
        self._loop.add_reader(int(self._router.getsockopt(zmq.FD)), self._drain)
        self._drain()
        self._loop.call_later(SWEEP_EVERY_S, self._sweep)
        self._adoption_socket.open(self.nodes.processes.take)
        if self.ledger.entries("tree"):
            self._adopt()
        else:
            await self._plant()
        self._planted.set()
        served = self.options.targets[0]
        log.info("serving", endpoint=self.endpoint, simulation=served, pid=os.getpid(), **self.where_metrics)

    def _adopt(self) -> None:
        """Go on with what a killed server has left."""
        self.recovery.begin(set(self._orphans))
        for pid in self._orphans - set(self.nodes.processes.cells):
            end(pid)  # nobody was told of it: what it was made for will be asked for again
        self._finishing = self._loop.create_task(self.recovery.finish())
        log.info("adopted", nodes=len(self.nodes.forest.nodes), processes=len(self.nodes.processes.cells))

    async def _plant(self) -> None:
        """Make the first tree, or be stopped."""
        for pid in self._orphans:
            end(pid)  # of a server that was killed before it had a tree
        served = {"targets": self.options.targets, "params": dict(self.options.params)}
        for key, value in {**served, "events": self.events.endpoint}.items():
            self.ledger.put("about", key, functools.partial(_itself, value))
        stopping = asyncio.ensure_future(self._stop.wait())
        creating = asyncio.ensure_future(self._create_first())
        try:
            await asyncio.wait((creating, stopping), return_when=asyncio.FIRST_COMPLETED)
            if creating.done():
                await creating
        finally:
            stopping.cancel()
            if not creating.done():
                creating.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await creating

    async def _create_first(self) -> None:
        with self.ledger.gathering():
            await self.nodes.create(self.options.targets[0], name="default", params=self.options.params)

    async def stopped(self) -> None:
        """Wait until somebody wants the server to end."""
        await self._stop.wait()

    def stop(self, reason: str) -> None:
        """Have the server end soon; requests that run are given up."""
        if not self._stop.is_set():
            # A moment later, so that the reply to `shutdown` is on its way.
            self._loop.call_soon(self._stop.set)
            log.info("stopping", reason=reason)

    async def close(self) -> None:
        """End every cell, close every socket and remove every file."""
        self.events.publish("shutdown", None, "")
        self._loop.remove_reader(int(self._router.getsockopt(zmq.FD)))
        tasks = [call.task for call in self.calls.values() if call.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)
        self.recovery.give_up()
        await self.budget.close()
        await self.nodes.close()
        if self.metrics is not None:
            # Not in the loop: somebody who reads them may be waiting for it.
            await self._loop.run_in_executor(None, self.metrics.close)
        self._workers.shutdown()
        await asyncio.sleep(0)  # the events published last go out
        self._closers.close()
        if self.options.own_folder:
            _remove_private(self.endpoint, self.options.targets)
        log.info("stopped")

    async def planted(self) -> None:
        """Wait until the first tree stands."""
        if not self._planted.is_set():
            await self._planted.wait()

    async def in_thread(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run a long copy in a worker thread."""
        return await self._loop.run_in_executor(self._workers, lambda: work(*args, **kwargs))

    @property
    def uptime_s(self) -> float:
        """For how long the server has been running."""
        return time.monotonic() - self._began

    @property
    def where_metrics(self) -> dict[str, str]:
        """Where metrics are read, for those who are told where the server is; empty where they are not."""
        return {} if self.metrics is None else {"metrics": self.metrics.url}

    def target(self, simulation: str | None) -> str:
        """Return which of the served simulations a client means, by its class name; the first for None.

        Raises:
            NotFoundError: It is none of them: a client cannot name what the server was not started with.
        """
        targets = {target.rpartition(":")[2]: target for target in self.options.targets}
        if simulation is None:
            return self.options.targets[0]
        if simulation not in targets:
            raise NotFoundError(f"no simulation {simulation!r} is served", hint=f"served: {', '.join(targets)}")
        return targets[simulation]

    # ------------------------------------------------------------------------------------------------- requests

    def _drain(self) -> None:
        """Take in what has come. ZeroMQ's descriptor tells of changes only, so whoever sends looks again."""
        self._drain_planned = False
        logs.cause.set(None)  # where a request has planned it, what follows is not that one's
        for _ in range(BATCH):
            if not has_input(self._router):
                return
            client = self._door.receive_client(self._router)
            self._receive(client, receive_frames(self._router))
        self._plan_drain()

    def _plan_drain(self) -> None:
        if not self._drain_planned and has_input(self._router):
            self._drain_planned = True
            self._loop.call_soon(self._drain)

    def _receive(self, client: bytes, frames: Frames) -> None:
        self.requests += 1
        request_id = 0
        try:
            size = len(frames[1]) if len(frames) > 1 else 0
            is_ours = bool(frames) and frames[0] == MAGIC
            try:
                self._rates.take(self._door.user(client), size)
            except BusyError:
                if not is_ours:
                    return
                request_id = leading_id(frames[1]) if size else 0
                raise
            if not is_ours:
                if frames and bytes(frames[0][:2]) == MAGIC[:2]:
                    raise VersionMismatchError(
                        f"this server speaks version {PROTOCOL_VERSION} of the protocol",
                        details={"protocol": PROTOCOL_VERSION},
                    )
                self.counts.refused["not_our_protocol"] += 1
                self._throttled.warn("not_our_protocol", client=client.hex())
                return
            if len(frames) < 2 or len(frames) > MAX_BUFFERS + 2:
                raise BadRequestError(
                    f"a message of the wrong number of frames: 2 to {MAX_BUFFERS + 2} are allowed"
                )
            raw = unpack(frames[1], frames[2:], request=True)
            if isinstance(raw, dict) and type(raw.get("id")) is int:
                request_id = raw["id"]
            header = convert(raw, RequestHeader, what="header")
            self._accept(client, header)
        except SnapservError as error:
            self.counts.refused[error.code] += 1
            self._throttled.warn(
                "request_refused",
                error.code,
                code=error.code,
                error=error.message[:MOST_SAID],
                client=client.hex(),
                request=request_id,
            )
            self._send(client, self._failed(request_id, error))
        except Exception:
            # Nothing that a client sends may stop the others from being heard.
            log.exception("internal_error", client=client.hex())
            self._send(client, self._failed(request_id, InternalError("the request failed inside the server")))

    def _accept(self, client: bytes, header: RequestHeader) -> None:
        """Start a request, or answer a retry from memory.

        Raises:
            SnapservError: It is not started.
        """
        verb = VERBS.get(header.verb)
        if verb is None:
            close = difflib.get_close_matches(header.verb, VERBS, n=1)
            raise BadRequestError(
                f"no verb {header.verb!r}", hint=f"did you mean {close[0]!r}?" if close else "see docs/protocol.md"
            )
        self._door.check(client, verb)
        session = self.sessions.of(client)
        if header.id in session.running:
            return  # a retry of a request that still runs: its reply is on its way
        if verb.once and (client, header.id) not in self.nodes.processes.answers:
            reply = session.recall(header.id)
            if reply is not None:
                self._reply(client, header.id, reply)
                return
        if len(session.running) >= MAX_IN_FLIGHT:
            raise BusyError(f"{MAX_IN_FLIGHT} requests of this client are in flight", hint="wait for replies first")
        args = convert(header.args, verb.args, what=verb.name)
        call = Call(self, client, header.id, verb, header.node)
        call.progress = lambda done, total: self._send(
            client, pack({"id": header.id, "progress": Progress(done, total)})
        )
        call.outcome = lambda outcome: self._send_outcome(client, header.id, outcome)
        session.running.add(header.id)
        self.calls[client, header.id] = call
        call.task = self._loop.create_task(self._run(call, session, args))

    async def _run(self, call: Call, session: Session, args: msgspec.Struct) -> None:
        # What a request changes and what is answered are one record: a server that is killed in the middle has done
        # nothing that its successor would have to know, and the retry does it.
        logs.cause.set(call.named)
        began = time.monotonic()
        with self.ledger.gathering():
            frames = await self._handle(call, args)
            if call.verb.once:
                session.remember(call.id, frames)
                self.nodes.answered(call.key)
        session.running.discard(call.id)
        self.calls.pop((call.client, call.id), None)
        self._reply(call.client, call.id, frames)
        elapsed_s = time.monotonic() - began
        self.counts.add(call.verb.name, call.code, elapsed_s)
        if elapsed_s >= SLOW_S:
            log.info("slow_request", code=call.code, elapsed_s=round(elapsed_s, 3))
        else:
            log.debug("request", code=call.code, elapsed_s=round(elapsed_s, 6))

    def _reply(self, client: bytes, request_id: int, frames: Frames) -> None:
        """Send the final reply, or in its place an error to a client that has not taken others."""
        if not self._outgoing.admits(client, frames):
            frames = self._failed(request_id, replies_wait())
        self._send(client, frames)

    async def _handle(self, call: Call, args: msgspec.Struct) -> Frames:
        error: SnapservError
        try:
            result = await HANDLERS[call.verb.name](call, args)
            return pack({"id": call.id, "ok": result})
        except SnapservError as cause:
            error = cause
        except asyncio.CancelledError:
            error = StepInterruptedError("given up")
        except Exception:
            # The one place for our own mistakes: the client must get a reply, and the log the traceback.
            log.exception("internal_error")
            error = InternalError(f"{call.verb.name} failed inside the server", hint="see its log")
        call.code = error.code
        return self._failed(call.id, error)

    def _send_outcome(self, client: bytes, request_id: int, outcome: Outcome) -> None:
        try:
            frames = pack({"id": request_id, "outcome": outcome})
            if not self._outgoing.admits(client, frames):
                raise replies_wait()
        except SnapservError as error:
            frames = pack({"id": request_id, "outcome": Outcome(outcome.index, False, error=error.to_wire())})
        self._send(client, frames)

    def _failed(self, request_id: int, error: SnapservError) -> Frames:
        self.errors += 1
        try:
            return pack({"id": request_id, "error": error.to_wire()})
        except (TooLargeError, BadRequestError):
            plain = type(error)(error.message[:1000], hint=error.hint[:1000])
            return pack({"id": request_id, "error": plain.to_wire()})

    def _send(self, client: bytes, frames: Frames) -> None:
        routing_id = self._door.routing_id(client)
        if routing_id is None:
            log.info("client_gone", client=client.hex())
            return
        try:
            self._outgoing.send(client, routing_id, [MAGIC, *frames])
        except zmq.Again:
            log.warning("slow_client", client=client.hex())
        except zmq.ZMQError as cause:
            if cause.errno != zmq.EHOSTUNREACH:
                raise
            log.info("client_gone", client=client.hex())
        self._plan_drain()

    # ------------------------------------------------------------------------------------------------ housekeeping

    def _sweep(self) -> None:
        self.nodes.processes.reap_strays()
        self._outgoing.forget_taken()
        self._loop.call_later(SWEEP_EVERY_S, self._sweep)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        # The first is enough. Handlers nest, and a storm of signals would nest them without end.
        for each in STOP_SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.stop, signal.Signals(number).name)

    def _on_stdin(self) -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            self._loop.remove_reader(sys.stdin.fileno())
            self.stop("standard input was closed")


def _remove_private(endpoint: str, targets: list[str]) -> None:
    """Remove what `snapserv_client.local` has made for a private server: it may have been killed, and cannot."""
    for target in targets:
        if target.startswith("pickle:"):
            Path(target.removeprefix("pickle:")).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # with anything else in it, it is not only ours
        Path(endpoint.removeprefix("ipc://")).parent.rmdir()


def _itself(value: Any) -> Any:
    return value


def _check_survivors(ledger: Ledger, options: ServeOptions, endpoint: str) -> None:
    """Refuse to take in the nodes of another simulation.

    Raises:
        BadRequestError: A server that was killed here served something else.
    """
    about = ledger.entries("about")
    served = about.get("targets", options.targets), about.get("params", dict(options.params))
    if served != (options.targets, dict(options.params)):
        raise BadRequestError(
            f"nodes of a server that was killed wait at {endpoint}, of {', '.join(served[0])} with {served[1]}",
            hint="serve that again to go on with them; --fresh ends them",
        )


def _become_subreaper() -> None:
    """Have orphans of cells become children of this process (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise InternalError(f"PR_SET_CHILD_SUBREAPER: {os.strerror(number)}")


def _own_path() -> list[str]:
    """Return the part of this process's module path that a fresh interpreter would not have."""
    return [path for path in sys.path if path]
