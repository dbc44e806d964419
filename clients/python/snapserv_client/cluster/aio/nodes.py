"""Nodes of a cluster: asked where they are, brought where they are needed, and followed where they come back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from ... import protocol
from ...aio.blocks import Branches
from ...aio.branch import Branch
from ...aio.node import Node, Snapshot
from ...bars import shown
from ...connection import Progress, Waiting
from ...display import Diff
from ...errors import BadRequestError, NotFoundError, SnapservError, StepsLostError, UnreachableError
from ...expansion import Options, Outcome, Outcomes, collected
from ...plain import InputValues
from ...protocol import NodeInfo, Rng
from ...requests import Request
from ..expanding import Expansion
from ..following import is_safe, moved
from .own import play, together

if TYPE_CHECKING:
    from .cluster import Cluster, HostServer

T = TypeVar("T")


class ClusterNode(Node):
    """A point of a cluster's tree, on one of its hosts."""

    _server: HostServer

    @property
    def cluster(self) -> Cluster:
        """The cluster."""
        return self._server.cluster

    @property
    def host(self) -> str:
        """The host that it is on, as far as this client knows."""
        return f"h{self._server.number}"

    async def _run(self, request: Request[T], **waiting: Unpack[Waiting]) -> T:
        try:
            return await super()._run(request, **waiting)
        except UnreachableError as cause:
            lost = await self._follow(request, cause)
            if lost is not None:
                raise lost from None
            return await super()._run(moved(request, self.id), **waiting)

    async def _follow(self, request: Request[Any], cause: SnapservError) -> SnapservError | None:
        """Find out where it came back, and stand for that one; return what whoever asked must know of it."""
        place = await self.cluster._find(self.name)
        before, known = self._server.number, self.last.step
        if place.host == before and place.host in self.cluster.hosts:
            return None if is_safe(request) else cause  # it may have been done there
        found = await self.cluster.node(self.name)
        self._server, self.last, self._which = found._server, found.last, found._which
        if isinstance(self, ClusterSnapshot) or (place.whole and self.last.step == known and is_safe(request)):
            return None
        missing = max(0, known - self.last.step)
        return StepsLostError(
            f"{self.name} came back on {self.host} at step {self.last.step:,}: host h{before} is gone"
            + (
                f", and {missing:,} steps with it" if missing else ", and what was done at that step may be missing"
            ),
            hint="go on from there; what is to survive a host, snapshot by name or save",
            details={"step": self.last.step, "was": known, "missing": missing, "host": self.host},
        )

    async def branch(
        self,
        count: int | None = None,
        *,
        name: str | None = None,
        names: Sequence[str] | None = None,
        rng: Rng = "same",
        spread: bool = False,
    ) -> Any:
        """Make live branches that continue from here; see `snapserv_client.sync.Node.branch`.

        Args:
            count: How many; one by default.
            name: The name of a single branch.
            names: The names of several.
            rng: ``"same"``, identical siblings; ``"split"``, a random stream of its own each, the same wherever it
                is; an int, that seed.
            spread: Whether several are made on all hosts, by how many cores they have; otherwise they are where
                this node is.
        """
        if count is None and names is None:
            await self._claim([name])
            made = await super().branch(name=name, rng=await self._seed(rng))
            await self._claimed([name])
            return made
        wanted = list(names) if names is not None else [None] * (count or 0)
        if count is not None and count != len(wanted):
            raise BadRequestError(f"{len(wanted)} names for {count} branches", hint="give a name for each")
        if not wanted:
            raise BadRequestError("no branches are wanted", hint="count is 1 or more")
        await self._settle()
        snapshot, source = await self._frozen()
        shares = (
            self.cluster._spread(len(wanted), self._server.number) if spread else {self._server.number: len(wanted)}
        )
        placed = [number for number, share in shares.items() for _ in range(share)]
        seeds = self.cluster._member.seeds(len(wanted)) if rng == "split" else [rng] * len(wanted)
        await snapshot._bring([number for number in shares if number != self._server.number])
        spread_out = ClusterBranches(self._server, [], source)
        try:
            for number in shares:
                server = await self.cluster._server(number)
                there = await snapshot._on(server)
                here = [at for at, where in enumerate(placed) if where == number]
                named = [wanted[at] for at in here]
                await there._claim(named)
                for at in here:
                    spread_out.append(await Node.branch(there, name=wanted[at], rng=seeds[at]))
                await there._claimed(named)
        except BaseException as cause:
            await spread_out.__aexit__(type(cause), cause, None)
            raise
        return spread_out

    async def expand(self, inputs: Sequence[InputValues | Sequence[InputValues]], **options: Any) -> Any:
        """Try every input from here: a child each, on all hosts; see `snapserv_client.sync.Node.expand`.

        Args:
            inputs: For each child its inputs, or a sequence of inputs that are played one after the other.
            **options: As for a node of one server; and ``spread``, whether other hosts play as well: by default
                where there are more children than this host plays at a time. A child's random stream, and so what
                comes of it, is the same whoever plays it.

        Returns:
            The outcomes, in the order of ``inputs``. Its ``played`` says how many each host has played, and its
            ``left_out`` which hosts could not have the snapshot, and why.
        """
        spread: bool | None = options.pop("spread", None)
        on_outcome: Callable[[Outcome[None]], None] | None = options.pop("on_outcome", None)
        progress: Progress | bool | None = options.pop("progress", None)
        if not inputs:
            raise BadRequestError("there is nothing to expand", hint="give the inputs of one child at least")
        if options.get("rng") == "split":
            options |= {"rng": "same", "seeds": self.cluster._member.seeds(len(inputs))}
        await self._settle()
        hosts = self.cluster.hosts
        if spread is None:
            spread = len(inputs) > 2 * hosts[self._server.number].cores if self._server.number in hosts else True
        snapshot, source = await self._frozen()
        stored = await snapshot._stored_as() if spread and len(hosts) > 1 else None
        chosen: Options = options  # type: ignore[assignment]  # as the caller has them
        expansion = Expansion(self.cluster._member, snapshot.name, stored, self._server.number, inputs, chosen)
        arrived: dict[int, protocol.Outcome] = {}
        with shown(progress, self.name, len(inputs)) as told:

            def take(outcome: protocol.Outcome) -> None:
                arrived[outcome.index] = outcome
                if on_outcome is not None:
                    on_outcome(Outcome(outcome))
                if told.heard is not None:
                    told.heard(len(arrived), len(inputs))

            await play(expansion, take)
        outcomes = ClusterOutcomes(collected(arrived.values(), len(inputs)))
        for index, (number, kept) in expansion.kept.items():
            if number in self.cluster.hosts:
                outcomes[index].node = (await self.cluster._server(number))._wrap(kept.node)
        outcomes.played, outcomes.left_out = expansion.played, expansion.left_out
        if source is not None and not expansion.kept:
            await snapshot._forget()
        return outcomes

    async def diff(self, other: Node | str | None = None, fields: Sequence[str] | None = None) -> Diff:
        """Return how another node, its parent by default, differs; one of another host is brought here first."""
        if other is None:
            return await super().diff(None, fields)
        node: Any = await self.cluster.node(other) if isinstance(other, str) else other
        if node._server.number == self._server.number:
            return await super().diff(node, fields)
        snapshot, taken = await node._frozen()
        there = await snapshot._on(self._server)
        try:
            return await super().diff(there, fields)
        finally:
            if taken is not None:
                await there._forget()
                await snapshot._forget()

    async def save(
        self, name: str | None = None, *, all: bool = False, replay: bool = False, embed: bool = False
    ) -> protocol.SaveResult:
        """Have it last; see `snapserv_client.sync.Node.save`."""
        await self._claim([name])
        try:
            return await super().save(name, all=all, replay=replay, embed=embed)
        finally:
            await self._claimed([name])

    async def tag(self, name: str, *, remove: bool = False) -> None:
        """Give it a further name, which is the whole cluster's, or take one away."""
        if not remove:
            await self._claim([name])
        await super().tag(name, remove=remove)
        await self._claimed([name])

    async def _settle(self) -> None:
        """Have this stand for where it is by now, if its host has ended."""
        if self._server.number not in self.cluster.hosts:
            await self.info()

    async def _frozen(self) -> tuple[ClusterSnapshot, NodeInfo | None]:
        """Return this moment as a snapshot, and what was taken for that."""
        if isinstance(self, ClusterSnapshot):
            return self, None
        taken = await Branch.snapshot(self)  # type: ignore[arg-type]  # it is one
        found: ClusterSnapshot = self._server._wrap(taken.last)
        return found, found.last

    async def _seed(self, rng: Rng) -> Rng:
        return self.cluster._member.seeds(1)[0] if rng == "split" else rng

    async def _claim(self, names: Iterable[str | None]) -> None:
        chosen = [each for each in names if each is not None]
        if chosen:
            await self.cluster._ask("claim", chosen, self._server.number)

    async def _claimed(self, names: Iterable[str | None]) -> None:
        chosen = [each for each in names if each is not None]
        if chosen:
            self.cluster._tell("claimed", chosen)


