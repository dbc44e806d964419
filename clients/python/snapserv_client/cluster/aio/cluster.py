"""A cluster, as one client sees it: a server a machine, and one tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from ...aio.connection import Connection
from ...aio.node import Node
from ...aio.server import Server
from ...display import Diff
from ...errors import BadRequestError, FrozenError, NotFoundError, UnreachableError, UnsupportedError
from ...handles import Handle
from ...plain import Sendable
from ...protocol import NodeInfo, SpecResult, StatsResult, StoredNode
from .. import joining
from ..facts import Durable, HostInfo, Place
from ..trees import ClusterTree, merged
from .nodes import ClusterBranch, ClusterNode, ClusterSnapshot
from .own import blocking

CONNECT_WITHIN_S = 30.0
FOLLOWS_TIMES = 20


class HostServer(Server):
    """One host's server, whose nodes are the cluster's."""

    def __init__(self, cluster: Cluster, host: HostInfo) -> None:
        super().__init__(Connection(host.endpoint, CONNECT_WITHIN_S, cluster._member.keys))
        self.cluster = cluster
        self.number = host.number

    def _wrap(self, info: NodeInfo) -> Any:
        return ClusterBranch(self, info) if info.kind == "branch" else ClusterSnapshot(self, info)


class Cluster(Handle):
    """Servers on the machines of a cluster of Ray's, with one tree. It is a context manager; otherwise, `close` it.

    Args:
        target: What is simulated: ``"module:Class"``, ``"path/to/file.py:Class"``, ``"gym:ID"`` and so on; or the
            class itself, by value where it is of a notebook or of a script.
        name: What the cluster is called, for others to join it.
        hosts: On how many machines; by default on all that there are, and on those that come.
        store: The folder or URL where snapshots last, the same for all machines. By default a temporary folder,
            where there is one machine only.
        address: Ray's, as `ray.init` takes it: ``"auto"``, or HOST:PORT. By default whatever this process is
            connected to, or else a Ray of its own on this machine.
        durable: Which snapshots are saved by themselves: those with a name, a tag or a pin, all, or none.
        params: Parameters of setup.
        num_cpus: How many processors each host asks of Ray.
        resources: What else each host asks of Ray, by name.
        runtime_env: Ray's environment of code and packages, for the hosts.
        serve: Further options of ``snapserv serve``, as ``["--memory", "8GiB"]``.
        detached: Whether the cluster stays when this is closed, and when this process ends; `shutdown` ends it.
        start_within_s: How long the first host may take until it serves; others may come later.

    Raises:
        UnsupportedError: Ray is not installed.
        NameTakenError: There is a cluster of that name.
        NotFoundError: No cluster of Ray runs at the address.
        SnapservError: What setup met.
    """

    another = "Cluster.join(name) joins it once more"
    elsewhere = "pass a node of it, or its name: Cluster.join(name)"

    def __init__(
        self,
        target: str | type,
        *,
        name: str | None = None,
        hosts: int | None = None,
        store: str | None = None,
        address: str | None = None,
        durable: Durable = "named",
        params: Mapping[str, Any] | None = None,
        num_cpus: float = 1.0,
        resources: Mapping[str, float] | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        serve: Sequence[str] = (),
        detached: bool = False,
        start_within_s: float = 600.0,
    ) -> None:
        self._begin(
            joining.start(
                target,
                name=name,
                hosts=hosts,
                store=store,
                address=address,
                durable=durable,
                params=params or {},
                num_cpus=num_cpus,
                resources=resources,
                runtime_env=runtime_env,
                serve=serve,
                detached=detached,
                start_within_s=start_within_s,
            )
        )

    @classmethod
    def join(cls, name: str = "default", *, address: str | None = None) -> Self:
        """Return a cluster that runs, whoever started it.

        Args:
            name: What it is called.
            address: Ray's; by default whatever this process is connected to, or the one that this machine is of.

        Raises:
            NotFoundError: There is none.
        """
        return cls._of(joining.join(name, address))

    @classmethod
    def _of(cls, member: joining.Membership) -> Self:
        made = cls.__new__(cls)
        made._begin(member)
        return made

    hello = None
    """Which only one server says."""
    _closes_itself = False
    """Whether nobody closes it, who has it from a pickle."""

    def _begin(self, member: joining.Membership) -> None:
        self._member = member
        self._servers: dict[int, HostServer] = {}
        member.tell(self)

    def hosts_changed(self) -> None:
        """Have nobody wait for a server that is gone; called by another thread."""
        for number, server in list(self._servers.items()):
            if number not in self._member.hosts:
                server._connection.gone = True

    # ------------------------------------------------------------------------------------------------ the cluster

    @property
    def name(self) -> str:
        """What it is called."""
        return self._member.name

    @property
    def endpoint(self) -> str:
        """What commands are told with ``-e``."""
        return f"ray:///{self.name}"

    @property
    def hosts(self) -> Mapping[int, HostInfo]:
        """The hosts that there are now, by their numbers."""
        return self._member.hosts

    @property
    def store(self) -> str:
        """Where snapshots last."""
        return self._member.settings.store

    async def branch(self, name: str) -> ClusterBranch:
        """Return a live branch by name or tag, wherever it is.

        Raises:
            NotFoundError: There is none.
            FrozenError: It is a snapshot.
        """
        node = await self.node(name)
        if not isinstance(node, ClusterBranch):
            raise FrozenError(f"{node.name} is a snapshot, and snapshots never change", hint="branch it")
        return node

    async def snapshot(self, name: str) -> ClusterSnapshot:
        """Return a snapshot by name or tag, wherever it is; one that lasts is brought back for that.

        Raises:
            NotFoundError: There is none.
            BadRequestError: It is a live branch.
        """
        node = await self.node(name)
        if not isinstance(node, ClusterSnapshot):
            raise BadRequestError(f"{node.name} is a branch", hint="branch(name) returns branches")
        return node

    async def node(self, name: str | int) -> ClusterNode:
        """Return a node by name or tag, wherever it is.

        Raises:
            NotFoundError: There is none.
        """
        if not isinstance(name, str):
            raise BadRequestError("nodes of a cluster have names: an id is one server's", hint="use its name")
        for _ in range(FOLLOWS_TIMES):
            place = await self._find(name)
            try:
                return await (await self._server(place.host)).node(name)  # type: ignore[return-value]
            except UnreachableError:
                await blocking(self._member.renew)  # its host has just ended
        raise NotFoundError(f"{name} is on a host that ends again and again")

    async def tree(self, tree: str | None = None, *, sizes: bool = False) -> ClusterTree:
        """Return all nodes of all hosts, each with where it is."""
        found = []
        for number in sorted(self.hosts):
            try:
                found.append((number, await (await self._server(number)).tree(tree, sizes=sizes)))
            except UnreachableError:
                continue  # it has just ended: what it had is on its way elsewhere
        return merged(found)

    async def diff(self, a: Node | str, b: Node | str | None = None, fields: Sequence[str] | None = None) -> Diff:
        """Return how two nodes differ, field by field; without ``b``, how ``a`` differs from its parent."""
        node = await self.node(a) if isinstance(a, str) else a
        return await node.diff(b, fields)

    async def spec(self, tree: str | None = None) -> SpecResult:
        """Return what the simulation is: fields, inputs, parameters, methods, arena."""
        return await (await self._any()).spec(tree)

    async def host_stats(self) -> dict[str, StatsResult]:
        """Return what has happened on each host since its server started, by its name."""
        found = {}
        for number, host in self.hosts.items():
            try:
                found[host.name] = await (await self._server(number)).stats()
            except UnreachableError:
                continue  # it has just ended
        return found

    async def stats(self) -> StatsResult:
        """Refuse: each host has its own.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError(
            "a cluster has the statistics of each host", hint="host_stats(); snapserv cluster status"
        )

    async def stored(self) -> list[StoredNode]:
        """Return what the store holds, in order of when it was taken."""
        return await (await self._any()).stored()

    async def load(self, stored: str) -> ClusterSnapshot:
        """Take a snapshot of the cluster's tree out of the store, on a host that there is."""
        server = await self._any()
        loaded: ClusterSnapshot = server._wrap((await server.load(stored)).last)
        return loaded

    async def create(self, *_: Sendable, **__: Sendable) -> ClusterBranch:
        """Refuse: a cluster has one tree.

        Raises:
            BadRequestError: Always.
        """
        raise BadRequestError("a cluster has one tree", hint="start another cluster for another simulation")

    async def shutdown(self, *, force: bool = True) -> None:
        """End the cluster, when each server has saved what it has; also one that others started."""
        self._leave()
        await blocking(joining.end_cluster, self._member.registry, self._member.settings)
        await self.close()

    async def close(self) -> None:
        """Leave the cluster. Where this has started it, and it is not detached, it ends."""
        servers, self._servers = self._servers, {}
        for server in servers.values():
            await server.close()
        await blocking(self._member.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, cause: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        if self._closes_itself:
            for server in self._servers.values():
                setattr(server, "_closes_itself", True)  # noqa: B010 - only the synchronous one has it

    def __repr__(self) -> str:
        return f"<Cluster {self.name} · {len(self.hosts)} hosts · {self.store}>"

    # ---------------------------------------------------------------------------------------------------- within

    async def _find(self, name: str) -> Place:
        found: Place = await self._ask("find", name)
        return found

    async def _ask(self, what: str, *args: Any) -> Any:
        return await blocking(self._member.ask, what, *args)

    def _tell(self, what: str, *args: Any) -> None:
        getattr(self._member.registry, what).remote(*args)

    def _leave(self) -> None:
        self._member._owner = False

    async def _any(self) -> HostServer:
        for number in sorted(self.hosts):
            return await self._server(number)
        raise UnreachableError(f"the cluster {self.name} has no host now")

    async def _server(self, number: int) -> HostServer:
        """Return a host's server, as this client knows it.

        Raises:
            UnreachableError: It has ended.
        """
        server = self._servers.get(number)
        if server is not None and number in self.hosts:
            return server
        if server is not None:
            del self._servers[number]
            await server.close()
        server = HostServer(self, await blocking(self._member.host, number))
        try:
            await server.greet(CONNECT_WITHIN_S)
        except BaseException:
            await server.close()
            raise
        self._servers[number] = server
        return server

    def _spread(self, count: int, first: int) -> dict[int, int]:
        """Return how many of so many branches each host gets, by its cores."""
        hosts = sorted(self.hosts.values(), key=lambda host: (host.number != first, host.number))
        cores = sum(host.cores for host in hosts)
        shares: dict[int, int] = {}
        given = before = 0
        for host in hosts:
            before += host.cores
            upto = round(count * before / cores)
            if upto > given:
                shares[host.number] = upto - given
            given = upto
        return shares
