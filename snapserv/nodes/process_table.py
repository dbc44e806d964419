"""The server's processes, all of them: spawning masters, cloning cells, ending them.

Every cell is a direct child of the server, whoever cloned it; those of an earlier server are nobody's.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import errno
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from ..cell.link import CONTROL_DESCRIPTOR, LEDGER_DESCRIPTOR
from ..errors import SnapservError
from ..ext import fork
from ..machine import cpu
from ..machine.descriptors import raise_limit, socket_pair
from ..machine.endings import Ending
from ..machine.limits import cannot_clone, exhausted
from ..machine.oom import SNAPSHOT, prefer, score
from ..outside.bases import Segments
from .answers import Answer
from .ledger import Ledger
from .leftovers import MARK_VARIABLE, Leftovers, descendants, end_descendants
from .process import CellProcess, RequestKey
from .stacks import TEMPORARY, Stacks, Stores
from .temporaries import Temporaries

log = structlog.get_logger(__name__)

ONE_THREAD = {
    # Thread pools do not survive a fork; see `cell.refuse_threads`.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    # jemalloc has a thread of its own where a library asks for it, as Arrow (which pandas loads) and Polars do.
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "_RJEM_MALLOC_CONF": "background_thread:false",
    # Those that draw: Mesa's without a graphics card, what compiles and keeps shaders for it, and dm_control's own.
    "LP_NUM_THREADS": "0",
    "MESA_SHADER_CACHE_DISABLE": "true",
    "DISABLE_RENDER_THREAD_OFFLOADING": "1",
    # Sets and dicts of strings iterate alike in every run, so a replay can be compared.
    "PYTHONHASHSEED": "0",
}

STALLED_AFTER_S = 300.0
ON_DROP_WITHIN_S = 5.0
END_WITHIN_S = 5.0


def cell_environment() -> dict[str, str]:
    """Return the environment that cells start with: this process's, and `ONE_THREAD` where that says nothing."""
    return {**ONE_THREAD, **os.environ}