class ClusterBranch(ClusterNode, Branch):
    """A live simulation, on one of the hosts of a cluster.

    Where its host ends, it goes on elsewhere from its newest snapshot that lasts. The first request after that
    raises `StepsLostError`, unless nothing is missing; the next one is of the branch that came back.
    """

    async def snapshot(self, name: str | None = None, *, message: str = "") -> ClusterSnapshot:
        """Freeze a copy of this moment."""
        await self._claim([name])
        try:
            taken = await super().snapshot(name, message=message)
        finally:
            await self._claimed([name])
        made: ClusterSnapshot = self._server._wrap(taken.last)
        made.fork_us = taken.fork_us
        return made

    async def step(self, ticks: int = 1, *, snapshot: str | None = None, **options: Any) -> protocol.StepResult:
        """Run ticks, all with the same inputs, in one request; see `snapserv_client.sync.Branch.step`."""
        await self._claim([snapshot])
        result = await super().step(ticks, snapshot=snapshot, **options)
        await self._claimed([snapshot])
        return result

    async def restore(self, snapshot: Snapshot | str | int, *, rng: Rng = "same") -> None:
        """Go back to a snapshot, which is brought to this branch's host first."""
        found: Any = await self.cluster.snapshot(snapshot) if isinstance(snapshot, str) else snapshot
        if isinstance(found, ClusterSnapshot) and found._server.number != self._server.number:
            found = await found._on(self._server)
        await super().restore(found, rng=await self._seed(rng))


