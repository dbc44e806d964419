"""Finding the first step at which something holds, by going back to ever fewer steps: git bisect for a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from .. import requests
from ..bars import shown
from ..bisection import Bisection, refuse_end
from ..connection import Progress
from ..errors import BadRequestError, NotFoundError
from ..protocol import GotoResult
from ..watching import Until
from .own import settled

if TYPE_CHECKING:
    from .branch import Branch
    from .node import Snapshot
    from .past import Past

Test: TypeAlias = "Until | Callable[[Branch], object]"


async def bisect(
    node: Past,
    good: Snapshot | str | int,
    bad: int | None,
    test: Test | None,
    *,
    progress: Progress | bool | None = None,
) -> Bisection:
    """Do what `Node.bisect` says."""
    if test is None:
        raise BadRequestError("there is nothing to look for", hint='as in bisect(0, 1000, when("served") >= 500)')
    high = (await node.info()).step if bad is None else bad
    low = good if isinstance(good, int) else await _step_of(node, good)
    if low >= high:
        raise BadRequestError(
            f"the good end, step {low:,}, is not before the bad one, step {high:,}", hint="the good end comes first"
        )
    with shown(progress, node.name, 2 + (high - low - 1).bit_length()) as told:
        search = _Search(node, test)
        try:
            found = await search.run(low, high, told.heard)
        finally:
            await search.forget()
        told.ended()
    return found


class _Search:
    """One search. ``kept`` is a snapshot of the latest step at which it did not hold, to begin from."""

    def __init__(self, node: Past, test: Test) -> None:
        self._node = node
        self._test = test
        self._kept: Snapshot | None = None
        self._returns = 0
        self._parted: int | None = None

    async def run(self, low: int, high: int, heard: Progress | None) -> Bisection:
        """Search between two steps."""
        total = 2 + (high - low - 1).bit_length()
        held, way = await self._look(high)
        if not held:
            raise refuse_end("bad", self._node.name, high)
        if (await self._look(low))[0]:
            raise refuse_end("good", self._node.name, low)
        while high - low > 1:
            if heard is not None:
                heard(self._returns, total)
            middle = (low + high) // 2
            held, there = await self._look(middle)
            if held:
                high, way = middle, there
            else:
                low = middle
        action = None if way.action is None else await self._node.action(way.action)
        return Bisection(self._node.name, high, self._returns, way.action, action, self._parted)

    async def _look(self, step: int) -> tuple[bool, GotoResult]:
        """Go to a step; return whether it holds there, and how it was come to."""
        node, until = self._node, self._test if isinstance(self._test, Until) else None
        since = None if self._kept is None else self._kept.id
        way = await node._run(requests.branch_at(node.id, step, None, since=since, tell=True, until=until))
        self._returns += 1
        if way.parted is not None:
            self._parted = way.parted if self._parted is None else min(self._parted, way.parted)
        branch: Branch = node._server._wrap(way.node)
        at: Snapshot | None = None
        held = True
        try:
            if way.ticks:
                at = await branch.snapshot()  # first: the function may step the branch
            held = bool(await settled(way.holds if isinstance(self._test, Until) else self._test(branch)))
        finally:
            await branch.drop(force=True)
            if at is not None and held:
                await at.drop()
        if at is not None and not held:
            await self.forget()
            self._kept = at
        return held, way

    async def forget(self) -> None:
        """Drop the snapshot that was kept to begin from."""
        if self._kept is not None:
            kept, self._kept = self._kept, None
            await kept.drop()


async def _step_of(node: Past, good: Snapshot | str) -> int:
    """Return the step of a snapshot in a node's past.

    Raises:
        NotFoundError: There is no such snapshot in it.
    """
    wanted = good if isinstance(good, str) else good.id
    for each in await node.log():
        if wanted in (each.id, each.name, *each.tags) and each.id != node.id:
            return each.step
    raise NotFoundError(f"{wanted!r} is not in the past of {node.name}", hint="log lists what is")
