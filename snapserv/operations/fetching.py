"""Processes of stored nodes, brought back out of the store when somebody needs them."""

from __future__ import annotations

import structlog

from ..errors import NodeDiedError, NotFoundError
from ..nodes import bringing
from ..nodes.nodes import Nodes
from ..nodes.process import CellProcess
from ..nodes.tree import Node
from ..nodes.turns import Turn
from . import heads
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
        nodes = self._nodes
        beside = None if relative is None else nodes.cell(relative)
        was = None if relative is None else self._image(relative)
        files = self._saving.files_of(node.tree)
        lock = None if files is None else files.lock
        answer, descriptors = await self._saving.reader.ask("script", image=self._image(node), was=was, lock=lock)
        (script,) = descriptors
        cell = await bringing.revive(
            nodes.processes, script, answer["above"], heads.explain(node, answer["told"]), beside
        )
        cell.has_on_drop = bool(nodes.plan(node).described["has_on_drop"])
        if files is not None:
            cell.temporaries = files
            files.hold(cell)
        nodes.brought(node, cell)
        return cell

    def _relative(self, node: Node) -> Node | None:
        """Return a snapshot of the same tree that has a process, lasts, and is not being changed: a near one."""
        nodes = self._nodes
        ancestors = nodes.forest.ancestors(node, RELATIVES_LOOKED_AT)[-2::-1]
        kin = [nodes.forest.nodes[child] for each in ancestors[:1] for child in list(each.children)]
        recent = [nodes.forest.nodes[number] for number in nodes.traffic.recent if number in nodes.forest.nodes]
        root = [nodes.forest.nodes[node.tree.root]] if node.tree.root in nodes.forest.nodes else []
        for each in (*ancestors, *kin[:RELATIVES_LOOKED_AT], *reversed(recent), *root):
            alive = each.id in nodes.stored.durable and each.id not in nodes.stored.away and each.death is None
            if each is node or each.tree is not node.tree or not alive or nodes.cell_of(each) is None:
                continue
            if nodes.queue(each).shareable:
                return each
        return None

    def _image(self, node: Node) -> bytes:
        saved = self._saving.saved(node)
        if saved is None:
            raise NotFoundError(f"{node.path} was dropped")
        return saved.image
