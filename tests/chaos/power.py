"""Power cuts: a server with a store is killed with all its cells while it saves, again and again.

Whatever was acknowledged as saved must be there afterwards, and go on as it would have.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import snapserv_client as sync
from snapserv_client.aio import Server, connect
from snapserv_client.errors import BadRequestError, SnapservError
from snapserv_client.store import open_store

from snapserv.store.verifying import verify

from ..operations.lives import Lives

TREES: dict[str, tuple[str, dict[str, Any]]] = {
    "default": ("tests.simulations.walk:Walk", {}),
    "shop": ("simpy:snapserv.examples.machine_shop:Shop", {}),
    "lander": ("gym:LunarLander-v3", {"action": 0}),
    "cart": ("gym:CartPole-v1", {"action": 1}),
    "heap": ("tests.simulations.chance:Heap", {}),
}
"""What is served: each tree's simulation, and the inputs of its ticks.

An arena, processes that are generators, C++, plain Python, and generators beside a file without a name.
"""
TICKS = 3
LOOKED_AT = 8
"""How many of the nodes are gone on with after each cut; all of them at the end."""
SHORTEST_S, LONGEST_S = 0.1, 2.0


@dataclass(frozen=True)
class Promise:
    """A snapshot of which the server has said that it lasts: what it is called, and how it goes on."""

    name: str
    tree: str
    outputs: list[str]


@dataclass
class Account:
    """What came of it.

    Attributes:
        cuts: How often everything was killed.
        saving: In how many of them a save was going on.
        acknowledged: How many snapshots were said to last.
        lost: What was not there afterwards, or was another.
        longest_s: How long the longest start after a cut took.
    """

    cuts: int = 0
    saving: int = 0
    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    longest_s: float = 0.0


class _Work:
    """Clients, one for each tree, that step, take snapshots and have them saved until the power is cut."""

    def __init__(self, endpoint: str, chance: random.Random, numbers: Iterator[int]) -> None:
        self.promises: list[Promise] = []
        self.saving = 0
        self._endpoint, self._chance, self._numbers = endpoint, chance, numbers

    async def fill(self, most: int) -> None:
        """Save so many snapshots."""
        await self._all(lambda: len(self.promises) < most)

    async def go(self, seconds: float, cut: Callable[[], None]) -> bool:
        """Save for some seconds, and then have the power cut; return whether a save was going on."""
        task = asyncio.ensure_future(self._all(lambda: True))
        await asyncio.wait([task], timeout=seconds)
        was_saving = self.saving > 0
        cut()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return was_saving

    async def _all(self, more: Callable[[], bool]) -> None:
        async with asyncio.TaskGroup() as clients:
            for tree in TREES:
                clients.create_task(self._save_some(tree, more))

    async def _save_some(self, tree: str, more: Callable[[], bool]) -> None:
        async with await connect(self._endpoint, timeout_s=10.0) as server:
            while more():
                await self._save_one(server, tree)

    async def _save_one(self, server: Server, tree: str) -> None:
        name, inputs = f"n{next(self._numbers)}", TREES[tree][1]
        branch = await server.branch(_main(tree))
        try:
            await branch.step(self._chance.randrange(1, 4), **inputs)
        except BadRequestError:  # it has come to its end
            await branch.reset()
        snapshot = await branch.snapshot(name)
        other = await snapshot.branch()
        outputs: list[str] = []
        with contextlib.suppress(BadRequestError):  # it comes to its end, and there it ends afterwards too
            while len(outputs) < TICKS:
                outputs.append(repr((await other.step(1, **inputs)).outputs))
        self.saving += 1
        await snapshot.save()
        self.promises.append(Promise(snapshot.name, tree, outputs))
        self.saving -= 1
        await other.drop()


def _main(tree: str) -> str:
    return "main" if tree == "default" else f"{tree}/main"


def _outputs(branch: sync.Branch, inputs: dict[str, Any]) -> list[str]:
    found: list[str] = []
    with contextlib.suppress(BadRequestError):
        while len(found) < TICKS:
            found.append(repr(branch.step(1, **inputs).outputs))
    branch.drop()
    return found


def cut_power(folder: Path, *, cuts: int, snapshots: int, seed: int) -> Account:
    """Kill a server of some simulations again and again while it saves more snapshots.

    Args:
        folder: Where the store and the servers are; a short path.
        cuts: How often.
        snapshots: How many are saved before the first cut.
        seed: Of when, and of what is done meanwhile.
    """
    chance, account, lives = random.Random(seed), Account(), Lives(folder)
    promises: list[Promise] = []
    numbers = iter(range(10**9))
    try:
        for number in range(cuts):
            began = time.monotonic()
            with _begin(lives, first=number == 0) as server:
                account.longest_s = max(account.longest_s, time.monotonic() - began)
                account.lost += _check(server, chance.sample(promises, min(LOOKED_AT, len(promises))))
            assert lives.process is not None
            work = _Work(lives.process.endpoint, chance, numbers)
            if number == 0:
                asyncio.run(work.fill(snapshots))
            account.saving += asyncio.run(work.go(chance.uniform(SHORTEST_S, LONGEST_S), lives.kill_all))
            account.cuts += 1
            promises += work.promises
        with _begin(lives, first=False) as server:
            account.lost += _check(server, promises)
        lives.end()
        account.lost += [str(damage) for damage in verify(open_store(lives.store)).damage]
    finally:
        lives.close()
    account.acknowledged = len(promises)
    return account


def _begin(lives: Lives, *, first: bool) -> sync.Server:
    if not first:
        return lives.begin()
    server = lives.begin(*(target for target, _ in TREES.values()))
    for name, (target, _) in list(TREES.items())[1:]:
        server.create(target.rpartition(":")[2], name)
    for name in TREES:  # so that there is something to go on with, however soon the first cut comes
        server.branch(_main(name)).save(f"{name}-first")
    return server


def _check(server: sync.Server, promises: Iterable[Promise]) -> list[str]:
    lost = []
    for promise in promises:
        try:
            outputs = _outputs(server.snapshot(promise.name).branch(), TREES[promise.tree][1])
        except SnapservError as error:
            lost.append(f"{promise.name}: {error}")
        else:
            lost += [] if outputs == promise.outputs else [f"{promise.name} goes on otherwise"]
    return lost
