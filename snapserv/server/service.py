"""What verbs are served with: a server without its sockets."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import structlog
from snapserv_client import protocol
from snapserv_client.endpoint import default_endpoint

from ..budget.budget import Budget
from ..errors import BadRequestError, NotFoundError
from ..nodes.histograms import RequestCounts
from ..nodes.nodes import Nodes
from ..nodes.process import RequestKey
from ..nodes.tree import Node
from ..operations.keeping import Keeper
from ..operations.leasing import Leases
from ..operations.replaying import OnProgress, say_nothing
from ..operations.stepping import Stepping
from ..recovery.resuming import Recovery
from .channel import SideChannel
from .events import Events
from .options import ServeOptions
from .sessions import Sessions
from .streams import Stream

log = structlog.get_logger(__name__)
T = TypeVar("T")

WORKERS = 2


class Service:
    """The parts of a running server that verbs use.

    ``calls`` are the requests that run or wait, by client and id; ``connected`` says how many clients there are;
    ``channel`` is where descriptors are handed over, where that is; ``stop`` has the server end, for a reason.
    """

    def __init__(
        self,
        options: ServeOptions,
        *,
        name: str,
        nodes: Nodes,
        events: Events,
        sessions: Sessions,
        connected: Callable[[], int],
        channel: SideChannel | None,
        stop: Callable[[str], None],
    ) -> None:
        self.options = options
        self.name = name
        self.nodes = nodes
        self.events = events
        self.sessions = sessions
        self.connected = connected
        self.channel = channel
        self.stop = stop
        self.recovery = Recovery(nodes)
        self.leases = Leases(nodes)
        endpoint = options.endpoint or default_endpoint()
        self.keeper = (
            Keeper(
                nodes,
                options.store,
                endpoint,
                durable=options.durable,
                bytes_per_s=options.store_bytes_per_s,
                replay=options.replay,
                embed=options.embed,
                in_thread=self.in_thread,
                member=options.member,
            )
            if options.store is not None
            else None
        )
        self.budget = Budget(nodes, options.memory_bytes)
        self.counts = RequestCounts()
        self.calls: dict[RequestKey, Call] = {}
        self.first_tree = asyncio.Event()
        self._began = time.monotonic()
        self._loop = asyncio.get_running_loop()
        self._workers = ThreadPoolExecutor(WORKERS, "snapserv-copy")
        # Started now: where nodes have taken all processes that there may be, none could be started to read.
        together = threading.Barrier(WORKERS)
        for _ in range(WORKERS):
            self._workers.submit(together.wait)
        self.copying = ThreadPoolExecutor(1, "snapserv-copy-half")
        """Does half of a very large copy."""
        if channel is not None:
            self.copying.submit(time.monotonic)

    async def planted(self) -> None:
        """Wait until the first tree stands."""
        if not self.first_tree.is_set():
            await self.first_tree.wait()

    async def in_thread(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run a long copy in a worker thread."""
        return await self._loop.run_in_executor(self._workers, lambda: work(*args, **kwargs))

    @property
    def uptime_s(self) -> float:
        """For how long the server has been running."""
        return time.monotonic() - self._began

    def target(self, simulation: str | None) -> str:
        """Return which of the served simulations a client means, by its class name; the first for None.

        Raises:
            NotFoundError: It is none of them: a client cannot name what the server was not started with.
        """
        targets = {target.rpartition(":")[2]: target for target in self.options.targets}
        if simulation is None and targets:
            return self.options.targets[0]
        if simulation not in targets:
            raise NotFoundError(f"no simulation {simulation!r} is served", hint=f"served: {', '.join(targets)}")
        return targets[simulation]

    async def close(self) -> None:
        """Give up requests that run, end every cell, and let go of the threads."""
        for call in list(self.calls.values()):
            if call.quick is not None:
                call.quick.give_up()
        tasks = [call.task for call in self.calls.values() if call.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)
        self.recovery.give_up()
        if self.keeper is not None:
            await self.keeper.close()
        await self.budget.close()
        await self.nodes.close()
        self._workers.shutdown()
        self.copying.shutdown()


class WithoutTask(Protocol):
    """A step that goes the short way; see `snapserv.server.quick`."""

    def give_up(self) -> None:
        """Answer now: the server ends."""


@dataclass(eq=False, slots=True)
class Call:
    """One request being served.

    It is served by a ``task``, or is a ``quick`` step. ``stepping`` is its step, once that runs; ``expanding`` the
    snapshot that it expands; ``code`` what came of it; ``notices`` what its caller is told besides; ``stream`` what
    is sent before its reply. ``given_up`` says that its task, which had not ``begun`` yet, is not to do it.
    """

    service: Service
    client: bytes
    id: int
    verb: protocol.Verb
    node: str | int | None
    progress: Callable[[int, int], None] | None = None
    stream: Stream | None = None
    stepping: Stepping | None = None
    expanding: Node | None = None
    task: asyncio.Task[None] | None = field(default=None)
    begun: bool = False
    given_up: bool = False
    quick: WithoutTask | None = None
    notices: list[protocol.Notice] = field(default_factory=list)
    code: str = "ok"

    @property
    def key(self) -> RequestKey:
        """Whose request it is: a cell that does it remembers that."""
        return self.client, self.id

    def cancel(self) -> None:
        """Have its task give it up, and answer so: one that is cancelled before it has begun says nothing."""
        if not self.begun:
            self.given_up = True
        elif self.task is not None:
            self.task.cancel()

    def told(self, wanted: bool) -> OnProgress:
        """Return what tells the client how far its request has come; nobody, where it does not want to know."""
        return self.progress if wanted and self.progress is not None else say_nothing

    def named(self) -> dict[str, str | int]:
        """What the log calls the request: its node by name if it has one, and not at all where it names none."""
        told: dict[str, str | int] = {"client": self.client.hex(), "request": self.id, "verb": self.verb.name}
        if self.node is not None:
            node = self.service.nodes.forest.find(self.node)
            told["node"] = self.node if node is None else node.path
        return told

    def tell(self, notices: Iterable[protocol.Notice]) -> None:
        """Have the reply, and the log, say what whoever asked should know."""
        for notice in notices:
            self.notices.append(notice)
            log.warning(notice.code, message=notice.message)

    @property
    def reference(self) -> str | int:
        """The node that the request names.

        Raises:
            BadRequestError: It names none.
        """
        if self.node is None:
            raise BadRequestError("the request names no node", hint="set node to a name or an id")
        return self.node
