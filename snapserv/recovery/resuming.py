"""Going on with what a killed server has left: its trees and nodes as the ledger has them, and its processes.

A branch is busy until its process has said what it did last: there may be an answer that nobody was told, which is
kept for the retry. Work that was to be all or nothing, and has failed meanwhile, is rolled back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog

from ..errors import SnapservError, error_from_wire
from ..nodes.answers import Answer
from ..nodes.faults import note_fault
from ..nodes.nodes import Nodes
from ..nodes.process import CellProcess
from ..nodes.records import forget_backup
from ..nodes.stacks import Stacks
from ..nodes.temporaries import Temporaries
from ..nodes.tree import Node
from ..nodes.turns import Turn

log = structlog.get_logger(__name__)


class Recovery:
    """What there is to do until all processes have connected.

    Args:
        nodes: Where all of it is taken up; there are none yet.
    """

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._stacks: dict[str, Stacks] = {}
        """By the tree that has them, or by where they are of branches that have some of their own."""
        self._temporaries: dict[str, Temporaries] = {}
        self._resuming: dict[int, CellProcess] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._replied: set[tuple[bytes, int]] = set()
        self._forgotten: dict[bytes, int] = {}

    def begin(self, orphans: set[int]) -> None:
        """Take up what the ledger says.

        Args:
            orphans: The processes that there are. A node whose process is none of them is dead.
        """
        nodes, ledger = self._nodes, self._nodes.ledger
        for (client, request), (forgotten, *_) in ledger.entries("reply").items():
            self._replied.add((client, request))
            self._forgotten[client] = max(forgotten, self._forgotten.get(client, 0))
        for key, (before, reply) in ledger.entries("answer").items():
            self._answer(key, before, reply)
        described: dict[str, Mapping[str, Any]] = {}
        for name, told in ledger.entries("tree").items():
            nodes.put_back_tree(name, told)
            described[name] = told["described"]
            stacks, temporaries = nodes.processes.books(told["described"])
            if stacks is not None:
                self._stacks[name] = stacks
            if temporaries is not None:
                self._temporaries[name] = temporaries
        backups = ledger.entries("backup")
        for number, told in sorted(ledger.entries("node").items()):
            tree = told["tree"]
            cell = self._recognise(told, orphans, tree, described[tree])
            node = nodes.put_back(number, told, cell)
            kept = backups.get(number)
            backup = None if kept is None else self._recognise(kept, orphans, tree, described[tree])
            if node.kind == "branch" and cell is not None:
                nodes.processes.scoreboard.hold(told["slot"])
                self._resuming[number] = cell
            if (node.kind == "branch" and cell is not None) or backup is not None:
                turn = Turn(nodes.queue(node))  # taken now: requests come later
                step = 0 if kept is None else kept["step"]
                work = self._resume(node, turn, cell, backup, step)
                self._tasks.append(nodes.processes.loop.create_task(work))
        nodes.forest.join()
        for stacks in self._stacks.values():
            stacks.avoid_names()
        for temporaries in self._temporaries.values():
            temporaries.avoid_names()
        nodes.adopted()

    def running(self, branch: Node) -> CellProcess | None:
        """Return the cell of a branch that may still do what an earlier server asked of it."""
        return self._resuming.get(branch.id)

    async def finish(self) -> None:
        """Wait until all branches have said what they did last, or have died; then remove what nobody stands on."""
        await asyncio.gather(*self._tasks)
        for stacks in self._stacks.values():
            stacks.tidy()

    def give_up(self) -> None:
        """Wait no longer: the server ends."""
        for task in self._tasks:
            task.cancel()

    def _recognise(
        self, told: Mapping[str, Any], orphans: set[int], tree: str, described: Mapping[str, Any]
    ) -> CellProcess | None:
        if told.get("death") is not None or told["pid"] not in orphans:
            return None
        stacks = self._stacks_of(tree, told.get("folders"))
        temporaries = self._temporaries.get(tree)
        cell = self._nodes.processes.recognise(told["pid"], described, stacks, temporaries)
        cell.slot = told.get("slot")
        if stacks is not None and told["standing"] is not None:
            stacks.hold_again(cell, told["standing"])
        return cell

    def _stacks_of(self, tree: str, own: Mapping[str, Any] | None) -> Stacks | None:
        if own is None:
            return self._stacks.get(tree)
        if own["store"] not in self._stacks:
            self._stacks[own["store"]] = self._nodes.processes.stacks_of(own)
        return self._stacks[own["store"]]

    async def _resume(
        self, node: Node, turn: Turn, cell: CellProcess | None, backup: CellProcess | None, step: int
    ) -> None:
        async with turn:
            failed = cell is None
            try:
                if cell is not None:
                    failed = await self._ask(node, cell, backup is not None)
            except SnapservError as error:
                failed = True
                log.info("not_resumed", node=node.path, why=error.message)  # it has died, and that was told
            finally:
                self._resuming.pop(node.id, None)
            if backup is not None:
                await self._settle(node, backup, step, failed=failed)

    async def _ask(self, node: Node, cell: CellProcess, atomic: bool) -> bool:
        """Have a branch say what it did last; return whether that failed, and was to be all or nothing."""
        nodes = self._nodes
        told = await cell.ask("resume")
        if cell.stacks is not None:
            cell.stacks.hold_again(cell, told["standing"])
            nodes.note(node)
        if cell.temporaries is not None:
            cell.temporaries.hold(cell, told["temporary"])
        last = told["last"]
        if last is None:
            return False
        client, request = last["key"]
        if (client, request) in self._replied or request <= self._forgotten.get(client, 0):
            return False  # what came of it was written down, and the branch may have been cleared since
        if "error" in last["reply"]:
            if atomic:
                return True  # and so it was never begun, and the retry begins it
            note_fault(nodes, node, error_from_wire(last["reply"]["error"]))
        self._answer((client, request), last["before"], last["reply"])
        nodes.ledger.put("answer", (client, request), lambda: [last["before"], last["reply"]])
        return False

    async def _settle(self, node: Node, backup: CellProcess, step: int, *, failed: bool) -> None:
        nodes = self._nodes
        try:
            if failed:
                await nodes.resume(node, backup, step=step)
                log.info("rolled_back", node=node.path, step=step)
        except SnapservError as error:
            log.warning("not_rolled_back", node=node.path, step=step, error=error.message)
        finally:
            forget_backup(nodes.ledger, node)
            await nodes.processes.end(backup)

    def _answer(self, key: tuple[bytes, int], before: int, reply: dict[str, Any]) -> None:
        if before and "ok" in reply:
            reply = {"ok": {**reply["ok"], "before": before}}
        self._nodes.processes.answers[key] = Answer(reply)
