"""An expansion over several hosts: each fetches small shares, plays them by an ordinary expansion, and tells.

What a host that dies had is given to others; a child's outcome is given out once. Each child has its seed from the
beginning, so that it does not matter who plays it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec

from .. import requests
from ..aio import Connection, Server
from ..errors import MachineDiffersError, NotFoundError, NotPortableError, SnapservError, UnreachableError
from ..expansion import Best, Options
from ..protocol import Kept, Outcome
from .facts import HostInfo
from .joining import Membership
from .shares import IN_FLIGHT, Shares

CONNECT_WITHIN_S = 10.0
NOBODY_FOR_S = 60.0
"""For so long an expansion waits for a host, where all have died."""
OnOutcome = Callable[[Outcome], None]


class Expansion:
    """One expansion of a snapshot by the hosts of a cluster.

    Args:
        member: The cluster.
        name: What the snapshot is called.
        stored: Its ``uid`` in the store; None where it is only where it is.
        source: The host where it is.
        inputs: For each child.
        options: As for an expansion by one server; ``seeds`` where children draw from streams of their own.
    """

    def __init__(
        self,
        member: Membership,
        name: str,
        stored: str | None,
        source: int,
        inputs: Sequence[Any],
        options: Options,
    ) -> None:
        self._member = member
        self._name = name
        self._stored = stored
        self._source = source
        self._inputs = inputs
        self._options = options
        self._shares = Shares(len(inputs))
        self._on_outcome: OnOutcome = lambda outcome: None
        self._working: dict[int, asyncio.Task[None]] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._failed: SnapservError | None = None
        self._by = options.get("keep", "none")
        self._scores: dict[int, float] = {}
        self._changed: Callable[[], object] = list
        self._seen = asyncio.Event()
        self.kept: dict[int, tuple[int, Kept]] = {}
        """What was kept of each child, and on which host it is."""
        self.left_out: dict[str, SnapservError] = {}
        """Hosts that cannot have the snapshot, and why."""
        self.played: dict[str, int] = {}
        """How many children each host has played."""

    async def run(self, on_outcome: OnOutcome) -> None:
        """Have all children be played.

        Raises:
            SnapservError: What is wrong with all of them, as what was asked.
        """
        self._on_outcome = on_outcome
        loop = asyncio.get_running_loop()
        self._changed = lambda: loop.call_soon_threadsafe(self._seen.set)
        self._member.tell(self)
        idle_since: float | None = None
        try:
            while not self._shares.finished and self._failed is None:
                self._engage()
                idle_since = None if self._working else idle_since or time.monotonic()
                if idle_since is not None and time.monotonic() - idle_since > NOBODY_FOR_S:
                    raise UnreachableError(f"no host of the cluster {self._member.name} can play the children")
                self._seen.clear()
                waiting = [asyncio.ensure_future(self._seen.wait()), *self._working.values()]
                await asyncio.wait(waiting, timeout=1.0, return_when="FIRST_COMPLETED")
                waiting[0].cancel()
        finally:
            self._changed = list
            for task in self._working.values():
                task.cancel()
            await asyncio.gather(*self._working.values(), *self._leaving, return_exceptions=True)
        if self._failed is not None:
            raise self._failed
        await self._keep_best()

    def hosts_changed(self) -> None:
        """Look at which hosts there are; called by another thread."""
        with contextlib.suppress(RuntimeError):  # it has just ended
            self._changed()

    def _engage(self) -> None:
        """Have each host work that can, and none that is gone."""
        there = self._member.hosts
        for number in [number for number, task in self._working.items() if task.done() or number not in there]:
            self._leave(self._working.pop(number))
        for number, host in there.items():
            may = number == self._source or self._stored is not None
            if may and number not in self._working and host.name not in self.left_out and self._shares.waiting:
                self._working[number] = asyncio.create_task(self._work(host))

    def _leave(self, task: asyncio.Task[None]) -> None:
        task.cancel()
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _work(self, host: HostInfo) -> None:
        """Have a host play shares for as long as there are some."""
        try:
            server = Server(Connection(host.endpoint, CONNECT_WITHIN_S, self._member.keys))
            try:
                await server.greet(CONNECT_WITHIN_S)
                node = await self._snapshot(server)
                began, count = time.monotonic(), [0]
                await _all([self._fetch(server, host, node, began, count) for _ in range(IN_FLIGHT)])
            finally:
                await server.close()
                self._seen.set()
        except UnreachableError:
            await asyncio.sleep(0.2)  # Ray says whether it is gone
        except (MachineDiffersError, NotPortableError, NotFoundError) as error:
            if host.number == self._source:
                self._failed = error
            self.left_out[host.name] = error
        except SnapservError as error:
            self._failed = error

    async def _snapshot(self, server: Server) -> int:
        """Return the snapshot on a server, when it is there."""
        try:
            return (await server.snapshot(self._name)).id
        except NotFoundError:
            if self._stored is None:
                raise
            return (await server.load(self._stored)).id

    async def _fetch(self, server: Server, host: HostInfo, node: int, began: float, count: list[int]) -> None:
        while True:
            per_s = count[0] / (time.monotonic() - began) if count[0] else None
            cores = self._options.get("parallel") or host.cores
            share = self._shares.take(cores, per_s, max(1, len(self._working)))
            if not share:
                return
            try:
                await self._play(server, host, node, share, count)
            finally:
                self._shares.give_back(self._shares.missing(share))

    async def _play(
        self, server: Server, host: HostInfo, node: int, share: Sequence[int], count: list[int]
    ) -> None:
        options = dict(self._options)
        seeds = self._options.get("seeds")
        if seeds is not None:
            options["seeds"] = [seeds[index] for index in share]
        inputs = [self._inputs[index] for index in share]

        def take(outcome: Outcome) -> None:
            outcome = msgspec.structs.replace(outcome, index=share[outcome.index])
            if self._shares.done(outcome.index):
                count[0] += 1
                self._scores[outcome.index] = _score(outcome, self._by)
                self.played[host.name] = self.played.get(host.name, 0) + 1
                self._on_outcome(outcome)

        request = requests.expand(node, inputs, options)  # type: ignore[arg-type]  # the options, and their seeds
        result = await server._run(request, outcome=take)
        for kept in result.kept:
            self.kept[share[kept.index]] = host.number, kept

    async def _keep_best(self) -> None:
        """Drop what is not among the best of all: each share has kept its own best."""
        keep = self._options.get("keep", "none")
        if not isinstance(keep, Best) or len(self.kept) <= keep.count:
            return
        order = sorted(self.kept, key=lambda index: (self._scores.get(index, math.inf), index))
        for index in order[keep.count :]:
            number, kept = self.kept.pop(index)
            host = self._member.hosts.get(number)
            if host is None:
                continue
            server = Server(Connection(host.endpoint, CONNECT_WITHIN_S, self._member.keys))
            try:
                await server._run(requests.drop(kept.node.id, recursive=False, force=False))
            except SnapservError:
                pass  # it has gone with its host
            finally:
                await server.close()


def _score(outcome: Outcome, keep: object) -> float:
    """Return by what children that are kept are ordered, the best first."""
    if not isinstance(keep, Best):
        return 0.0
    outputs = outcome.outputs if isinstance(outcome.outputs, dict) else {}
    value: Any = outcome.totals.get(keep.by, outputs.get(keep.by, math.nan))
    try:
        found = -float(value) if keep.largest else float(value)
    except (TypeError, ValueError):
        return math.inf
    return math.inf if math.isnan(found) else found


async def _all(works: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Await several; where one fails, the others are ended first."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
