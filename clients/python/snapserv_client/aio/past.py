"""A node's past: where it comes of, what was done to it, and going back to any step of that."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, Unpack

from .. import requests
from ..bars import shown
from ..connection import Progress, Waiting
from ..errors import NotFoundError
from ..history import Actions
from ..protocol import Action, NodeInfo, Recording
from ..requests import Request
from ..watching import Until
from .home import Home
from .own import OwnNode

if TYPE_CHECKING:
    from ..bisection import Bisection
    from .branch import Branch
    from .node import Snapshot

T = TypeVar("T")


class Past(OwnNode):
    """What a node knows of how it came to be."""

    _server: Home

    async def info(self) -> NodeInfo:
        """Return what the server knows of it now."""
        self.last = await self._run(requests.info(self.id))
        return self.last

    async def log(self) -> list[NodeInfo]:
        """Return its lineage, from the root to itself."""
        entries = await self._run(requests.lineage(self.id))
        while entries[0].parent is not None:
            earlier = await self._run(requests.lineage(entries[0].id))
            entries = earlier[:-1] + entries
        return entries

    async def actions(self) -> Actions:
        """Return what was done to it since its tree's root, and what it is that it was done to."""
        found: list[Action] = []
        recording: Recording | None = None
        start: int | None = 0
        while start is not None:
            page = await self._run(requests.actions(self.id, start))
            found += page.actions or []
            start, recording = page.next, page.recording
        return Actions(self.name, found, recording)

    async def action(self, number: int) -> Action:
        """Return one of its actions, counted from 0: also each time that one was repeated counts.

        Raises:
            NotFoundError: There are fewer.
        """
        found = await self._run(requests.action(self.id, number))
        if found is None:
            raise NotFoundError(f"{self.name} has no action {number:,}", hint="actions() returns all of them")
        return found

    async def branch_at(
        self, step: int, name: str | None = None, *, progress: Progress | bool | None = None
    ) -> Branch:
        """Make a live branch at a step of this node's past; the node stays as it is. See `Branch.goto`.

        Raises:
            NotFoundError: Its past has no such step.
            RecordingMismatchError: What was done cannot be done again.
        """
        request = requests.branch_at(self.id, step, name, progress=bool(progress))
        with shown(progress, self.name, 1) as told:
            result = await self._run(request, progress=told.heard)
            told.ended()
        made: Branch = self._server._wrap(result.node)
        made._ends = True
        return made

    async def bisect(
        self,
        good: Snapshot | str | int,
        bad: int | None = None,
        test: Until | Callable[[Branch], object] | None = None,
        *,
        progress: Progress | bool | None = None,
    ) -> Bisection:
        """Find the first step of its past at which something holds, in as many returns as halving takes.

        As of ``git bisect``, it must keep holding once it does: else one of the steps is found at which it begins.

        Args:
            good: A step at which it does not hold, or a snapshot in this node's past; 0 is the root.
            bad: A later step at which it holds; where this node stands by default.
            test: What is looked for: ``when("served") >= 500``, told right after each tick; or a function that is
                given a branch at a step, and says whether it is so there.
            progress: Called with returns done and wanted, now and then; True shows a bar, in a notebook as well.

        Raises:
            BadRequestError: It holds at the good end already, or does not at the bad one; ``details["end"]`` says
                which.
            NotFoundError: Its past has no such step, or no such snapshot.
            RecordingMismatchError: What was done cannot be done again.
        """
        from .bisecting import bisect

        return await bisect(self, good, bad, test, progress=progress)

    async def _run(self, request: Request[T], **waiting: Unpack[Waiting]) -> T:
        return await self._server._run(request, **waiting)
