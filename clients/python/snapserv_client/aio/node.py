"""What branches and snapshots have in common: being looked at, compared, named, branched and dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal, TypeVar, Unpack, overload

from .. import protocol, requests
from ..bars import shown
from ..connection import Progress
from ..display import Diff
from ..errors import BadRequestError
from ..expansion import Best, Keep, Options, Outcome, Outcomes, Playing, collected
from ..history import Verification
from ..plain import Array, InputValues
from ..protocol import NodeInfo, Rng, SaveResult, ShowResult
from ..requests import RegionIndex
from ..watching import Until, Watched
from .blocks import Branches
from .home import Home
from .own import blocking
from .past import Past

if TYPE_CHECKING:
    import xarray as xr

    from ..pages import Pages
    from ..records import Records
    from .branch import Branch

T = TypeVar("T")


class Node(Past):
    """A point of a tree. ``last`` is what the server said of it last; `info` asks again."""

    _server: Home

    async def show(self) -> ShowResult:
        """Return all that there is to know of it: relatives, what it costs, why and since when it is faulted."""
        result = await self._run(requests.show(self.id))
        self.last = result.node
        return result

    async def records(self, *, after: int = 0) -> Records:
        """Return what was recorded since the root, in the past that it shares with others as well.

        Args:
            after: Only what is later than this step.
        """
        from ..records import Records

        return Records.of((await self._run(requests.records(self.id, after))).series)

    async def parent(self) -> Snapshot | None:
        """Return the snapshot that it comes of, as it is now; None of a root."""
        *above, self.last = await self._run(requests.lineage(self.id, 2))
        return Snapshot(self._server, above[0]) if above else None

    async def children(self) -> list[Branch | Snapshot]:
        """Return the nodes that come of it, as they are now, in the order in which they were made."""
        found: list[Branch | Snapshot] = []
        offset: int | None = 0
        while offset is not None:
            page = await self._run(requests.tree(self.last.tree, offset=offset, sizes=False))
            found += [self._server._wrap(each) for each in page.nodes if each.parent == self.id]
            offset = page.next
        return found

    async def verify(
        self, since: Snapshot | str | int | None = None, *, progress: Progress | bool | None = None
    ) -> Verification:
        """Do its own actions again from an ancestor, the root by default, and return how the states compare.

        Args:
            since: The ancestor, a snapshot.
            progress: Called with how many ticks are done again and wanted, now and then; True shows a bar.
        """
        asked = requests.verify(self.id, None if since is None else reference(since), progress=bool(progress))
        with shown(progress, f"verify {self.name}", 1) as told:
            found = await self._run(asked, progress=told.heard)
            told.ended()
        return Verification(self.name, found)

    @overload
    async def read(self, field: str, region: RegionIndex = None, *, as_: Literal["numpy"] = "numpy") -> Array: ...
    @overload
    async def read(self, field: str, region: RegionIndex = None, *, as_: Literal["xarray"]) -> xr.DataArray: ...
    async def read(
        self, field: str, region: RegionIndex = None, *, as_: Literal["numpy", "xarray"] = "numpy"
    ) -> Array | xr.DataArray:
        """Return a copy of a field, or of a region of it: a view of memory that it came in, not writable.

        Args:
            field: Its name.
            region: Basic indexing, as ``(slice(0, 64), 3)`` or ``np.s_[:64, 3]``.
            as_: ``"xarray"`` for a DataArray with the names of its axes, its units, what it means and its step.

        Raises:
            UnsupportedError: xarray is wanted, and not installed.
        """
        if as_ == "numpy":
            return (await self._read(field, region))[0]
        if as_ != "xarray":
            raise BadRequestError(f"as_={as_!r}", hint='a field is read as "numpy" or as "xarray"')
        from ..labelled.xarrays import array_of, fields_of, need_xarray

        need_xarray()
        known = {each.name: each for each in fields_of(await self._run(requests.spec(self.last.tree)))}
        values, step = await self._read(field, region)
        return array_of(known[field], values, region, step)

    async def to_dataset(self, fields: Sequence[str] | None = None) -> xr.Dataset:
        """Return its fields as a dataset of xarray, as `export_zarr` writes it: of one moment, in memory.

        Of a live branch of which several fields are wanted a snapshot is taken first, and dropped at the end.

        Args:
            fields: Names of those that are wanted; all by default.

        Raises:
            NotFoundError: There is no such field.
            UnsupportedError: xarray is not installed, or a field is called what no variable can be.
        """
        from ..labelled.xarrays import dataset_of, facts_of, fields_of, layouts_of, need_xarray

        need_xarray()
        spec = await self._run(requests.spec(self.last.tree))
        layouts = layouts_of(fields_of(spec), fields, in_memory=True)
        source: Node = self
        if len(layouts) > 1 and self.last.kind == "branch":
            source = Snapshot(self._server, (await self._run(requests.snapshot(self.id, None, ""))).node)
        try:
            *above, here = await source.log()
            values, step = {}, here.step
            for layout in layouts:
                values[layout.field.name], step = await source._read(layout.field.name, None)
        finally:
            if source is not self:
                await source.drop()
        facts = facts_of(await self.info(), spec, step=step, created=here.created)
        lineage = [*((each.name, each.step) for each in above), (self.name, step)]
        return dataset_of(facts, lineage, layouts, values)

    async def _read(self, field: str, region: RegionIndex) -> tuple[Array, int]:
        """Return a field, or a region of it, and the step at which it was read."""
        channel = self._server.channel
        found = await self._run(requests.read_handed(self.id, field, region, handed=channel is not None))
        if found.value is not None:
            return found.value, found.step
        if channel is not None and found.handed is not None:
            array = await blocking(channel.array, found.handed)
            if array is not None:
                return array, found.step
        found = await self._run(requests.read_handed(self.id, field, region, handed=False))
        assert found.value is not None
        return found.value, found.step

    @overload
    async def branch(self, *, name: str | None = None, rng: Rng = "same") -> Branch: ...
    @overload
    async def branch(
        self, count: int, *, names: Sequence[str] | None = None, rng: Rng = "same"
    ) -> Branches[Branch]: ...
    @overload
    async def branch(self, *, names: Sequence[str], rng: Rng = "same") -> Branches[Branch]: ...
    async def branch(
        self,
        count: int | None = None,
        *,
        name: str | None = None,
        names: Sequence[str] | None = None,
        rng: Rng = "same",
    ) -> Branch | Branches[Branch]:
        """Make live branches that continue from here; of a live branch, a snapshot is taken first.

        Args:
            count: How many; one by default.
            name: The name of a single branch.
            names: The names of several.
            rng: ``"same"``, identical siblings; ``"split"``, a random stream of its own each; an int, that seed.

        Returns:
            A `Branch`, or a list of them where ``count`` or ``names`` is given. In a ``with`` statement either is
            dropped at the end of the block, with the snapshot that was taken for it; see `Branch`.
        """
        wanted = names if names is not None else None if name is None else [name]
        number = count if count is not None else 1 if wanted is None else len(wanted)
        result = await self._run(requests.branch(self.id, number, wanted, rng))
        branches: list[Branch] = [self._server._wrap(info) for info in result.nodes]
        for each in branches:
            each.reseeded = result.reseeded
        if count is None and names is None:
            branches[0]._ends, branches[0]._source = True, result.snapshot
            return branches[0]
        return Branches(self._server, branches, result.snapshot)

    @overload
    async def expand(
        self,
        inputs: Sequence[InputValues | Sequence[InputValues]],
        *,
        keep: Literal["none"] = "none",
        on_outcome: Callable[[Outcome[None]], None] | None = None,
        progress: Progress | bool | None = None,
        **playing: Unpack[Playing],
    ) -> Outcomes[None]: ...
    @overload
    async def expand(
        self,
        inputs: Sequence[InputValues | Sequence[InputValues]],
        *,
        keep: Literal["all"] | Best,
        keep_as: Literal["branch"] = "branch",
        on_outcome: Callable[[Outcome[None]], None] | None = None,
        progress: Progress | bool | None = None,
        **playing: Unpack[Playing],
    ) -> Outcomes[Branch | None]: ...
    @overload
    async def expand(
        self,
        inputs: Sequence[InputValues | Sequence[InputValues]],
        *,
        keep: Literal["all"] | Best,
        keep_as: Literal["snapshot"],
        on_outcome: Callable[[Outcome[None]], None] | None = None,
        progress: Progress | bool | None = None,
        **playing: Unpack[Playing],
    ) -> Outcomes[Snapshot | None]: ...
    @overload
    async def expand(
        self,
        inputs: Sequence[InputValues | Sequence[InputValues]],
        *,
        keep: Keep,
        keep_as: Literal["branch", "snapshot"] = "branch",
        on_outcome: Callable[[Outcome[None]], None] | None = None,
        progress: Progress | bool | None = None,
        **playing: Unpack[Playing],
    ) -> Outcomes[Branch | Snapshot | None]: ...
    async def expand(
        self,
        inputs: Sequence[InputValues | Sequence[InputValues]],
        *,
        steps: int = 1,
        policy: str | None = None,
        policy_steps: int = 0,
        read: Sequence[str] = (),
        sum: Sequence[str] = (),
        parallel: int | None = None,
        rng: Rng = "same",
        seeds: Sequence[int] | None = None,
        keep: Keep = "none",
        keep_as: Literal["branch", "snapshot"] = "branch",
        timeout_s: float | None = None,
        record: Watched | Iterable[Watched] = (),
        every: int = 1,
        until: Until | None = None,
        on_outcome: Callable[[Outcome[None]], None] | None = None,
        progress: Progress | bool | None = None,
    ) -> Sequence[Outcome[Branch | Snapshot | None]]:
        """Try every input from here: a child each, which is branched, stepped, read and ended, in one round trip.

        A child that fails, or whose process ends, is an outcome like the others, and hurts none of them. A live
        branch is snapshotted first. Ctrl-C, or cancelling the task that waits, ends the children that are left.

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
            seeds: For each child the seed of its random streams, in the place of ``rng``.
            keep: ``"all"``, ``"none"``, or the `Best` of them: what is kept becomes a node.
            keep_as: What node: a live branch, or a snapshot.
            timeout_s: How long each child may take.
            record: As for `Branch.step`: each outcome's ``records`` has it.
            every: As for `Branch.step`.
            until: As for `Branch.step`: each child stops where it holds there.
            on_outcome: Called with each outcome as soon as it is there.
            progress: Called with how many children are done and wanted; True shows a bar, in a notebook as well.

        Returns:
            The outcomes, in the order of ``inputs``.

        Raises:
            BadRequestError: Nothing to expand, or arguments that do not go together.
            NotFoundError: A policy that is not exported.
            UnsupportedError: A bar is wanted, and rich is not installed.
        """
        arrived: dict[int, protocol.Outcome] = {}

        options: Options = {
            "steps": steps,
            "policy": policy,
            "policy_steps": policy_steps,
            "read": read,
            "sum": sum,
            "parallel": parallel,
            "rng": rng,
            "seeds": seeds,
            "keep": keep,
            "keep_as": keep_as,
            "timeout_s": timeout_s,
            "record": record,
            "every": every,
            "until": until,
        }
        request = requests.expand(self.id, inputs, options)
        wanted = len(inputs)
        with shown(progress, self.name, wanted) as told:

            def collect(outcome: protocol.Outcome) -> None:
                known = outcome.index in arrived
                arrived[outcome.index] = outcome
                if on_outcome is not None and not known:
                    on_outcome(Outcome(outcome))
                if told.heard is not None and not known:
                    told.heard(len(arrived), wanted)

            result = await self._run(request, outcome=collect)
        outcomes: Outcomes[Branch | Snapshot | None] = Outcomes(collected(arrived.values(), wanted))
        outcomes.inputs = inputs
        for kept in result.kept:
            outcomes[kept.index].node = self._server._wrap(kept.node)
        return outcomes

    async def diff(self, other: Node | str | None = None, fields: Sequence[str] | None = None) -> Diff:
        """Return how another node, its parent by default, differs from this one, field by field.

        A simulation without fields is compared by its steps, its last outputs and the pages of its memory.
        """
        return await compare(self._server, self, other, fields)

    async def pages(self, other: Node | str | None = None, fields: Sequence[str] | None = None) -> Pages:
        """Return which of its pages are whose: the base image's, another node's as well, or its own."""
        from ..pages import Pages  # with numpy

        compared = None if other is None else reference(other)
        result = await self._run(requests.pages(self.id, compared, fields))
        return Pages(self.name, other.name if isinstance(other, Node) else other, result)

    async def tag(self, name: str, *, remove: bool = False) -> None:
        """Give it a further name, or take one away."""
        self.last = await self._run(requests.tag(self.id, name, remove=remove))

    async def pin(self, pinned: bool = True) -> None:
        """Protect it from `drop`, or no longer."""
        self.last = await self._run(requests.pin(self.id, pinned=pinned))

    async def save(
        self, name: str | None = None, *, all: bool = False, replay: bool = False, embed: bool = False
    ) -> SaveResult:
        """Have it last: it is in the server's store when this returns.

        Args:
            name: Of a live branch, what to call the snapshot that is taken of it first.
            all: Whether to save all snapshots of its tree.
            replay: Whether to save what was done to it, where an image is refused.
            embed: Whether to save the files that it stands on as well, so that it comes back without them.

        Raises:
            NotPortableError: It holds what no image can keep; ``details["held"]`` lists it.
            StoreUnavailableError: It could not be written.
            UnsupportedError: The server has no store.
        """
        return await self._run(requests.save(self.id, name, all=all, replay=replay, embed=embed))

    async def drop(self, *, recursive: bool = False, force: bool = False) -> list[str]:
        """End it; return the names of what is gone. Descendants live on unless ``recursive``."""
        return await self._run(requests.drop(self.id, recursive=recursive, force=force))


class Snapshot(Node):
    """A frozen moment. ``fork_us`` is what taking it cost the branch, where this client took it."""

    def __init__(self, server: Home, info: NodeInfo, fork_us: float | None = None) -> None:
        super().__init__(server, info)
        self.fork_us = fork_us


def reference(node: Node | str | int) -> str | int:
    """Return what a request calls a node: its id, or the name, id or tag that was given."""
    return node.id if isinstance(node, Node) else node


async def compare(server: Home, a: Node | str, b: Node | str | None, fields: Sequence[str] | None) -> Diff:
    """Return how two nodes differ, field by field; without ``b``, how ``a`` differs from its parent."""
    result = await server._run(requests.diff(reference(a), None if b is None else reference(b), fields))
    second = result.other if b is None else b.name if isinstance(b, Node) else b
    return Diff(a.name if isinstance(a, Node) else a, second, result.fields, result.compared_bytes, result)
