"""Nodes with their processes: what it takes to make, revive and end them. Knows nothing of clients.

`Forest` says what there is; `ProcessTable` has the processes; this module keeps the two in step.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any, Literal

import structlog
from snapserv_client.protocol import Rng

from ..errors import NameTakenError, NodeDiedError, error_from_wire
from ..machine.cpu import Level
from ..machine.endings import Ending
from . import records
from .counters import Counters
from .keeping import NodeKeeping, Publish
from .ledger import Ledger
from .plans import plan_of
from .process import CellProcess, RequestKey
from .process_table import STALLED_AFTER_S, ProcessTable
from .seeds import seed_of
from .setups import set_up
from .tree import Autosnap, Fault, NameInUseError, Node, Tree
from .turns import NodeQueue, Turn

log = structlog.get_logger(__name__)


class Nodes(NodeKeeping):
    """All nodes of a server.

    Args:
        publish: Called with each event.
        ledger: Where all that a killed server's successor must know is written.
        adoption: The socket on which that one will listen.
        orphan_grace_s: For how long cells wait for it.
        setup: What every master is told: ``backing``, ``path``, ``branch_dirs`` and ``allow``, as
            `snapserv.cell.starting` takes them.
        stalled_after_s: For how long a child of an expansion, or a replay, may complete no tick.
        autosnap: When snapshots of each tree's ``main`` are taken by themselves.
        cpu_baseline: See `ProcessTable`.
    """

    def __init__(
        self,
        publish: Publish,
        ledger: Ledger,
        *,
        adoption: str,
        orphan_grace_s: float,
        setup: Mapping[str, Any],
        stalled_after_s: float = STALLED_AFTER_S,
        autosnap: Autosnap | None = None,
        cpu_baseline: Level | None = None,
    ) -> None:
        super().__init__(publish, ledger)
        self.counters = Counters()
        self.processes = ProcessTable(
            self._on_end,
            self._on_standing,
            ledger,
            adoption=adoption,
            orphan_grace_s=orphan_grace_s,
            stalled_after_s=stalled_after_s,
            cpu_baseline=cpu_baseline,
        )
        self.setup = setup
        self._autosnap = autosnap
        self._background: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def awake(self, node: Node, *, passing: bool = False) -> AsyncIterator[CellProcess]:
        """Give the live cell of a node whose turn the caller holds: its own, or for a snapshot a temporary one.

        The temporary one is a clone in no tree, in which none of the author's code has run; it ends with the block,
        and at once where it is ``passing`` (see `ProcessTable.thaw`).

        Raises:
            SnapservError: The node died, or the kernel made no process.
        """
        cell = await self.present(node)
        if node.kind == "branch":
            yield cell
            return
        cell = await self.processes.thaw(cell, step=node.step, seed=None, silent=True, passing=passing)
        try:
            self.counters.count_fork(cell.clone_us)
            yield cell
        finally:
            await asyncio.shield(self.processes.end(cell))

    # ------------------------------------------------------------------------------------------------ making

    async def create(self, target: str, *, name: str, params: Mapping[str, Any]) -> Node:
        """Run a simulation's setup in a process of its own; return the new tree's branch ``main``.

        Raises:
            NameTakenError: There is a tree of that name.
            SnapservError: What setup met.
        """
        try:
            tree = self.forest.plant(name, target)
        except NameInUseError as cause:
            raise NameTakenError(str(cause)) from cause
        try:
            master, described = await set_up(self.processes, {**self.setup, "target": target, "params": params})
        except BaseException:
            self.forest.fell(tree)
            raise
        plan = self._plans[name] = plan_of(name, described)
        tree.simulation = plan.spec.simulation
        if described["made_private"]:
            log.info("made_private", tree=name, memory=described["made_private"])
        for held in plan.shared:
            log.warning("shared_by_nodes", tree=name, what=held)
        root = self._settle(tree, "snapshot", None, master, name="root", step=0)
        tree.root = root.id
        self.note_tree(tree)
        self._publish("tree", self.info(root), tree.simulation)
        main = await self.make_branch(root, name="main", rng="same")
        main.autosnap = replace(self._autosnap) if self._autosnap is not None else None
        self.note(main)
        return main

    async def take_snapshot(
        self, branch: Node, *, name: str | None, message: str = "", automatic: bool = False
    ) -> tuple[Node, float]:
        """Freeze a copy of a branch, whose turn the caller holds; return it and the fork's microseconds.

        Raises:
            NameTakenError: The name belongs to a node of the tree.
            SnapservError: The branch has threads, the kernel made no process, or the branch died.
        """
        self.check_free(branch.tree, name)
        frozen, fork_us = await self.processes.freeze(self.cell(branch))
        self.counters.count_fork(fork_us)
        try:
            parent = self.forest.nodes.get(branch.parent or 0)
            snapshot = self._settle(
                branch.tree,
                "snapshot",
                parent,
                frozen,
                name=name,
                step=self.look(branch),
                fault=branch.fault,
                message=message,
                automatic=automatic,
            )
        except NameTakenError:
            await self.processes.end(frozen)
            raise
        snapshot.taken_of = branch.name
        # The branch goes on from here: its past is the snapshot.
        self.forest.move(branch, snapshot)
        self.note(branch)
        return snapshot, fork_us

    async def make_branch(
        self,
        snapshot: Node,
        *,
        name: str | None,
        rng: Rng,
        silent: bool = False,
        prepare: Callable[[CellProcess], Awaitable[None]] | None = None,
    ) -> Node:
        """Clone a live branch of a snapshot.

        Args:
            snapshot: What to clone.
            name: The branch's name.
            rng: Its random stream.
            silent: Whether to leave out ``on_branch``, which ``prepare`` then sees to.
            prepare: Awaited with the new cell before anybody can use it; if it raises, there is no branch.

        Raises:
            NameTakenError: The name belongs to a node of the tree.
            SnapservError: The kernel made no process, the snapshot died, or ``on_branch`` raised.
        """
        self.check_free(snapshot.tree, name)
        # The id comes first, because a branch's own random stream is derived from it.
        node = self.forest.add(snapshot.tree, "branch", snapshot, name=name, step=snapshot.step, now=time.time())
        node.fault, node.since = snapshot.fault, node.id
        queue = self._queues[node.id] = NodeQueue(node.id, self.traffic)
        async with Turn(queue):  # whoever names it already waits until it is there
            try:
                seed = seed_of(rng, node.id)
                frozen = await self.present(snapshot)
                cell = await self.processes.thaw(frozen, step=snapshot.step, seed=seed, silent=silent)
                if prepare is not None:
                    try:
                        await prepare(cell)
                    except BaseException:
                        await self.processes.end(cell)
                        raise
            except BaseException:
                del self._queues[node.id]
                self.forest.remove(node)
                self.note(node)
                raise
            self.counters.count_fork(cell.clone_us)
            self._put(node, cell)
        self._publish("created", self.info(node), "")
        return node

    async def keep_child(
        self, snapshot: Node, cell: CellProcess, reserved: int, *, kind: Literal["snapshot", "branch"], step: int
    ) -> Node:
        """Make a live cell that was cloned of a snapshot a node, as it is or frozen.

        Raises:
            SnapservError: It cannot be frozen; it is live still, and the caller's.
        """
        if kind == "branch":
            return self._settle(snapshot.tree, kind, snapshot, cell, name=None, step=step, reserved=reserved)
        frozen, fork_us = await self.processes.freeze(cell)
        self.counters.count_fork(fork_us)
        await self.processes.end(cell)
        return self._settle(snapshot.tree, kind, snapshot, frozen, name=None, step=step, reserved=reserved)

    async def revive(self, branch: Node, snapshot: Node, *, rng: Rng) -> None:
        """Put a branch, whose turn the caller holds, back to a snapshot; a dead one lives again.

        Raises:
            SnapservError: The kernel made no process, the snapshot died, or ``on_branch`` raised; the branch is
                then what it was.
        """
        frozen = await self.present(snapshot)
        cell = await self.processes.thaw(frozen, step=snapshot.step, seed=seed_of(rng, branch.id))
        await self.stand_in(branch, snapshot, cell, snapshot.path, fault=snapshot.fault)

    async def stand_in(
        self, branch: Node, snapshot: Node, cell: CellProcess, where: str, *, fault: Fault | None = None
    ) -> None:
        """Have a branch, whose turn the caller holds, be what came of a clone of a snapshot."""
        branch.fault, branch.since = fault, self.forest.last_id
        self.forest.move(branch, snapshot)
        await self._replace_cell(branch, cell)
        self._publish("restored", self.info(branch), where)

    def settle_branch(self, snapshot: Node, cell: CellProcess, *, name: str | None, step: int) -> Node:
        """Make a live cell that was cloned of a snapshot a branch.

        Raises:
            NameTakenError: The name belongs to a node of the tree.
        """
        branch = self._settle(snapshot.tree, "branch", snapshot, cell, name=name, step=step)
        branch.since = branch.id
        self.note(branch)
        return branch

    async def resume(self, branch: Node, backup: CellProcess, *, step: int) -> None:
        """Have a branch, whose turn the caller holds, go on from a frozen copy of itself, which stands at ``step``.

        Neither the branch nor its tree knows of it: no hook of the author's runs.

        Raises:
            SnapservError: The kernel made no process, or the copy died; the branch is then what it was.
        """
        cell = await self.processes.thaw(backup, step=step, seed=None, resumes=True)
        if branch.id in self._cells:
            self._cells[branch.id].kill()  # without `on_drop`: the branch goes on
        await self._replace_cell(branch, cell)
        self._publish("restored", self.info(branch), f"step {step}, before what failed")

    async def put_away(self, node: Node) -> None:
        """Have a snapshot that lasts, whose turn the caller holds, give its process up until somebody needs it."""
        cell = self._part(node)
        self._went_away(node, "")
        if cell is not None:
            await self.processes.end(cell)

    def brought(self, node: Node, cell: CellProcess) -> None:
        """Take note that a stored node has a process again."""
        self.stored.away.discard(node.id)
        node.death = None
        self._deaths.pop(node.id, None)
        with self.ledger.at_once():
            self._put(node, cell)
        self._publish("revived", self.info(node), "")

    def _went_away(self, node: Node, text: str) -> None:
        self.stored.away.add(node.id)
        with self.ledger.at_once():
            self.note(node)
        self._publish("stored", self.info(node), text)

    async def drop(self, node: Node, *, event: Literal["dropped", "evicted"] = "dropped", text: str = "") -> None:
        """End a node, whose turn the caller holds; its descendants live on."""
        cell = self._part(node)
        if cell is not None:
            await self.processes.end(cell)
        self._deaths.pop(node.id, None)
        self._publish(event, self.info(node), text)
        del self._queues[node.id]
        self.traffic.forget(node.id)
        self.stored.forget(node)
        children = list(node.children)
        self.forest.remove(node)
        self.note(node)
        for child in children:
            self.note(self.forest.nodes[child])
        if node.id == node.tree.root:
            del self._plans[node.tree.name]
            self.forest.fell(node.tree)
            self.ledger.remove("tree", node.tree.name)

    # ---------------------------------------------------------------------------------- what outlives this server

    def put_back_tree(self, name: str, told: Mapping[str, Any]) -> Tree:
        """Take up a tree as the ledger has it.

        Raises:
            NameInUseError: There is a tree of that name.
        """
        tree = self.forest.plant(name, told["simulation"])
        tree.first, tree.root = told["first"], told["root"]
        self._plans[name] = plan_of(name, told["described"])
        return tree

    def note_tree(self, tree: Tree) -> None:
        """Have the ledger say what there is to say of a tree."""
        self.ledger.put("tree", tree.name, lambda: records.of_tree(tree, self._plans.get(tree.name)))

    def load(self, tree: Tree, head: Mapping[str, Any], parent: Node | None) -> Node:
        """Add a snapshot that lies in a store, under its name if that is free, or one like it.

        Args:
            tree: Where to.
            head: What the store says of it; see `snapserv_client.store.format.Node`.
            parent: Its nearest ancestor that is there.
        """
        name = head["name"]
        while name in tree.names:
            name += "_"
        node = self.forest.add(tree, "snapshot", parent, name=name, step=head["step"], now=head["created"])
        node.named, node.automatic = bool(head.get("named")), bool(head.get("automatic"))
        node.pinned, node.fault, node.message = (
            bool(head.get("pinned")),
            records.fault_of(head),
            head.get("message", ""),
        )
        node.taken_of = head.get("facts", {}).get("taken_of", "")
        for tag in head.get("tags", []):
            if tag not in tree.names:
                self.forest.tag(node, tag)
        self._queues[node.id] = NodeQueue(node.id, self.traffic)
        return node

    def put_back(self, number: int, told: Mapping[str, Any], cell: CellProcess | None) -> Node:
        """Take up a node as the ledger has it, with its process, or dead without one."""
        node = records.node_of(number, told, self.forest.trees[told["tree"]])
        self.forest.put_back(node)
        self._queues[number] = NodeQueue(number, self.traffic)
        if cell is not None:
            self._put(node, cell)
        elif number in self.stored.durable:
            self.stored.away.add(number)
        elif node.death is None:
            if told["slot"] is not None:
                node.step = self.processes.scoreboard[told["slot"]]  # it may have gone on after this was written
            self._died(node, told["pid"], Ending(None, None, False))
        else:
            self._deaths[number] = error_from_wire(told["error"])
        return node

    def adopted(self) -> None:
        """Take note that all of an earlier server's nodes were put back."""
        self._publish("adopted", None, f"{len(self.forest.nodes):,} nodes")

    def answered(self, key: RequestKey) -> None:
        """Take note that a client was told what a cell had done for an earlier server."""
        if self.processes.answers.pop(key, None) is not None:
            self.ledger.remove("answer", key)

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that nobody waits for; `close` gives it up."""
        task = self.processes.loop.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def close(self) -> None:
        """End every process."""
        for task in self._background:
            task.cancel()
        self._nodes_of_cells.clear()  # nobody needs to hear of these deaths
        await self.processes.close()

    # --------------------------------------------------------------------------------------------- processes

    def _settle(
        self,
        tree: Tree,
        kind: Literal["snapshot", "branch"],
        parent: Node | None,
        cell: CellProcess,
        *,
        name: str | None,
        step: int,
        reserved: int | None = None,
        fault: Fault | None = None,
        message: str = "",
        automatic: bool = False,
    ) -> Node:
        self.check_free(tree, name)
        node = self.forest.add(tree, kind, parent, name=name, step=step, now=time.time(), reserved=reserved)
        node.fault, node.message, node.automatic = fault, message, automatic
        self._queues[node.id] = NodeQueue(node.id, self.traffic)
        self._put(node, cell)
        self._publish("created", self.info(node), "")
        return node

    def _put(self, node: Node, cell: CellProcess) -> None:
        self._cells[node.id] = cell
        self._nodes_of_cells[cell] = node
        self.note(node)
        if cell.ended.done():
            self._on_end(cell, cell.ended.result())

    def _part(self, node: Node) -> CellProcess | None:
        """Take a node's process away from it, for the caller to end."""
        cell = self._cells.pop(node.id, None)
        if cell is not None:
            self._nodes_of_cells.pop(cell, None)
        return cell

    async def _replace_cell(self, branch: Node, cell: CellProcess) -> None:
        """Put a clone in the place of a branch's process, also of one that died."""
        self.counters.count_fork(cell.clone_us)
        former = self._part(branch)
        branch.death = None
        self._deaths.pop(branch.id, None)
        with self.ledger.at_once():  # a server that is killed in between leaves one of the two
            self._put(branch, cell)
        if former is not None:
            await self.processes.end(former)

    def _on_end(self, cell: CellProcess, ending: Ending) -> None:
        node = self._nodes_of_cells.pop(cell, None)
        if node is None:
            return
        if node.id in self.stored.durable:
            log.warning("process_lost", node=node.path, pid=cell.pid, why=str(ending))
            del self._cells[node.id]
            self._went_away(node, str(ending))
            return
        self._died(node, cell.pid, ending)

    def _died(self, node: Node, pid: int, ending: Ending) -> None:
        step = self.look(node)
        node.death, node.fault = str(ending), None  # what it held is gone
        self.counters.deaths[ending.signal or "none"] += 1
        self._deaths[node.id] = NodeDiedError(
            f"the process of {node.path} {ending} after step {step:,}",
            hint="the rest of the tree is unaffected; restore or reset revives a branch",
            details={"signal": ending.signal, "status": ending.status, "step": step, "pid": pid},
        )
        with self.ledger.at_once():  # this runs on nobody's behalf
            self.note(node)
        log.warning("node_died", node=node.path, pid=pid, signal=ending.signal, status=ending.status)
        self._publish("died", self.info(node), str(ending))

    def _on_standing(self, cell: CellProcess) -> None:
        node = self._nodes_of_cells.get(cell)
        if node is not None:
            with self.ledger.at_once():  # layers that nobody stands on any more are removed soon
                self.note(node)
