"""The front door: ZeroMQ on one side, nodes on the other, in one event loop that never waits.

The server owns the tree and the processes, and holds no simulation memory. This module is its life, from the first
socket until the last one is closed; what comes in meanwhile is the dispatcher's.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
import uvloop
import zmq
import zmq.utils.garbage as garbage
from snapserv_client.channel import turned_off
from snapserv_client.endpoint import default_endpoint
from snapserv_client.watching import readings_of
from snapserv_client.wire import MAX_MESSAGE_BYTES

from ..cell.temporary import NAMED
from ..errors import BadRequestError, SnapservError
from ..machine.cpu import level_of
from ..machine.descendants import become_subreaper
from ..nodes.ledger import Ledger
from ..nodes.nodes import Nodes
from ..recovery.adoption import AdoptionSocket, end, find_survivors
from .access import door_of
from .channel import SideChannel
from .dispatch import Dispatcher
from .events import Events
from .listening import adoption_path, bind, prepare, watch_peers
from .options import ServeOptions
from .service import Service
from .sessions import Sessions

if TYPE_CHECKING:
    from .metrics import MetricsPage

log = structlog.get_logger(__name__)

MOST_WAITING = 1000
SWEEP_EVERY_S = 1.0
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


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

    if options.ready_fd is not None:
        os.set_inheritable(options.ready_fd, False)  # whoever waits for its end waits for no process of ours

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
        baseline = level_of(options.cpu_baseline) if options.cpu_baseline is not None else None
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        garbage.gc.start()  # pyzmq sends nothing large without its thread, and later there may be no more
        self._finishing: asyncio.Task[None] | None = None
        self._closers = contextlib.ExitStack()
        endpoint = options.endpoint or default_endpoint()
        door = door_of(endpoint, options.keys)
        place = prepare(endpoint)
        self._closers.callback(place.leave)
        try:
            context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            self._closers.callback(context.term)
            router = context.socket(zmq.ROUTER)
            self._closers.callback(router.close, 0)
            router.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
            router.setsockopt(zmq.SNDHWM, MOST_WAITING)
            router.setsockopt(zmq.RCVHWM, MOST_WAITING)
            # A client that reconnects takes its name over, and a reply that cannot be sent is an error to log.
            router.setsockopt(zmq.ROUTER_HANDOVER, 1)
            router.setsockopt(zmq.ROUTER_MANDATORY, 1)
            watch_peers(router, place.endpoint)
            door.guard(router)
            # Before anybody can connect: without an answer for keys, ZeroMQ would let everybody in.
            door.open(context, router)
            self._closers.callback(door.close)
            self.endpoint = bind(router, place.endpoint)
            adoption = adoption_path(self.endpoint)
            survivors = find_survivors(adoption, fresh=options.fresh)
            self.ledger, self._orphans = survivors.ledger, survivors.orphans
            self._closers.callback(self.ledger.close)
            _check_survivors(self.ledger, options, self.endpoint)
            self._adoption_socket = AdoptionSocket(adoption, self.ledger)
            self._closers.callback(self._adoption_socket.close)
            events = self.ledger.entries("about").get("events", place.events_endpoint)
            self.events = Events(context, events, door.guard)
            self._closers.callback(self.events.close)
            self._channel: SideChannel | None = None
            if place.channel is not None and not door.locked and not turned_off():
                self._channel = SideChannel(place.channel)
                self._closers.callback(self._channel.close)
            self.nodes = Nodes(
                self.events.publish,
                self.ledger,
                adoption=str(adoption),
                orphan_grace_s=options.orphan_grace_s,
                setup={
                    "backing": options.backing,
                    "path": [*options.search_path, os.getcwd(), *_own_path()],
                    "branch_dirs": [
                        path if path == NAMED else os.path.abspath(path) for path in options.branch_dirs
                    ],
                    "allow": options.allow,
                    "record": msgspec.to_builtins(readings_of(options.record)),
                    "record_every": options.record_every,
                },
                stalled_after_s=options.stalled_after_s,
                autosnap=options.autosnap,
                cpu_baseline=baseline,
            )
            if options.member:
                self.nodes.forest.suffix = f"-h{options.member.rpartition('/')[2]}"
            self.service = Service(
                options,
                name=self.endpoint.rsplit("/", 1)[-1].removesuffix(".sock"),
                nodes=self.nodes,
                events=self.events,
                sessions=Sessions(self.ledger),
                connected=door.connected,
                channel=self._channel,
                stop=self.stop,
            )
            self._dispatcher = Dispatcher(router, door, self.service, self.ledger, rate=options.rate)
            self.metrics = self._open_metrics(options.metrics)
        except BaseException:
            self._closers.close()
            raise

    # -------------------------------------------------------------------------------------------- a server's life

    def _open_metrics(self, address: str | None) -> MetricsPage | None:
        if address is None:
            return None
        from .metrics import MetricsPage, take_sample  # with prometheus-client, which most servers do without

        return MetricsPage(functools.partial(take_sample, self.service), address)

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
        become_subreaper()
        if self._channel is not None:
            self._channel.open()
        self._dispatcher.open()
        self._loop.call_later(SWEEP_EVERY_S, self._sweep)
        self._adoption_socket.open(self.nodes.processes.take)
        if self.ledger.entries("tree"):
            self._adopt()
        else:
            await self._begin()
        if self.service.keeper is not None:
            self.service.keeper.begin()
        self.service.first_tree.set()
        served = next(iter(self.nodes.forest.trees.values())).simulation
        log.info("serving", endpoint=self.endpoint, simulation=served, pid=os.getpid(), **self.where_metrics)

    def _adopt(self) -> None:
        """Go on with what a killed server has left."""
        self.service.recovery.begin(set(self._orphans))
        for pid in self._orphans - set(self.nodes.processes.cells):
            end(pid)  # nobody was told of it: what it was made for will be asked for again
        self._finishing = self._loop.create_task(self.service.recovery.finish())
        log.info("adopted", nodes=len(self.nodes.forest.nodes), processes=len(self.nodes.processes.cells))

    async def _begin(self) -> None:
        """Go on where the last server stopped, if that is wanted, or make the first tree."""
        for pid in self._orphans:
            end(pid)  # of a server that was killed before it had a tree
        served = {"targets": self.options.targets, "params": dict(self.options.params)}
        for key, value in {**served, "events": self.events.endpoint}.items():
            self.ledger.put("about", key, functools.partial(_itself, value))
        keeper, must = self.service.keeper, not self.options.targets
        if keeper is not None and self.options.begin_with is not None:
            await keeper.begin_with(self.options.begin_with, name="default")
            return
        if keeper is None or not (must or self.options.go_on) or not await keeper.go_on(must=must):
            await self._plant()

    async def _plant(self) -> None:
        """Make the first tree, or be stopped."""
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
        self._dispatcher.close()
        await self.service.close()
        if self.metrics is not None:
            # Not in the loop: somebody who reads them may be waiting for it.
            await self._loop.run_in_executor(None, self.metrics.close)
        await asyncio.sleep(0)  # the events published last go out
        self._closers.close()
        if self.options.own_folder:
            _remove_private(self.endpoint, self.options.targets)
        log.info("stopped")

    @property
    def where_metrics(self) -> dict[str, str]:
        """Where metrics are read, for those who are told where the server is; empty where they are not."""
        return {} if self.metrics is None else {"metrics": self.metrics.url}

    # ------------------------------------------------------------------------------------------------ housekeeping

    def _sweep(self) -> None:
        self.nodes.processes.reap_strays()
        self._dispatcher.sweep()
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
    if not options.targets:
        return  # to go on with whatever there is
    if served != (options.targets, dict(options.params)):
        raise BadRequestError(
            f"nodes of a server that was killed wait at {endpoint}, of {', '.join(served[0])} with {served[1]}",
            hint="serve that again to go on with them; --fresh ends them",
        )


def _own_path() -> list[str]:
    """Return the part of this process's module path that a fresh interpreter would not have."""
    return [path for path in sys.path if path]