class ProcessTable:
    """All cells of a server.

    Args:
        on_end: Called with each cell that ended and how.
        on_standing: Called with each cell that has come to stand on other layers of its folders.
        ledger: Handed to all cells, which hold it for the next server.
        adoption: The socket on which that one will listen.
        orphan_grace_s: For how long cells wait for it.
        stalled_after_s: For how long a child of an expansion, or a replay, may complete no tick.
        cpu_baseline: The level of processors that libraries of new masters are held to; none for None.

    ``waiting`` is what cells are told of the next server, and ``stores`` where trees keep their files;
    ``answers`` are what cells have done for an earlier server, and not told, by whose request it was.
    """

    def __init__(
        self,
        on_end: Callable[[CellProcess, Ending], None],
        on_standing: Callable[[CellProcess], None],
        ledger: Ledger,
        *,
        adoption: str,
        orphan_grace_s: float,
        stalled_after_s: float = STALLED_AFTER_S,
        cpu_baseline: cpu.Level | None = None,
    ) -> None:
        self._cpu_baseline = cpu_baseline
        self.loop = asyncio.get_running_loop()
        self._nobody = contextvars.Context()
        self.cells: dict[int, CellProcess] = {}
        self.answers: dict[RequestKey, Answer] = {}
        self._helpers: set[int] = set()
        self._told_of_end = on_end
        self.on_end: Callable[[CellProcess, Ending], None] = self._note_end
        self.on_work: Callable[[CellProcess], None] = lambda cell: None
        self.admit: Callable[[str, CellProcess | None], Awaitable[None]] = _admit
        self.weigh: Callable[[CellProcess, Segments], Awaitable[None]] = _weigh
        self.own_score = score()
        self._open_files = raise_limit()
        self.on_standing = on_standing
        self.scoreboard = ledger.scoreboard
        self.stalled_after_s = stalled_after_s
        self.ledger = ledger
        self.waiting: dict[str, Any] = {"adoption": adoption, "orphan_grace_s": orphan_grace_s}
        self.stores = Stores()
        self.stores.sweep()
        self._mark = ledger.name.removeprefix("/memfd:").partition(" ")[0]
        self.leftovers = Leftovers(self.loop, self.cells, self._mark, daemons=fork.mode()[0] == "clone3")

    def watch(self, what: socket.socket | int, then: Callable[[], None], *, writable: bool = False) -> None:
        """Have the loop call ``then`` whenever a descriptor is ready, on nobody's behalf.

        The loop would do it in the context of the request that runs now, and lines of the log would name that one.
        """
        add = self.loop.add_writer if writable else self.loop.add_reader
        self._nobody.run(add, what, then)

    def note_helper(self, pid: int, begins: bool) -> None:
        """Take note of a process of the server's that is no cell, which whoever started it reaps."""
        if begins:
            self._helpers.add(pid)
        else:
            self._helpers.discard(pid)

    def _note_end(self, cell: CellProcess, ending: Ending) -> None:
        """Take note that a cell has ended: what it has started is left behind."""
        if cell.runs_code and cell.child:
            self.leftovers.look_soon()
        self._told_of_end(cell, ending)

    async def spawn_master(self, request: Mapping[str, Any]) -> tuple[CellProcess, dict[str, Any]]:
        """Start a fresh interpreter, have it set a simulation up, and return its cell and its description.

        Raises:
            SnapservError: What setup met; nothing is left of the process.
        """
        await self.admit("another tree", None)
        environment = cell_environment()
        if self._cpu_baseline is not None:
            environment = cpu.held_to(self._cpu_baseline, environment)
        ours, theirs = socket_pair()
        # Moved out of the way first: one of the two may have the number that the other is to get.
        away = max(theirs.fileno(), self.ledger.descriptor, LEDGER_DESCRIPTOR) + 1
        try:
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-P", "-m", "snapserv.cell"],
                {**environment, MARK_VARIABLE: self._mark},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), away),
                    (os.POSIX_SPAWN_DUP2, self.ledger.descriptor, LEDGER_DESCRIPTOR),
                    (os.POSIX_SPAWN_DUP2, away, CONTROL_DESCRIPTOR),
                    (os.POSIX_SPAWN_CLOSE, away),
                ],
                setsid=True,  # Ctrl-C in the server's terminal is the server's affair
            )
        except OSError as cause:
            ours.close()
            raise cannot_clone(cause) from cause
        finally:
            theirs.close()
        cell = CellProcess(self, ours)
        cell.runs_code = True
        self.leftovers.sessions.add(pid)
        try:
            cell.adopt(pid)
        except SnapservError:
            cell.kill()  # which hangs up
            raise
        places: dict[str, Any] = {"stores": self.stores.name(), "temporary": self.stores.name(TEMPORARY)}
        try:
            described = await cell.ask("setup", open_files=self._open_files, **places, **self.waiting, **request)
            described["cpu_baseline"] = self._cpu_baseline or ""
            await self.weigh(cell, described["segments"])
            cell.has_on_drop = described["has_on_drop"]
            cell.stacks, cell.temporaries = self.books(described)
            if cell.temporaries is not None:
                cell.temporaries.hold(cell)
            if cell.stacks is not None:
                cell.stacks.start(cell, described["folders"]["standing"])
            return cell, described
        except BaseException:
            cell.kill()
            await asyncio.shield(cell.ended)
            for paths in places.values():
                self.stores.remove(paths)
            raise

    def books(self, described: Mapping[str, Any]) -> tuple[Stacks | None, Temporaries | None]:
        """Return the layers and the temporary files of a tree, without owners yet; None where it has none."""
        folders, temporary = described["folders"], described.get("temporary")
        return (
            Stacks(self.stores, folders) if folders is not None else None,
            Temporaries(self.stores, temporary) if temporary is not None else None,
        )

    def stacks_of(self, folders: Mapping[str, Any]) -> Stacks:
        """Return the layers that a branch has of its own, without owners yet."""
        return Stacks(self.stores, folders)

    def recognise(
        self, pid: int, described: Mapping[str, Any], stacks: Stacks | None, temporaries: Temporaries | None
    ) -> CellProcess:
        """Return the cell of an earlier server whose process is ``pid``; it will connect."""
        cell = CellProcess(self, None)
        cell.child = False
        cell.has_on_drop = described["has_on_drop"]
        cell.stacks, cell.temporaries = stacks, temporaries
        if temporaries is not None:
            temporaries.hold(cell)
        cell.adopt(pid)
        return cell

    def take(self, pid: int, control: socket.socket) -> bool:
        """Let a process that was recognised connect; return whether it was."""
        cell = self.cells.get(pid)
        if cell is None or cell.connected:
            return False
        cell.connect(control)
        return True

    async def freeze(self, live: CellProcess, *, how: str = "freeze") -> tuple[CellProcess, float]:
        """Clone a live cell into a frozen one; return it and the microseconds that its parent was held up.

        ``how`` is what the cell is asked: "freeze", or "remember" for a twin that it can be taken back to.

        Raises:
            SnapservError: The parent has threads, the kernel made no process, or the parent died.
        """
        await self.admit("a snapshot", live)
        ours, theirs = socket_pair()
        frozen = CellProcess(self, ours)
        frozen.has_on_drop, frozen.child = live.has_on_drop, live.child
        stacks, temporaries = frozen.stacks, frozen.temporaries = live.stacks, live.temporaries
        try:
            prepared: Any = stacks and await live.ask("prepare", folders=stacks.preparing(live))
            answer: Any = await live.ask(how, descriptor=theirs)
            if isinstance(answer, dict):
                frozen.kill()
                self._take_layers(live, answer["folders"])
                return await self.freeze(live, how=how)
            fork_us: float = answer
            if temporaries is not None:
                temporaries.hold(frozen)
            if stacks is not None:
                stacks.froze(live, frozen, prepared)
                self.on_standing(live)
            await frozen.introduced()
            frozen.shares_with, live.shares_with = [live], [*live.shares_with[:1], frozen]
            # From here: a frozen cell runs nothing of its own. Where it has ended, that is seen elsewhere.
            with contextlib.suppress(OSError):
                prefer(frozen.pid, SNAPSHOT, self.own_score)
            frozen.rest()
        except BaseException:
            frozen.kill()
            frozen.let_go()
            raise
        return frozen, fork_us

    def _take_layers(self, live: CellProcess, folders: Mapping[str, Any]) -> None:
        """Take note that a branch has written temporary files, and now branches the folder that they are in."""
        assert live.temporaries is not None
        live.stacks = Stacks(self.stores, {**folders, "bottom": [live.temporaries.layered(live)]})
        live.stacks.hold_again(live, folders["standing"])
        self.on_standing(live)

    async def thaw(
        self,
        frozen: CellProcess,
        *,
        step: int,
        seed: int | None,
        silent: bool = False,
        resumes: bool = False,
        passing: bool = False,
    ) -> CellProcess:
        """Clone a frozen cell into a live branch that stands at ``step``.

        ``silent`` leaves ``on_branch`` out, and ``on_drop`` at the end too; ``resumes`` says that it is no new
        branch but the one that was frozen, which began long ago. One that is ``passing`` ends at once, and needs no
        room in the budget: who asks for it may be making some.

        Raises:
            SnapservError: The kernel made no process, the snapshot died, or ``on_branch`` raised.
        """
        if not passing:
            await self.admit("a branch", frozen)
        ours, theirs = socket_pair()
        slot = self.scoreboard.take(step)
        if slot is None:
            ours.close()
            theirs.close()
            raise exhausted("no place is left in the scoreboard", OSError(errno.EAGAIN, ""))
        branch = CellProcess(self, ours)
        branch.slot = slot
        branch.has_on_drop, branch.child = frozen.has_on_drop, frozen.child
        branch.runs_code = True
        stacks = branch.stacks = frozen.stacks
        asked: dict[str, Any] = {"slot": slot, "seed": seed, "silent": silent, "resumes": resumes}
        if stacks is not None:
            asked["folders"] = stacks.beginning(frozen, branch)
        if frozen.temporaries is not None:
            branch.temporaries = frozen.temporaries
            asked["temporary"] = branch.temporaries.take(branch, parted=stacks is None)
        try:
            frozen.ask_for_clone(theirs)
            # Sent before the process exists: it waits in the socket, and the branch begins without a round trip.
            beginning = branch.ask("begin", **asked)
            try:
                await branch.introduced()
            except SnapservError:
                beginning.cancel()
                raise
            begun = branch.begun = await beginning
            branch.shares_with = [frozen]
            if stacks is not None:
                stacks.began(frozen, branch, begun["folders"])
                self.on_standing(frozen)
        except BaseException:
            branch.kill()
            if branch.pid:
                await asyncio.shield(branch.ended)
            else:
                branch.let_go()
            self.scoreboard.give_back(slot)
            raise
        return branch

    async def end(self, cell: CellProcess) -> None:
        """End a cell, wait until it is reaped and free its place in the scoreboard.

        The ``on_drop`` of a branch's simulation is run first, within `ON_DROP_WITHIN_S`, unless it is busy
        or never began.
        """
        if cell.has_on_drop and cell.slot is not None and cell.idle:
            with contextlib.suppress(SnapservError, TimeoutError):
                async with asyncio.timeout(ON_DROP_WITHIN_S):
                    await cell.ask("leave")
        # Of a cell that is nobody's child, what it has started would become process 1's, or somebody else's.
        started = {} if cell.child or not cell.pid else descendants(cell.pid)
        cell.kill()
        if cell.pid:
            await asyncio.shield(cell.ended)
        end_descendants(started)
        if cell.slot is not None:
            self.scoreboard.give_back(cell.slot)
            cell.slot = None

    def reap_strays(self) -> None:
        """Reap children that are no cells: what a simulator left behind, or a clone that never said hello."""
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None or found.si_pid in self.cells or found.si_pid in self._helpers:
                return
            log.warning("stray_process_reaped", pid=found.si_pid, status=found.si_status)
            os.waitid(os.P_PID, found.si_pid, os.WEXITED | os.WNOHANG)

    async def close(self) -> None:
        """End every cell and wait until all are reaped."""
        cells = list(self.cells.values())
        started = [descendants(cell.pid) for cell in cells if not cell.child]
        for cell in cells:
            cell.kill()
        living = {cell.ended for cell in cells}
        while living:
            ended, living = await asyncio.wait(living, timeout=END_WITHIN_S)
            if not ended:
                break  # the kernel takes seconds for thousands; as long as it gets on, it is given more
        for each in started:
            end_descendants(each)
        await self.leftovers.close()
        self.reap_strays()
        await self.loop.run_in_executor(None, self.stores.close)


async def _admit(_: str, __: CellProcess | None) -> None:
    """Admit everything: what a table does that has no budget."""


async def _weigh(_: CellProcess, __: Segments) -> None:
    """Let every setup take what it takes: what a table does that has no budget."""
