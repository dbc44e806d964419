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
from snapserv_client.errors import SnapservError
from snapserv_client.store import open_store

from snapserv.store.verifying import verify

from ..operations.lives import Lives

TREES: dict[str, tuple[str, dict[str, Any]]] = {
    "default": ("tests.simulations.walk:Walk", {}),
    "shop": ("simpy:snapserv.examples.machine_shop:Shop", {}),
    "lander": ("gym:LunarLander-v3", {"action": 0}),
}
"""What is served: each tree's simulation, and the inputs of its ticks."""
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
    """A client that steps, takes snapshots and has them saved until the power is cut."""

    def __init__(self, endpoint: str, chance: random.Random, most: int, numbers: Iterator[int]) -> None:
        self.promises: list[Promise] = []
        self.saving = False
        self._endpoint, self._chance, self._most, self._numbers = endpoint, chance, most, numbers

    async def go(self, seconds: float, cut: Callable[[], None]) -> None:
        """Do so for some seconds, and then have the power cut."""
        task = asyncio.ensure_future(self._save_some())
        await asyncio.wait([task], timeout=seconds)
        cut()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, SnapservError):
            await task

    async def _save_some(self) -> None:
        async with await connect(self._endpoint, timeout_s=10.0) as server:
            while len(self.promises) < self._most:
                await self._save_one(server)

    async def _save_one(self, server: Server) -> None:
        tree = self._chance.choice(sorted(TREES))
        name, inputs = f"n{next(self._numbers)}", TREES[tree][1]
        branch = await server.branch("main" if tree == "default" else f"{tree}/main")
        await branch.step(self._chance.randrange(1, 4), **inputs)
        snapshot = await branch.snapshot(name)
        other = await snapshot.branch()
        outputs = [repr((await other.step(1, **inputs)).outputs) for _ in range(TICKS)]
        self.saving = True
        await snapshot.save()
        self.promises.append(Promise(snapshot.name, tree, outputs))
        self.saving = False
        await other.drop()


def _outputs(branch: sync.Branch, inputs: dict[str, Any]) -> list[str]:
    found = [repr(branch.step(1, **inputs).outputs) for _ in range(TICKS)]
    branch.drop()
    return found


def cut_power(folder: Path, *, cuts: int, snapshots: int, seed: int) -> Account:
    """Kill a server of some simulations again and again while it saves snapshots.

    Args:
        folder: Where the store and the servers are; a short path.
        cuts: How often.
        snapshots: How many are saved in all, where there is time before the cuts.
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
            work = _Work(lives.process.endpoint, chance, -(-snapshots // cuts), numbers)
            asyncio.run(work.go(chance.uniform(SHORTEST_S, LONGEST_S), lives.kill_all))
            account.saving += work.saving
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
        server.branch("main" if name == "default" else f"{name}/main").save(f"{name}-first")
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
