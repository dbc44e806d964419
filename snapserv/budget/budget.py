"""The budget of memory: asked before each fork, watched while cells work, and defended when it is spent.

Over the budget, snapshots that nobody has named, tagged, pinned or is using are dropped, the least recently used
first. Where that is not enough, a fork is refused, and a branch that grows is ended, alone.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog
from snapserv_client.protocol import MemoryStats

from ..errors import OverBudgetError, SnapservError
from ..machine.limits import total_bytes
from ..nodes.lookup import is_protected
from ..nodes.nodes import Nodes
from ..nodes.process import CellProcess
from ..nodes.tree import Node
from ..nodes.turns import Turn
from ..outside.accounting import Holding, anonymous_bytes, holding
from ..outside.bases import Segments
from .accounts import UNMEASURED_BYTES, Accounts

log = structlog.get_logger(__name__)

DEFAULT_SHARE = 0.8
"""The budget where none is given: so much of the machine's memory, or of the control group's."""
LOOK_EVERY_S = 0.01
"""How often cells that work are looked at: one that writes 1 GiB/s has come 10 MiB further meanwhile."""
FEW = 16
"""So many are looked at in the event loop, in some 10 µs each; more of them in a thread."""
MEASURE_EVERY_S = 0.05
"""How often something is measured while cells work: it takes a thread, and page tables are walked."""
MEASURING_SHARE = 0.02
"""So much of the time at most goes into measuring, as redis bounds what its child's statistics cost."""
MOST_CREDIT_S = 0.05
MOST_AT_ONCE = 64
NAMED_IN_ERRORS = 5

Held = list[tuple[CellProcess, Holding | None]]


