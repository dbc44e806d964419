"""Kills at random what a cluster is made of, while it is used: ``python -m tests.cluster.chaos --seconds 180``.

Servers, hosts, cells and the registry are killed, machines go and come. What is acknowledged as lasting must be
there at the end, byte for byte; a tick must be done once; a child must come to what it came to before; and nothing
is left.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster as Machines
from snapserv_client.cluster import Cluster
from snapserv_client.errors import NodeDiedError, SnapservError, StepsLostError

from .conftest import NODE, WALK, alive, kill

MACHINES = 3
CHILDREN = 16
EVERY_S = 8.0
FAULTS = ("server", "actor", "both", "cell", "registry", "machine")


class Chaos:
    """One run.

    Args:
        seed: What is killed when follows from it, as far as the machine is as quick.
        store: Where snapshots last.
    """

    def __init__(self, seed: int, store: Path) -> None:
        self.chance = random.Random(seed)
        self.count: Counter[str] = Counter()
        self.machines = Machines(initialize_head=True, head_node_args={**NODE, "num_cpus": 0})
        ray.init(address=self.machines.address, log_to_driver=False, logging_level="error")
        self.nodes = [self._machine() for _ in range(MACHINES)]
        self.machines.wait_for_nodes()
        self.cluster = Cluster(WALK, resources={"host": 1}, store=str(store), params={"cols": 200})
        self.durable: dict[str, str] = {}
        self.expected: list[Any] = []
        self.pids: set[int] = set()

    def run(self, seconds: float) -> dict[str, int]:
        """Use the cluster and kill what it is made of; return what was counted."""
        base = self.cluster.branch("main").snapshot("base")
        base.save()
        self._keep("base", base)
        self.expected = self._children()
        until, due = time.monotonic() + seconds, time.monotonic() + EVERY_S
        while time.monotonic() < until:
            if time.monotonic() > due:
                self._hurt()
                due = time.monotonic() + EVERY_S
            try:
                self._use()
            except StepsLostError as lost:
                self.count["branches that came back"] += 1
                self.count["steps missing, and said"] += int(str(lost.details["missing"]))
            except NodeDiedError:
                self.count["cells revived"] += 1
                with contextlib.suppress(SnapservError):
                    self.cluster.branch("main").restore("base")
            except SnapservError as error:
                self.count[f"refused: {error.code}"] += 1
                time.sleep(0.5)
        for name, digest in self.durable.items():
            self._check(name, digest)
        self.count["durable"] = len(self.durable)
        self._note()
        return dict(self.count)

    def end(self) -> int:
        """End it; return how many processes are left."""
        self.cluster.close()
        ray.shutdown()
        self.machines.shutdown()
        until = time.monotonic() + 60
        while (left := sum(map(alive, self.pids))) and time.monotonic() < until:
            time.sleep(0.5)
        return left

    def _use(self) -> None:
        self._note()
        main = self.cluster.branch("main")
        main.step(self.chance.randint(1, 5))
        info, ticks = main.info(), int(main.read("count"))
        if info.step != ticks:
            self.count["steps applied twice"] += 1
        if self.chance.random() < 0.5:
            name = f"d{len(self.durable)}-{self.chance.randrange(1 << 30)}"
            taken = main.snapshot(name)
            taken.save()
            self._keep(name, taken)
        if self.chance.random() < 0.3:
            if self._children() != self.expected:
                self.count["children that came to something else"] += 1
            self.count["children"] += CHILDREN
        if self.chance.random() < 0.2:
            name, digest = self.chance.choice(list(self.durable.items()))
            self._check(name, digest)

    def _children(self) -> list[Any]:
        outcomes = self.cluster.snapshot("base").expand(
            [{}] * CHILDREN, steps=3, seeds=range(CHILDREN), spread=True
        )
        if [each.index for each in outcomes] != list(range(CHILDREN)):
            self.count["children missing"] += 1
        return [each["mean"] if each.ok else self._failed(each) for each in outcomes]

    def _failed(self, outcome: Any) -> None:
        self.count[f"child: {outcome.error.code}"] += 1

    def _keep(self, name: str, snapshot: Any) -> None:
        self.durable[name] = hashlib.sha256(snapshot.read("position").tobytes()).hexdigest()

    def _check(self, name: str, digest: str) -> None:
        for _ in range(20):
            try:
                found = self.cluster.snapshot(name).read("position")
            except SnapservError as error:
                why = error
                time.sleep(1.0)
                continue
            if hashlib.sha256(found.tobytes()).hexdigest() != digest:
                self.count["wrong bytes"] += 1
            return
        print(f"lost: {name}: {why}", flush=True)
        self.count["durable nodes lost"] += 1

    def _note(self) -> None:
        for host in self.cluster.hosts.values():
            self.pids |= {host.pid, host.actor}

    def _hurt(self) -> None:
        what = self.chance.choice(FAULTS)
        self.count[f"killed: {what}"] += 1
        hosts = list(self.cluster.hosts.values())
        victim = self.chance.choice(hosts) if hosts else None
        if what == "registry":
            ray.kill(self.cluster._member.registry, no_restart=False)
        elif what == "machine":
            node = self.nodes.pop(self.chance.randrange(len(self.nodes)))
            self.machines.remove_node(node, allow_graceful=False)
            self.nodes.append(self._machine())
        elif what == "cell":
            with contextlib.suppress(SnapservError):
                pids = [node.pid for node in self.cluster.tree() if node.pid and node.name == "main"]
                for pid in pids:
                    kill(pid)
        elif victim is not None:
            for pid in {"server": [victim.pid], "actor": [victim.actor]}.get(what, [victim.pid, victim.actor]):
                kill(pid)

    def _machine(self) -> Any:
        return self.machines.add_node(**NODE, resources={"host": 1})


BAD = (
    "durable nodes lost",
    "wrong bytes",
    "steps applied twice",
    "children missing",
    "children that came to something else",
    "processes left",
)


def main() -> None:
    """Run it, print what was counted, and fail where something is as it must not be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--seed", type=int, default=1)
    said = parser.parse_args()
    os.environ["RAY_health_check_period_ms"] = "500"  # noqa: SIM112 - Ray writes it so
    with tempfile.TemporaryDirectory() as folder:
        chaos = Chaos(said.seed, Path(folder) / "store")
        try:
            counted = chaos.run(said.seconds)
        finally:
            left = chaos.end()
    counted["processes left"] = left
    print(json.dumps({name: counted.get(name, 0) for name in [*BAD, *sorted(counted)]}, indent=1))
    if any(counted.get(name) for name in BAD):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
