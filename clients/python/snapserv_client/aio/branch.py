"""A live simulation: what changes it, and how a client has it to itself for as long as nobody else wants it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self, TypeVar, Unpack

from .. import requests
from ..bars import shown
from ..connection import Progress, Waiting
from ..direct import ElsewhereError, LeaseOverError, Pauses, goes_directly
from ..errors import BadRequestError, SnapservError
from ..plain import InputValues, Sendable, Value
from ..protocol import AutosnapInfo, GotoResult, MarkResult, NodeInfo, RewindResult, Rng, RunResult, StepResult
from ..requests import RegionIndex, Request
from ..requests.message import CALLERS_FRAME
from ..watching import Until, Watched
from .blocks import leave
from .home import Home
from .node import Node, Snapshot, reference
from .own import Stream, blocking

T = TypeVar("T")
SKIPPED_FRAMES = 3
"""So much nearer the caller stands where a request goes directly."""


class Branch(Node):
    """A live simulation.

    One that `Node.branch` made is dropped at the end of a ``with`` statement: not the snapshots that were taken of
    it, nor their branches. Where it is gone by then, nothing happens.
    """

    _ends = False
    """Whether it ends with a block: this handle is of whoever made it."""
    _source: NodeInfo | None = None
    """The snapshot that was taken for it alone."""

    reseeded: Sequence[str] = ()
    """The random streams that were given other states when this client made it, or put it back, with ``rng=``."""

    async def __aenter__(self) -> Self:
        if not self._ends:
            raise BadRequestError(
                f"{self.name} was not made for this block, at whose end it would be dropped",
                hint="use it without with; branch() makes one of its own to try something in",
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, cause: BaseException | None, trace: TracebackType | None
    ) -> None:
        await leave(self._server, [self], self._source, cause)

    async def step(
        self,
        ticks: int = 1,
        *,
        progress: Progress | bool | None = None,
        atomic: bool | None = None,
        timeout_s: float | None = None,
        inputs: InputValues | None = None,
        record: Watched | Iterable[Watched] = (),
        every: int = 1,
        until: Until | Sendable = None,
        snapshot: str | None = None,
        **named_inputs: Sendable,
    ) -> StepResult:
        """Run ticks, all with the same inputs, in one request.

        Args:
            ticks: How many.
            progress: Called with ticks done and wanted, now and then; True shows a bar, in a notebook as well.
            atomic: Whether all of it happens or nothing does: after any failure the branch goes on from the moment
                before. The server's own default holds for None.
            timeout_s: How long it may take; for ever by default. An atomic step that takes longer is ended by the
                server, and rolled back; of another one, only the waiting ends.
            inputs: InputValues whose names are no Python names, or those of other arguments.
            record: What to look at after each tick: outputs by name, ``mean(field)``, ``field[1, 2]``, or what
                `snapserv_client.field` gives. The result's ``records`` has it, and `Node.records` all of the past.
            every: Only ticks whose step is a multiple of this are recorded.
            until: What makes a tick the last one: ``when("served") >= 500``. The result's ``stopped`` says whether
                it has held. Anything else is an input of that name, as simulations of SimPy have one.
            snapshot: What to call a snapshot that is taken where it has.
            **named_inputs: The other inputs.

        Raises:
            SimulationError: The simulation raised; ``details`` has its traceback and the last whole step.
            NodeDiedError: Its process ended.
            StepInterruptedError: Somebody interrupted it.
            BadRequestError: An input is wrong; says which.
            FaultedError: It raised before, and was not restored, reset, rewound or cleared since.
            RequestTimeoutError: It took too long.
            UnsupportedError: A bar is wanted, and rich is not installed.
        """
        given = {**(inputs or {}), **named_inputs}
        condition = until if isinstance(until, Until) else None
        if not isinstance(until, Until) and until is not None:
            given["until"] = until
        whole = self._server.atomic if atomic is None else atomic
        limit_s = timeout_s if whole else None
        patience_s = requests.patience_s(timeout_s, atomic=whole)
        look = requests.look(record, every, condition, snapshot)
        if progress is None or progress is False:
            request = requests.step(
                self.id, ticks, given, progress=False, atomic=atomic, timeout_s=limit_s, look=look
            )
            result = await self._run(request, timeout_s=patience_s)
        else:
            request = requests.step(
                self.id, ticks, given, progress=True, atomic=atomic, timeout_s=limit_s, look=look
            )
            with shown(progress, self.name, ticks) as told:
                result = await self._run(request, timeout_s=patience_s, progress=told.heard)
                told.ended(result.ticks)
        self.last.step = result.step
        return result

    async def run(
        self,
        inputs: Iterable[InputValues],
        *,
        progress: Progress | bool | None = None,
        atomic: bool | None = None,
        timeout_s: float | None = None,
        record: Watched | Iterable[Watched] = (),
        every: int = 1,
        until: Until | None = None,
        snapshot: str | None = None,
    ) -> RunResult:
        """Run a tick with each of several inputs, in one request.

        The result's ``outputs`` has a column for each output, with a row for each tick. In the history each is a
        step of its own.

        Args:
            inputs: For each tick its inputs.
            progress: As for `step`, as everything that follows.
            atomic: Whether all of it happens or nothing does.
            timeout_s: How long it may take.
            record: What to look at after each tick.
            every: Only ticks whose step is a multiple of this are recorded.
            until: What makes a tick the last one.
            snapshot: What to call a snapshot that is taken where it has.

        Raises:
            TooLargeError: The inputs do not fit in one request; or what was put out does not fit in a reply, and
                then it was done.
            SnapservError: As of `step`.
        """
        given = list(inputs)
        whole = self._server.atomic if atomic is None else atomic
        request = requests.run(
            self.id,
            given,
            progress=bool(progress),
            atomic=atomic,
            timeout_s=timeout_s if whole else None,
            look=requests.look(record, every, until, snapshot),
        )
        with shown(progress, self.name, len(given)) as told:
            patience_s = requests.patience_s(timeout_s, atomic=whole)
            result = await self._run(request, timeout_s=patience_s, progress=told.heard)
            told.ended(result.ticks)
        self.last.step = result.step
        return result

    async def record(self, record: Watched | Iterable[Watched] = (), *, every: int = 1) -> None:
        """Record something from now on, whoever steps this branch or one that is made of it; by default nothing.

        Args:
            record: As `step` takes it.
            every: Only ticks whose step is a multiple of this.
        """
        await self._run(requests.record(self.id, record, every))

    async def snapshot(self, name: str | None = None, *, message: str = "") -> Snapshot:
        """Freeze a copy of this moment.

        Args:
            name: What it is called; ``s`` and its id by default.
            message: What there is to say of it, as of a commit; it lasts where the snapshot does.
        """
        result = await self._run(requests.snapshot(self.id, name, message))
        return Snapshot(self._server, result.node, result.fork_us)

    async def restore(self, snapshot: Snapshot | str | int, *, rng: Rng = "same") -> None:
        """Go back to a snapshot; the branch keeps its name, and lives again if it had died."""
        result = await self._run(requests.restore(self.id, reference(snapshot), rng))
        self.last, self.reseeded = result.node, result.reseeded

    async def reset(self, *, rng: Rng = "same") -> None:
        """Go back to the moment after setup."""
        result = await self._run(requests.reset(self.id, rng))
        self.last, self.reseeded = result.node, result.reseeded

    async def mark(self, *, remove: bool = False) -> MarkResult:
        """Mark this moment, in the place of the last mark, or give the mark up: see `rewind`.

        Raises:
            BadRequestError: The simulation keeps state that a rewind would leave as it is; says which.
        """
        return await self._run(requests.mark(self.id, remove=remove))

    async def rewind(self) -> RewindResult:
        """Go back to the mark, in place: no process is made, and it takes time by the page written since.

        Raises:
            BadRequestError: There is no mark, or state has changed that would stay as it is; says which. Nothing
                has changed then, and `restore` does it.
        """
        result = await self._run(requests.rewind(self.id))
        self.last.step = result.step
        return result

    async def goto(self, step: int, *, keep: bool = True, progress: Progress | bool | None = None) -> GotoResult:
        """Go back to a step of its own past, exactly: what was done since the nearest snapshot is done again.

        It then stands where the next tick began: what was written or called after that step's own tick is done
        again as well. Forward of its past there is nothing to go to; `step` does that.

        Args:
            step: Which, counted from its tree's root.
            keep: Whether to keep what it is now, as an automatic snapshot: the result's ``left``.
            progress: As for `step`.

        Raises:
            NotFoundError: Its past has no such step.
            RecordingMismatchError: What was done cannot be done again; nothing has changed.
            StepInterruptedError: Somebody interrupted it; nothing has changed.
        """
        with shown(progress, self.name, 1) as told:
            request = requests.goto(self.id, step, None, keep=keep, progress=bool(progress))
            result = await self._run(request, progress=told.heard)
            told.ended()
        self.last = result.node
        return result

    async def back(
        self, ticks: int = 1, *, keep: bool = True, progress: Progress | bool | None = None
    ) -> GotoResult:
        """Go back by so many ticks: as `goto`, to what is then its step."""
        with shown(progress, self.name, 1) as told:
            request = requests.goto(self.id, None, ticks, keep=keep, progress=bool(progress))
            result = await self._run(request, progress=told.heard)
            told.ended()
        self.last = result.node
        return result

    async def write(self, field: str, value: Sendable, region: RegionIndex = None) -> None:
        """Change a field or a region of it; a scalar fills it, an array must have its shape."""
        await self._run(requests.write(self.id, field, value, region))

    async def call(self, method: str, /, *args: Sendable, atomic: bool = False, **kwargs: Sendable) -> Value:
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

    def direct(self) -> DirectBranch:
        """Return it as one that this client asks without the server, within ``with``, where it can.

        That takes a client of the server's user, on its machine, and a branch that takes no snapshots by itself;
        its steps must not be atomic. Elsewhere the same goes by way of the server, and takes its time.
        """
        return DirectBranch(self._server, self.last)


class DirectBranch(Branch):
    """A branch whose process this client asks without the server, for as long as nobody else wants it.

    Everything else of a branch goes by way of the server, as ever; then the lease ends, and the next step begins
    another one.
    """

    def __init__(self, server: Home, info: NodeInfo) -> None:
        super().__init__(server, info)
        self._stream: Stream | None = None
        self._pauses = Pauses()
        self._open = self._leasing = False

    @property
    def leased(self) -> bool:
        """Whether it has a stream to its process; the process may have ended that since."""
        return self._stream is not None and not self._stream.closed

    async def __aenter__(self) -> Self:
        self.begin()
        await self._lease()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, cause: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def begin(self) -> None:
        """Ask its process without the server from now on, until `release`."""
        self._open = True

    def release(self) -> None:
        """Give the branch back to the server; from here on all goes by way of that."""
        self._open = False
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    async def _run(self, request: Request[T], **waiting: Unpack[Waiting]) -> T:
        stream = await self._leased() if goes_directly(request) else None
        if stream is None:
            return await super()._run(request, **waiting)
        connection = self._server._connection
        request_id, limit = connection.next_id(), waiting.get("timeout_s")
        if limit is None and not request.long:
            limit = connection.timeout_s
        try:
            reply = await stream.ask(request, request_id, limit, waiting.get("progress"))
        except (LeaseOverError, ElsewhereError):
            return await connection.run(request, request_id=request_id, **waiting)
        reply.tell(CALLERS_FRAME - SKIPPED_FRAMES)
        return request.understand(reply.ok)

    async def _leased(self) -> Stream | None:
        """Return a stream that a request can go by now."""
        stream = self._stream
        if stream is None or stream.closed:
            if stream is not None:
                self._pauses.note(stream.served)
                self._stream = None
            if not self._open or self._leasing or not self._pauses.over():
                return None
            stream = await self._lease()
        return stream if stream is not None and not stream.busy else None

    async def _lease(self) -> Stream | None:
        """Lease the branch; None where that cannot be now: whatever the reason is, a plain request says it."""
        channel = self._server.channel
        if channel is None or self._server.atomic:
            return None
        self._leasing = True
        try:
            ticket = (await super()._run(requests.direct(self.id))).ticket
            descriptor = None if ticket is None else await blocking(channel.fetch, ticket)
        except SnapservError:
            descriptor = None
        finally:
            self._leasing = False
        if descriptor is None:
            self._pauses.note(0)
            return None
        self._stream = Stream(descriptor)
        return self._stream
