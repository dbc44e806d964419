"""Stored nodes: their processes, brought back out of the store when somebody needs them, and their fields."""

from __future__ import annotations

from typing import Any

import numpy as np
import structlog

from ..errors import NodeDiedError, NotFoundError
from ..nodes import bringing
from ..nodes.nodes import Nodes
from ..nodes.process import CellProcess
from ..nodes.stacks import Stacks
from ..nodes.tree import Node
from ..nodes.turns import Turn
from ..outside import fields
from . import heads, relatives
from .heads import Saved
from .saving import Saving

log = structlog.get_logger(__name__)


class Fetching:
    """What has the stored nodes of a server out of its store.

    Args:
        nodes: The server's nodes.
        saving: Its store, and what that has of them.
    """

    def __init__(self, nodes: Nodes, saving: Saving) -> None:
        self._nodes = nodes
        self._saving = saving
        self._stacks: dict[str, Stacks] = {}
        self._from_store: set[str] = set()

    async def fetch(self, node: Node) -> CellProcess:
        """Bring the process of a stored node back, of a relative's if there is one.

        Raises:
            SnapservError: It cannot be; see `snapserv.archiver.work`.
        """
        saved = self._saved(node)
        stacks = self._stacks_of(saved)
        # From a user namespace, what this server has open for it cannot be opened.
        is_alone = saved.folders is not None and (stacks is None or saved.folders["user_namespace"])
        relative = None if is_alone else relatives.to_come_back_beside(self._nodes, node, stacks)
        if relative is None:
            return await self._bring(node, None)
        async with Turn(shared=[self._nodes.queue(relative)]):  # nobody is before: it is not dropped meanwhile
            try:
                return await self._bring(node, relative)
            except NodeDiedError:
                log.warning("relative_died", node=node.path, relative=relative.path)
        return await self._bring(node, None)

    async def read(self, node: Node, field: str, region: Any) -> np.ndarray[Any, Any]:
        """Return a region of a field of a stored node, out of its pages in the store; it stays stored.

        Raises:
            TooLargeError: It is more than a reply may be.
            StoreDamagedError: Pages are missing, or not what was written.
        """
        plan, saved = self._nodes.plan(node), self._saved(node)
        info = next(each for each in plan.spec.fields if each.name == field)
        place = fields.place_of(plan.places, field)
        answer, _ = await self._saving.reader.ask(
            "read",
            image=saved.image,
            name=field,
            address=place.address,
            dtype=info.dtype,
            shape=list(place.shape),
            region=region,
        )
        return np.frombuffer(answer["content"], place.dtype).reshape(answer["shape"])

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
            if fresh := sorted(set(answer["from_store"]) - self._from_store):
                self._from_store.update(fresh)
                log.info("files_from_store", node=node.path, files=fresh)
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

    def _saved(self, node: Node) -> Saved:
        saved = self._saving.saved(node)
        if saved is None:
            raise NotFoundError(f"{node.path} was dropped")
        return saved
