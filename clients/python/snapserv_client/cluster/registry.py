"""The registry: which hosts there are, what names are taken, and who goes on with what a dead host had.

It keeps no book of its own. What a host had live is in its server's session in the store, what is where the servers
themselves know, and which hosts there are Ray does: so it begins again from these wherever it died.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import NameTakenError, NotFoundError, RequestTimeoutError, SnapservError, error_from_wire
from . import recovering
from .engine import NAMESPACE, host_prefix, ray_module
from .facts import Admission, HostInfo, Hosts, Place, Settings
from .host import Host, options_of

LOOKS_EVERY_S = 0.5
SEEDS_AT_ONCE = 1 << 20
OVER_WITHIN_S = 40.0
"""For so long the server of a dead host on a living machine may still be saving what it has."""
GONE_WITHIN_S = 2.0
"""For so long that of a machine that is gone is waited for, which may have ended in order."""
CHANGED_WITHIN_S = 20.0
AGAIN_AFTER_S = 2.0
CLAIMED_FOR_S = 10.0
"""For so long a name is kept for who claimed it, and says no more."""
SETTLED_AFTER_S, SETTLES_WITHIN_S = 10.0, 3.0
"""So long after a host has joined, and for so long, Ray may say of one that has begun again that it has ended."""


class Registry:
    """The registry of a cluster; an actor of Ray's that answers many at a time.

    Args:
        settings: The cluster's.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ray = ray_module()
        self._hosts: dict[int, tuple[HostInfo, Any]] = {}
        self._places: dict[str, Place] = {}
        self._stored: dict[str, str] = {}
        self._lost: dict[int, asyncio.Task[None]] = {}
        self._refused: dict[str, Mapping[str, Any]] = {}
        self._failed: list[Mapping[str, Any]] = []
        self._starting: dict[str, asyncio.Task[None]] = {}
        self._root: str | None = None
        self._planter: str | None = None
        self._turn = asyncio.Condition()
        self._claimed: dict[str, float] = {}
        self._changed = asyncio.Condition()
        self._version = 0
        self._seeds = 0
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends = False
        self._begun: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Take up what there is of this cluster, and have hosts started; whoever asks later waits for the same."""
        if self._begun is None:
            self._begun = asyncio.create_task(self._begin())
        await self._begun

    async def _begin(self) -> None:
        prefix = host_prefix(self._settings.cluster)
        listed = await asyncio.to_thread(self._ray.util.list_named_actors, True)
        names = [each["name"] for each in listed if each["namespace"] == NAMESPACE]
        found = [self._ray.get_actor(name, namespace=NAMESPACE) for name in names if name.startswith(prefix)]
        sessions = await asyncio.to_thread(self._sessions)
        if found or sessions:
            self._seeds = secrets.randbits(40) * SEEDS_AT_ONCE  # none that were given out before
        for told in await asyncio.gather(*(self._describe(handle) for handle in found)):
            if told is not None:
                await self.join(*told)
        self._numbers = itertools.count(max([0, *sessions, *self._hosts]) + 1)
        for number, of_host in sessions.items():
            if number not in self._hosts and not of_host[0].ended:
                self._lose(number)
        self._keep(self._place_hosts())

    async def _describe(self, handle: Any) -> tuple[HostInfo, Any, list[str]] | None:
        with contextlib.suppress(Exception):  # it has just ended, and Ray says so again
            info, _ = await handle.ready.remote()
            if info is not None:
                return info, handle, await handle.names.remote()
        return None

    # ----------------------------------------------------------------------------------------------- for the hosts

    async def admit(self, node: str) -> Admission:
        """Return a new host's number, and with which root it begins: the first one sets the simulation up."""
        await self.begin()
        async with self._turn:
            await self._turn.wait_for(lambda: self._root is not None or self._planter in (None, node))
            if self._root is None:
                self._planter = node
            return Admission(next(self._numbers), self._root)

    async def join(self, info: HostInfo, handle: Any, names: Sequence[str]) -> None:
        """Have a host be one of the cluster's, with the nodes that its server has."""
        if info.number in self._hosts:
            return
        self._hosts[info.number] = info, handle
        for name in names:
            self._places.setdefault(name, Place(info.number))
        async with self._turn:
            self._root = info.root
            self._turn.notify_all()
        self._keep(self._watch(info.number, handle))
        await self._tell()

    async def lasting(self, uid: str) -> None:
        """Return never, to hosts of this cluster: Ray raises an error where this one has ended."""
        if uid == self._settings.uid:
            await asyncio.Event().wait()

    # ---------------------------------------------------------------------------------------------- for the clients

    async def settings(self) -> Settings:
        """Return how the cluster was started, its keys with it: whoever can ask this has joined."""
        return self._settings

    async def ready(self) -> Hosts:
        """Return the hosts, when those of the machines that there are have started.

        Raises:
            SnapservError: None of them could.
        """
        await self.begin()
        until = time.monotonic() + self._settings.start_within_s
        while True:
            if time.monotonic() > until and not self._hosts:
                raise RequestTimeoutError(
                    f"no host has begun within {self._settings.start_within_s:g} s",
                    hint="see `ray status`: are there machines with what each host asks for?",
                )
            if time.monotonic() > until:
                break  # the others come when there is room for them
            pending = [task for task in self._starting.values() if not task.done()]
            if not pending and (self._hosts or self._failed):
                break
            await asyncio.wait([*pending, asyncio.create_task(asyncio.sleep(0.1))], return_when="FIRST_COMPLETED")
        if not self._hosts:
            raise error_from_wire(self._failed[0])
        return await self.hosts()

    async def hosts(self) -> Hosts:
        """Return the hosts that there are now."""
        await self.begin()
        return Hosts(self._version, {number: info for number, (info, _) in self._hosts.items()})

    async def changed(self, version: int) -> Hosts:
        """Return the hosts as soon as they are others than in that version, or after a while."""
        await self.begin()
        async with self._changed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHANGED_WITHIN_S):
                    await self._changed.wait_for(lambda: self._version != version)
        return await self.hosts()

    async def seeds(self) -> int:
        """Return the first of `SEEDS_AT_ONCE` numbers that nobody else is given."""
        first = self._seeds
        self._seeds += SEEDS_AT_ONCE
        return first

    async def claim(self, names: Sequence[str], host: int) -> None:
        """Have names be those of nodes that are about to be made on a host.

        Raises:
            NameTakenError: One is another node's.
        """
        await self.begin()
        for name in names:
            place = self._places.get(name)
            if place is not None and place.host in self._hosts:
                info, handle = self._hosts[place.host]
                if self._is_claimed(name) or await handle.has.remote(name):
                    raise NameTakenError(f"there is a node called {name!r}, on {info.name}")
            elif name in self._stored:
                raise NameTakenError(f"there is a node called {name!r}, in the store")
            self._places[name] = Place(host)
            self._claimed[name] = time.monotonic()

    async def claimed(self, names: Sequence[str]) -> None:
        """Take note that the nodes have been made for which names were claimed, or have not."""
        for name in names:
            self._claimed.pop(name, None)

    async def find(self, name: str) -> Place:
        """Return where a node is, when it is there: what a dead host had is brought back first.

        Raises:
            NotFoundError: There is none of that name, or what it was is gone.
        """
        await self.begin()
        place = await self._there(name)
        while place is None and self._lost:
            await asyncio.wait(list(self._lost.values()))
            place = await self._there(name)
        if place is None and name in self._refused:
            raise error_from_wire(self._refused[name])
        if place is None and name in self._stored:
            number, handle = await self._some_host(hash(name))
            await handle.load.remote(self._stored[name])
            place = self._places[name] = Place(number)
        if place is None:
            raise NotFoundError(f"the cluster {self._settings.cluster} has no node {name!r}", hint="see its tree")
        return place

    async def end(self) -> None:
        """End all hosts, each when its server has saved what it has."""
        self._ends = True
        handles = [handle for _, handle in self._hosts.values()]
        await asyncio.gather(*(handle.end.remote() for handle in handles), return_exceptions=True)
        for handle in handles:
            with contextlib.suppress(Exception):
                self._ray.kill(handle, no_restart=True)

    # ------------------------------------------------------------------------------------------------- within

    def _is_claimed(self, name: str) -> bool:
        return time.monotonic() - self._claimed.get(name, -CLAIMED_FOR_S) < CLAIMED_FOR_S

    async def _there(self, name: str) -> Place | None:
        place = self._places.get(name)
        if place is not None and place.host in self._hosts:
            return place
        _, found, number = name.rpartition("-h")
        if found and number.isdigit() and int(number) in self._hosts:
            return Place(int(number))
        hosts = list(self._hosts.items())
        asked = (handle.has.remote(name) for _, (_, handle) in hosts)
        for (host, _), has in zip(hosts, await asyncio.gather(*asked, return_exceptions=True), strict=True):
            if has is True:
                self._places[name] = Place(host)
                return self._places[name]
        return None

    async def _some_host(self, which: int) -> tuple[int, Any]:
        """Return a host, when there is one.

        Raises:
            RequestTimeoutError: None comes.
        """
        until = time.monotonic() + OVER_WITHIN_S
        while not self._hosts:
            if time.monotonic() > until:
                raise RequestTimeoutError(f"the cluster {self._settings.cluster} has no host, and none comes")
            await asyncio.sleep(LOOKS_EVERY_S)
        numbers = sorted(self._hosts)
        number = numbers[which % len(numbers)]
        return number, self._hosts[number][1]

    def _keep(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self) -> None:
        async with self._changed:
            self._version += 1
            self._changed.notify_all()

    async def _watch(self, number: int, handle: Any) -> None:
        """Wait until Ray says that a host has ended, and have others go on with what it had."""
        joined = time.monotonic()
        while True:
            try:
                await handle.lasting.remote()
                break
            except Exception:  # noqa: BLE001 - whatever Ray says of an actor that has ended
                settled = time.monotonic() - joined > SETTLED_AFTER_S
                if self._ends or settled or not await self._answers(number, handle):
                    break
        if self._ends:
            return
        info, _ = self._hosts.pop(number)
        try:
            self._ray.get_actor(self._actor_name(info.node), namespace=NAMESPACE)
        except ValueError:  # Ray has it not begin again
            self._starting.pop(info.node, None)
        self._lose(number)
        await self._tell()

    @staticmethod
    async def _answers(number: int, handle: Any) -> bool:
        """Return whether a host is there that Ray has begun again: for a moment Ray has it as ended still."""
        until = time.monotonic() + SETTLES_WITHIN_S
        while time.monotonic() < until:
            with contextlib.suppress(Exception):
                info, _ = await handle.ready.remote()
                return info is not None and bool(info.number == number)
            await asyncio.sleep(0.1)
        return False

    def _lose(self, number: int) -> None:
        task = self._lost[number] = asyncio.create_task(self._recover_at_last(number))
        task.add_done_callback(lambda _: self._lost.pop(number, None))

    async def _recover_at_last(self, number: int) -> None:
        """Have others go on with what a host had, also where the store cannot be reached for a while."""
        while not self._ends:
            try:
                await self._recover(number)
            except SnapservError as error:
                print(f"what h{number} had waits: {error}", flush=True)  # to Ray's log of this actor
                await asyncio.sleep(AGAIN_AFTER_S)
            else:
                return

    async def _recover(self, number: int) -> None:
        """Have other hosts go on with what a dead one had."""
        sessions = await self._over(number)
        if not sessions:
            return
        store = await asyncio.to_thread(self._store)
        whole = sessions[0].ended
        for tree in sessions[0].trees:
            self._stored |= await asyncio.to_thread(recovering.snapshots_of, store, tree, sessions)
        lost = await asyncio.to_thread(recovering.lost_branches, store, sessions)
        while lost:
            await self._some_host(0)
            hosts = sorted(self._hosts.items())
            shares = [(host, lost[at :: len(hosts)]) for at, host in enumerate(hosts) if lost[at :: len(hosts)]]
            asked = (handle.adopt.remote(share) for (_, (_, handle)), share in shares)
            lost = []
            for ((on, _), share), done in zip(
                shares, await asyncio.gather(*asked, return_exceptions=True), strict=True
            ):
                if isinstance(done, BaseException):
                    lost += share  # it has ended as well: another one's turn
                    await asyncio.sleep(LOOKS_EVERY_S)
                    continue
                for adopted in done:
                    if adopted.error is None:
                        self._places[adopted.name] = Place(on, whole)
                    else:
                        self._refused[adopted.name] = adopted.error
        await asyncio.to_thread(recovering.end_sessions, store, sessions)

    async def _over(self, number: int) -> list[Any]:
        """Return the sessions of a host whose server is over, or is taken to be."""
        began = time.monotonic()
        while True:
            sessions = (await asyncio.to_thread(self._sessions)).get(number, [])
            if not sessions or recovering.is_over(sessions[0]):
                return sessions
            waits_s = OVER_WITHIN_S if await self._machine_lives(sessions[0].host) else GONE_WITHIN_S
            if time.monotonic() - began > waits_s:
                return sessions
            await asyncio.sleep(0.1)

    async def _machine_lives(self, machine: str) -> bool:
        nodes = await asyncio.to_thread(self._ray.nodes)
        return any(each["Alive"] and each["NodeManagerHostname"] == machine for each in nodes)

    def _store(self) -> Any:
        from ..store import open_store

        return open_store(self._settings.store)

    def _sessions(self) -> dict[int, list[Any]]:
        try:
            return recovering.sessions_of(self._store(), self._settings.uid)
        except NotFoundError:
            return {}  # nobody has written to it yet

    async def _place_hosts(self) -> None:
        """Have a host on each machine that there is, and on those that come, up to as many as are wanted."""
        while not self._ends:
            nodes = await asyncio.to_thread(self._ray.nodes)
            there = {each["NodeID"] for each in nodes if each["Alive"]}
            for node in [node for node in self._starting if node not in there]:
                del self._starting[node]
            taken = {info.node for info, _ in self._hosts.values()} | set(self._starting)
            for each in nodes:
                wanted = self._settings.hosts is None or len(taken) < self._settings.hosts
                if each["Alive"] and each["NodeID"] not in taken and wanted and self._has_room(each):
                    taken.add(each["NodeID"])
                    self._starting[each["NodeID"]] = asyncio.create_task(self._start(each["NodeID"]))
            await asyncio.sleep(LOOKS_EVERY_S)

    def _has_room(self, node: Mapping[str, Any]) -> bool:
        asked = {"CPU": self._settings.num_cpus, **self._settings.resources}
        return all(node["Resources"].get(name, 0.0) >= amount for name, amount in asked.items() if amount)

    def _actor_name(self, node: str) -> str:
        return f"{host_prefix(self._settings.cluster)}{node[:12]}"

    async def _start(self, node: str) -> None:
        name = self._actor_name(node)
        handle: Any = None
        with contextlib.suppress(ValueError):
            handle = self._ray.get_actor(name, namespace=NAMESPACE)
        try:
            if handle is None:
                made = self._ray.remote(Host).options(name=name, **options_of(self._settings, node))
                handle = made.remote(self._settings)
            _, error = await handle.ready.remote()
        except Exception as cause:  # noqa: BLE001 - whatever Ray says of an actor that has not begun
            error = RequestTimeoutError(f"a host did not begin on {node[:12]}: {cause}").to_wire()
        if error is not None:
            self._failed.append(error)
            async with self._turn:
                if self._planter == node:  # another one sets the simulation up
                    self._planter = None
                    self._turn.notify_all()
            with contextlib.suppress(Exception):
                self._ray.kill(handle, no_restart=True)