class ClusterSnapshot(ClusterNode, Snapshot):
    """A frozen moment, on one of the hosts of a cluster, and on others where it was needed."""

    async def _stored_as(self) -> str:
        """Return its ``uid`` in the store, when it lasts."""
        found: str = (await Node.save(self)).saved[0].uid
        return found

    async def _bring(self, hosts: Sequence[int]) -> None:
        """Have other hosts have it too, at the same time."""
        if not hosts:
            return
        stored = await self._stored_as()
        servers = [await self.cluster._server(number) for number in hosts]
        await together([lambda server=server: _load(server, self.name, stored) for server in servers])  # type: ignore[misc]

    async def _on(self, server: HostServer) -> ClusterSnapshot:
        """Return it on another host, when it is there."""
        if server.number == self._server.number:
            return self
        found: ClusterSnapshot = await _load(server, self.name, await self._stored_as())
        return found

    async def _forget(self) -> None:
        """Drop what was taken for a moment, where nobody keeps it by now."""
        try:
            await self.drop()
        except SnapservError:
            return


class ClusterOutcomes(Outcomes[Any]):
    """The outcomes of an expansion over hosts, in the order of its inputs.

    Attributes:
        played: How many children each host has played.
        left_out: Hosts that could not have the snapshot, and why.
    """

    played: Mapping[str, int]
    left_out: Mapping[str, SnapservError]


class ClusterBranches(Branches[Any]):
    """Branches that were made together, on several hosts: a list, and a block at whose end they are dropped."""

    async def __aexit__(
        self, kind: type[BaseException] | None, cause: BaseException | None, trace: TracebackType | None
    ) -> None:
        failed: SnapservError | None = None
        for each in self:
            try:
                await each.drop()
            except (NotFoundError, UnreachableError):
                pass
            except SnapservError as error:
                failed = error
        if failed is not None and cause is None:
            raise failed


async def _load(server: HostServer, name: str, stored: str) -> Any:
    try:
        return await server.node(name)
    except NotFoundError:
        return server._wrap((await server.load(stored)).last)