class Budget:
    """What memory all nodes together may take.

    Args:
        nodes: The nodes; their processes asks `admit` before each fork from now on.
        limit_bytes: The budget; `DEFAULT_SHARE` of what there is for None.
    """

    def __init__(self, nodes: Nodes, limit_bytes: int | None = None) -> None:
        self.limit_bytes = limit_bytes or int(total_bytes() * DEFAULT_SHARE)
        self.accounts = Accounts()
        self.evictions = 0
        self.stopped = 0
        self._nodes = nodes
        self._processes = nodes.processes
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "snapserv-measure")
        self._thread.submit(time.monotonic)  # started now: nodes may take all processes that there may be
        self._next: asyncio.TimerHandle | None = None
        self._looking: asyncio.Task[None] | None = None
        self._working: dict[CellProcess, None] = {}
        self._due: dict[CellProcess, None] = {}
        self._credit_s = MOST_CREDIT_S
        self._credited = time.monotonic()
        self._measured = -MEASURE_EVERY_S
        self._reclaiming = asyncio.Lock()
        self._closed = False
        self._processes.admit = self.admit
        self._processes.weigh = self.weigh
        self._processes.on_work = self._on_work

    async def admit(self, what: str, keep: CellProcess | None = None) -> None:
        """Make room for one more process, or refuse it; ``keep`` is the process that is to be cloned.

        Raises:
            OverBudgetError: There is none; ``details`` has the numbers and the biggest nodes.
        """
        if self._over(UNMEASURED_BYTES) > 0:
            await self._reclaim(UNMEASURED_BYTES, keep)
        if self._over(UNMEASURED_BYTES) > 0:
            raise self._error(f"no memory is left in the budget for {what}")

    async def weigh(self, cell: CellProcess, segments: Segments) -> None:
        """Account a process with all that its setup has taken, or refuse it.

        While setup runs it is looked at now and then only, and what it takes between two looks is seen here.

        Raises:
            OverBudgetError: There is not so much; ``details`` has the numbers and the biggest nodes.
        """
        held, _ = await self._loop.run_in_executor(self._thread, _measure, [(cell, segments)], 0.0)
        for _, found in held:
            if found is not None:
                self.accounts.measured(cell, found)
        if self._over() > 0:
            await self._reclaim(0, cell)
        if self._over() > 0:
            raise self._error("setup took more than is left in the budget")

    def statistics(self) -> MemoryStats:
        """Return the numbers: what is charged for what."""
        kinds = {"master": 0, "snapshot": 0, "branch": 0, "other": 0}
        for cell, charge in self.accounts.by_cell.items():
            node = self._nodes.node_of(cell)
            kind = "other" if node is None else "master" if node.id == node.tree.root else node.kind
            kinds[kind] += charge.own_bytes
        return MemoryStats(
            limit_bytes=self.limit_bytes,
            charged_bytes=self.accounts.total_bytes,
            base_bytes=self.accounts.base_bytes,
            master_bytes=kinds["master"],
            snapshot_bytes=kinds["snapshot"],
            branch_bytes=kinds["branch"],
            other_bytes=kinds["other"],
            evictions=self.evictions,
            stopped=self.stopped,
        )

    async def close(self) -> None:
        """Watch no longer."""
        self._closed = True
        self._processes.on_work = lambda cell: None
        if self._next is not None:
            self._next.cancel()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        self._thread.shutdown()

    # ---------------------------------------------------------------------------------------------- watching

    def _on_work(self, cell: CellProcess) -> None:
        """Take note that a process is new, or was asked something."""
        if cell.pid and not cell.ended.done():
            if cell not in self.accounts.by_cell:
                self.accounts.add(cell)
                cell.ended.add_done_callback(functools.partial(self._on_gone, cell))
            self._working[cell] = None
            self._plan(LOOK_EVERY_S)

    def _on_gone(self, cell: CellProcess, _: object) -> None:
        self.accounts.remove(cell)
        self._working.pop(cell, None)
        self._due.pop(cell, None)
        beside, cell.shares_with = cell.shares_with, []
        for each in beside:
            if each in self.accounts.by_cell:
                self._due[each] = None  # what both shared, it holds alone now
                self._plan(LOOK_EVERY_S)

    def _plan(self, pause_s: float) -> None:
        if self._closed:
            return
        if self._looking is None and (self._next is None or self._next.when() > self._loop.time() + pause_s):
            if self._next is not None:
                self._next.cancel()
            self._next = self._loop.call_later(pause_s, self._start)

    def _start(self) -> None:
        self._next = None
        self._looking = self._loop.create_task(self._look())

    async def _look(self) -> None:
        try:
            pause_s = await self._look_once()
        finally:
            self._looking = None
        if pause_s is not None:
            self._plan(pause_s)

    async def _look_once(self) -> float | None:
        """Look at what works, measure some of what may have changed, and see that the budget is kept.

        Returns when to look again, or None where nothing works and nothing is to be measured.
        """
        working = list(self._working)
        for cell in working:
            self._due[cell] = None
            if (beside := self._parent_of(cell)) is not None:
                self._due[beside] = None  # what a branch has written, its snapshot holds alone
        looked_s = await self._look_at(working)
        if self._due and time.monotonic() >= self._measured + MEASURE_EVERY_S:
            await self._measure_some()
        await self._defend()
        for cell in working:
            if not cell.working:
                self._working.pop(cell, None)
                self.accounts.settle(cell)
        if self._working:
            return max(LOOK_EVERY_S, looked_s / MEASURING_SHARE)
        if self._due:
            return max(LOOK_EVERY_S, self._measured + MEASURE_EVERY_S - time.monotonic(), self._debt_s)
        return None

    async def _look_at(self, cells: Sequence[CellProcess]) -> float:
        """See by how much cells have grown; return the seconds that it took."""
        if len(cells) > FEW:
            sizes, looked_s = await self._loop.run_in_executor(self._thread, _sizes, cells)
        else:
            sizes, looked_s = _sizes(cells)
        for cell, size in zip(cells, sizes, strict=True):
            self.accounts.grow(cell, size)
        return looked_s

    async def _measure_some(self, debt_s: float = 0.0) -> None:
        """Measure what cells hold, of some that may have changed, if there is time to spend, or to borrow."""
        now = time.monotonic()
        self._credit_s = min(MOST_CREDIT_S, self._credit_s + (now - self._credited) * MEASURING_SHARE)
        self._measured = self._credited = now
        if self._credit_s + debt_s <= 0:
            return
        due = [(cell, self._nodes.segments_of(cell)) for cell in list(self._due)[:MOST_AT_ONCE]]
        held, measured_s = await self._loop.run_in_executor(self._thread, _measure, due, self._credit_s + debt_s)
        self._credit_s -= measured_s
        for cell, found in held:
            self._due.pop(cell, None)
            if found is not None:
                self.accounts.measured(cell, found)

    @property
    def _debt_s(self) -> float:
        """How long it takes until there is time to spend on measuring again."""
        return max(0.0, -self._credit_s / MEASURING_SHARE)

    def _parent_of(self, cell: CellProcess) -> CellProcess | None:
        node = self._nodes.node_of(cell)
        parent = self._nodes.forest.nodes.get(node.parent or 0) if node is not None else None
        found = self._nodes.cell_of(parent) if parent is not None else None
        return found if found in self.accounts.by_cell else None

    # --------------------------------------------------------------------------------------------- defending

    def _over(self, wanted_bytes: int = 0) -> int:
        ending = sum(self.accounts.by_cell[cell].own_bytes for cell in self._working if cell.verdict is not None)
        return self.accounts.total_bytes - ending + wanted_bytes - self.limit_bytes

    async def _defend(self) -> None:
        if self._over() > 0:
            await self._reclaim(0, None)
        if self._over() <= 0:
            return
        growing = [cell for cell in self._working if cell.working and cell.verdict is None]
        runaway = max(growing, key=lambda cell: self.accounts.by_cell[cell].grown_bytes, default=None)
        if runaway is not None and self.accounts.by_cell[runaway].grown_bytes > 0:
            self._stop(runaway)

    def _stop(self, cell: CellProcess) -> None:
        """End a process that grows, and nobody else."""
        node = self._nodes.node_of(cell)
        grown = self.accounts.by_cell[cell].grown_bytes
        name = node.path if node is not None else "a process in no tree"
        error = self._error(f"{name} grew by {grown:,} bytes, over the budget, and was ended")
        error.details |= {"node": node.path if node is not None else None, "grown_bytes": grown}
        if node is not None:
            error.details["step"] = self._nodes.look(node)
        self.stopped += 1
        log.warning("runaway_stopped", node=name, pid=cell.pid, grown=grown, limit=self.limit_bytes)
        cell.condemn(error)

    async def _reclaim(self, wanted_bytes: int, keep: CellProcess | None) -> None:
        """Have snapshots go that nobody minds until the budget is kept; none where all would not be enough.

        Those that last give their process up, and are stored; the others are dropped.
        """
        async with self._reclaiming:  # whoever comes meanwhile would drop others for what is being dropped already
            if self._over(wanted_bytes) > 0 and self._due:
                await self._measure_some(MOST_CREDIT_S)  # what was charged may be shared by now, or gone
            while (over := self._over(wanted_bytes)) > 0:
                idle = self._by_loss(
                    [node for node in self._nodes.spare() if self._nodes.cell_of(node) is not keep]
                )
                sizes = [self._charged(node) for node in idle]
                if sum(sizes) < over:
                    return
                doomed: list[Node] = []
                for node, size in zip(idle, sizes, strict=True):
                    doomed.append(node)
                    over -= size
                    if over <= 0:
                        break
                await asyncio.gather(*(self._evict(node, self._charged(node)) for node in doomed))

    def _by_loss(self, idle: list[Node]) -> list[Node]:
        """Return snapshots in the order in which they go: those that last before those that would be lost.

        Among those that last, of the quarter that was used least recently, those go first that take most: bringing
        one back costs little more where it is large.
        """
        lasting = [node for node in idle if self._nodes.stored.lasts(node)]
        others = [node for node in idle if not self._nodes.stored.lasts(node)]
        old = max(FEW, len(lasting) // 4)
        return [*sorted(lasting[:old], key=self._charged, reverse=True), *lasting[old:], *others]

    def _charged(self, node: Node) -> int:
        cell = self._nodes.cell_of(node)
        charge = self.accounts.by_cell.get(cell) if cell is not None else None
        return charge.own_bytes if charge is not None else 0

    async def _evict(self, node: Node, size: int) -> None:
        queue = self._nodes.queue(node)
        if queue.busy:
            return  # since it was chosen: nobody who wants memory waits for whoever uses it
        async with Turn(queue):
            if node.id not in self._nodes.forest.nodes:
                return
            if self._nodes.stored.lasts(node) and (await self._store_away(node, size) or is_protected(node)):
                return
            self.evictions += 1
            log.warning("snapshot_evicted", node=node.path, bytes=size, limit=self.limit_bytes)
            cell = self._nodes.cell_of(node)
            if cell is not None and (beside := self._parent_of(cell)) is not None:
                self._due[beside] = None  # what both shared, it holds alone now
            await self._nodes.drop(node, event="evicted", text=f"{size:,} bytes, over the budget")

    async def _store_away(self, node: Node, size: int) -> bool:
        """Have a snapshot whose turn is held be stored, and saved before that; return whether it could be."""
        try:
            if node.id not in self._nodes.stored.durable:
                await self._nodes.stored.save(node)
        except SnapservError as error:
            log.warning("not_stored", node=node.path, code=error.code, why=error.message)
            return False
        log.info("stored", node=node.path, bytes=size, limit=self.limit_bytes)
        cell = self._nodes.cell_of(node)
        if cell is not None and (beside := self._parent_of(cell)) is not None:
            self._due[beside] = None
        await self._nodes.put_away(node)
        return True

    def _error(self, message: str) -> OverBudgetError:
        biggest: list[dict[str, Any]] = []
        for cell, size in self.accounts.biggest(NAMED_IN_ERRORS):
            node = self._nodes.node_of(cell)
            biggest.append({"node": node.path if node is not None else None, "pid": cell.pid, "bytes": size})
        named = ", ".join(f"{each['node'] or each['pid']} {each['bytes'] >> 20:,} MiB" for each in biggest)
        charged = self.accounts.total_bytes
        return OverBudgetError(
            f"{message}: {charged:,} of {self.limit_bytes:,} bytes are charged; the biggest: {named or 'none'}",
            hint="drop or unpin snapshots, or serve with more --memory",
            details={"limit_bytes": self.limit_bytes, "charged_bytes": charged, "biggest": biggest},
        )


def _sizes(cells: Sequence[CellProcess]) -> tuple[list[int], float]:
    """Return what each has of memory that is no file's, and the seconds that it took to look."""
    began = time.monotonic()
    return [anonymous_bytes(cell.pid) for cell in cells], time.monotonic() - began


def _measure(due: Sequence[tuple[CellProcess, Segments]], allowed_s: float) -> tuple[Held, float]:
    """Measure what is due until the time is used up; return what was found, and the seconds that it took."""
    began = time.monotonic()
    held: Held = []
    for cell, segments in due:
        held.append((cell, holding(cell.pid, segments)))
        if time.monotonic() - began > allowed_s:
            break
    return held, time.monotonic() - began
