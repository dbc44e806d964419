"""Processes of stored nodes, brought back out of the store when somebody needs them."""

from __future__ import annotations

import structlog

from ..errors import NodeDiedError, NotFoundError
from ..nodes import bringing
from ..nodes.nodes import Nodes
from ..nodes.process import CellProcess
from ..nodes.stacks import Stacks
from ..nodes.tree import Node
from ..nodes.turns import Turn
from . import heads
from .heads import Saved
from .saving import Saving

log = structlog.get_logger(__name__)

RELATIVES_LOOKED_AT = 64


class Fetching:
    """What brings the nodes of a server back.

    Args:
        nodes: The server's nodes.
        saving: Its store, and what that has of them.
    """

    def __init__(self, nodes: Nodes, saving: Saving) -> None:
        self._nodes = nodes
        self._saving = saving
        self._stacks: dict[str, Stacks] = {}

    async def fetch(self, node: Node) -> CellProcess:
        """Bring the process of a stored node back, of a relative's if there is one.

        Raises:
            SnapservError: It cannot be; see `snapserv.archiver.work`.
        """
        relative = self._relative(node)
        if relative is None:
            return await self._bring(node, None)
        async with Turn(shared=[self._nodes.queue(relative)]):  # nobody is before: it is not dropped meanwhile
            try:
                return await self._bring(node, relative)
            except NodeDiedError:
                log.warning("relative_died", node=node.path, relative=relative.path)
        return await self._bring(node, None)

    async def _bring(self, node: Node, relative: Node | None) -> CellProcess:
        nodes, saved, coming = self._nodes, self._saved(node), object()
        beside = None if relative is None else nodes.cell(relative)
        was = None if relative is None else self._saved(relative).image
        files, stacks = self._saving.files_of(node.tree), self._stacks_of(saved)
        if stacks is None and saved.folders is not None:
            stacks = self._stacks[saved.folders["store"]] = bringing.new_stacks(nodes.processes, saved.folders)
        folders = None if stacks is None else stacks.bringing(coming, list(saved.layers))
        locks = {"tmp": files.present()} if files is not None else {}
        if stacks is not None:
            locks |= stacks.locks
        try:
            answer, descriptors = await self._saving.reader.ask(
                "script", image=saved.image, was=was, locks=locks, folders=folders
            )
            (script,) = descriptors
            if answer["renumbered"]:
                log.warning("other_inode_numbers", node=node.path, files=answer["renumbered"])
            cell = await bringing.revive(
                nodes.processes, script, answer["above"], heads.explain(node, answer["told"]), beside
            )
            if stacks is not None:
                cell.stacks = stacks
                stacks.brought(cell, coming, numbered=answer["numbered"])
        finally:
            if stacks is not None:
                stacks.release(coming)
        cell.has_on_drop = bool(nodes.plan(node).described["has_on_drop"])
        if files is not None:
            cell.temporaries = files
            files.hold(cell)
        nodes.brought(node, cell)
        return cell

    def _stacks_of(self, saved: Saved) -> Stacks | None:
        """Return the layers of all whose folders came from where a node's did; None before the first."""
        if saved.folders is None:
            return None
        found = self._stacks.get(saved.folders["store"])
        return None if found is None or found.is_over else found

    def _relative(self, node: Node) -> Node | None:
        """Return a snapshot of the same tree that has a process, lasts, and is not being changed: a near one."""
        nodes, saved = self._nodes, self._saved(node)
        ancestors = nodes.forest.ancestors(node, RELATIVES_LOOKED_AT)[-2::-1]
        kin = [nodes.forest.nodes[child] for each in ancestors[:1] for child in list(each.children)]
        recent = [nodes.forest.nodes[number] for number in nodes.traffic.recent if number in nodes.forest.nodes]
        root = [nodes.forest.nodes[node.tree.root]] if node.tree.root in nodes.forest.nodes else []
        stacks = self._stacks_of(saved)
        if saved.folders is not None and (stacks is None or saved.folders["user_namespace"]):
            return None  # from a user namespace, what this server has open cannot be opened
        for each in (*ancestors, *kin[:RELATIVES_LOOKED_AT], *reversed(recent), *root):
            alive = each.id in nodes.stored.durable and each.id not in nodes.stored.away and each.death is None
            cell = nodes.cell_of(each)
            if each is node or each.tree is not node.tree or not alive or cell is None or cell.stacks is not stacks:
                continue
            if nodes.queue(each).shareable:
                return each
        return None

    def _saved(self, node: Node) -> Saved:
        saved = self._saving.saved(node)
        if saved is None:
            raise NotFoundError(f"{node.path} was dropped")
        return saved
