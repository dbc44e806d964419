"""What a server has live, written down in its store now and then: for the one that goes on where it stopped."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog

from ..errors import SnapservError
from ..nodes.nodes import Nodes
from ..nodes.tree import Node
from .saving import Saving

log = structlog.get_logger(__name__)

EVERY_S = 2.0
ANYWAY_S = 20.0
"""How often it is written though nothing has changed: servers of other machines know by it that this one runs."""


class SessionRecord:
    """The session of this server in its store.

    Args:
        nodes: The server's nodes.
        saving: Its store.
        endpoint: Where the server listens.
        member: Which host of which cluster it is; see `snapserv_client.store.format.Session`.
    """

    def __init__(self, nodes: Nodes, saving: Saving, endpoint: str, member: str = "") -> None:
        self._nodes = nodes
        self._saving = saving
        self._endpoint = endpoint
        self._member = member
        self._began = time.time()
        self._written: dict[str, Any] | None = None
        self._written_at = 0.0
        self._named: object = None
        self._task: asyncio.Task[None] | None = None
        saving.session_of_save = self._with_save

    def begin(self) -> None:
        """Write it whenever it has changed, from now on."""
        self._task = self._nodes.processes.loop.create_task(self._keep())

    async def close(self) -> None:
        """Write that the server has ended as it should."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self.write(ended=True)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            await self.write()

    def _with_save(self) -> dict[str, Any] | None:
        """Return what there is to say where trees or branches have come since it was said last, or gone.

        How far a branch has come is told by its snapshots: each says which branch it was taken of.
        """
        session = self._now(ended=False)
        return session if self._names(session) != self._named else None

    def _names(self, session: dict[str, Any]) -> object:
        return session["trees"], sorted((live["tree"], live["name"]) for live in session["live"])

    def _now(self, *, ended: bool) -> dict[str, Any]:
        trees = self._trees()
        return {
            "uid": self._saving.session,
            "pid": os.getpid(),
            "started": started(os.getpid()),
            "began": self._began,
            "ended": ended,
            "endpoint": self._endpoint,
            "member": self._member,
            "trees": list(trees),
            "names": list(trees.values()),
            "live": self._live(),
        }

    async def write(self, *, ended: bool = False) -> None:
        """Write it now, if it has changed, or was written long ago."""
        session = self._now(ended=ended)
        is_due = time.monotonic() - self._written_at > ANYWAY_S
        if not session["trees"] or (session == self._written and not is_due):
            return
        try:
            await self._saving.writer.ask("session", session=session)
            self._written, self._written_at = session, time.monotonic()
            self._named = self._names(session)
        except SnapservError as error:
            log.warning("session_not_written", why=error.message)

    def _trees(self) -> dict[str, str]:
        """Return what each tree of which something lasts is called, by its ``uid``; the first one first."""
        trees = sorted(self._nodes.forest.trees.values(), key=lambda tree: not tree.first)
        return {uid: tree.name for tree in trees if (uid := self._saving.uid_of(tree)) is not None}

    def _live(self) -> list[dict[str, Any]]:
        found = []
        for node in self._nodes.forest.nodes.values():
            if node.kind != "branch" or (tree := self._saving.uid_of(node.tree)) is None:
                continue
            found.append(
                {
                    "name": node.name,
                    "tree": tree,
                    "snapshot": self._snapshot(node),
                    "step": self._nodes.look(node),
                    "tags": list(node.tags),
                    "facts": {
                        "autosnap": None if node.autosnap is None else asdict(node.autosnap),
                        "since": node.since,
                    },
                }
            )
        return found

    def _snapshot(self, branch: Node) -> str:
        """Return the ``uid`` of a branch's nearest ancestor that lasts; empty where none does yet."""
        above = map(self._saving.saved, self._nodes.forest.above(branch))
        return next((saved.uid for saved in above if saved is not None), "")


def started(pid: int) -> int:
    """Return when a process began, in clock ticks since boot (proc_pid_stat(5)); -1 where there is none."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return -1
