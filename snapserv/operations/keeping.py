"""The parts of a server that has a store, and their life together."""

from __future__ import annotations

import asyncio

import structlog

from ..errors import NotFoundError, SnapservError
from ..nodes.nodes import Nodes
from ..nodes.turns import Turn
from .fetching import Fetching
from .loading import Loading
from .recorded import InThread
from .saving import Durable, Saving
from .sessions import SessionRecord

log = structlog.get_logger(__name__)

LAST_WITHIN_S = 30.0
"""For how long a server that ends saves what its branches have done."""


class Keeper:
    """What a server with a store has besides.

    Args:
        nodes: The server's nodes.
        store: The store's folder or URL.
        endpoint: Where the server listens.
        durable: Which snapshots are saved by themselves; see `Saving`.
        bytes_per_s: How fast it is written at most; without a bound for None.
        replay: Whether what was done to nodes stands in for images where these are refused.
        embed: Whether the files that snapshots stand on are written as well.
        in_thread: Runs what takes long without holding up others.
        member: Which host of which cluster the server is; empty for none.
    """

    def __init__(
        self,
        nodes: Nodes,
        store: str,
        endpoint: str,
        *,
        durable: Durable,
        bytes_per_s: float | None,
        replay: bool,
        embed: bool,
        in_thread: InThread,
        member: str = "",
    ) -> None:
        self._nodes = nodes
        self._endpoint = endpoint
        self.saving = Saving(
            nodes,
            store,
            durable=durable,
            bytes_per_s=bytes_per_s,
            replay=replay,
            embed=embed,
            in_thread=in_thread,
        )
        self.fetching = Fetching(nodes, self.saving)
        nodes.stored.fetch = self.fetching.fetch
        self.loading = Loading(nodes, self.saving, in_thread)
        self._session = SessionRecord(nodes, self.saving, endpoint, member)
        self._begun = False

    async def go_on(self, *, must: bool) -> bool:
        """Take up what the last server here had; return whether there was one.

        Raises:
            NotFoundError: There ``must`` have been one.
            SnapservError: It cannot be taken up.
        """
        there = await self.loading.go_on(self._endpoint, replay=self.saving.replay)
        if must and not there:
            raise NotFoundError(
                f"{self.saving.store} says of no server that could be gone on with",
                hint="name a simulation to serve; its snapshots are saved there",
            )
        return there

    async def begin_with(self, stored: str, *, name: str) -> None:
        """Take a tree up with a node of it that is in the store, in the place of a setup.

        Raises:
            SnapservError: It is not there, or cannot be brought back here.
        """
        await self.loading.load(stored, name=name, whole=False, replay=self.saving.replay)

    def begin(self) -> None:
        """Save by itself what is to be saved, from now on."""
        self.saving.begin()
        self._session.begin()
        self._begun = True

    async def close(self) -> None:
        """Save what branches have done since their newest snapshot that lasts, and end."""
        if self._begun and self.saving.durable != "none":
            try:
                async with asyncio.timeout(LAST_WITHIN_S):
                    await self._save_branches()
                    await self.saving.finish()
            except TimeoutError:
                log.warning("not_all_saved", within_s=LAST_WITHIN_S, waiting=self.saving.waiting)
        if self._begun:
            await self._session.close()
        await self.saving.close()

    async def _save_branches(self) -> None:
        nodes = self._nodes
        for branch in [node for node in nodes.forest.nodes.values() if node.kind == "branch"]:
            if branch.death is not None or nodes.queue(branch).busy:
                continue
            async with Turn(nodes.queue(branch)):
                parent = nodes.forest.nodes.get(branch.parent or 0)
                if parent is not None and parent.step == nodes.look(branch) and self.saving.saved(parent):
                    continue
                try:
                    taken, _ = await nodes.take_snapshot(branch, name=None, automatic=True)
                    await self.saving.save(taken, kept=False, replay=self.saving.replay)
                except SnapservError as error:
                    log.warning("branch_not_saved", branch=branch.path, why=error.message)
