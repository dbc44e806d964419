"""A cluster of one host and of two, each on a core of its own, beside one plain server; and what Ray alone costs.

Run it: ``python -m benchmarks.cluster [--quick]``; it needs Ray, and writes ``benchmarks/results/cluster.json``.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from snapserv_client import local
from snapserv_client.cluster import Cluster

from .figures import RESULTS
from .tables import Check, checked, table

CHILDREN = 2000
TICKS = 50
LANDER = "gym:LunarLander-v3"
NODE = {"num_cpus": 1, "object_store_memory": 100_000_000, "include_dashboard": False}


def measure(children: int) -> dict[str, Any]:
    """Return seconds of an expansion by each, of moving a snapshot, and of Ray's own tasks and actors."""
    import ray
    from ray.cluster_utils import Cluster as Machines

    inputs: Any = [{"action": number % 4} for number in range(children)]
    with pinned(0), local(LANDER) as server:
        main = server.branch("main")
        main.call("reset", seed=1)
        snapshot = main.snapshot()
        snapshot.expand(inputs[:64], steps=TICKS)
        plain_s = timed(lambda: snapshot.expand(inputs, steps=TICKS))
    with pinned(0):
        machines = Machines(initialize_head=True, head_node_args={**NODE, "num_cpus": 0})
        ray.init(address=machines.address, log_to_driver=False, logging_level="error")
    found: dict[str, Any] = {"children": children, "plain server, s": plain_s}
    try:
        for number in (1, 2):
            with pinned(number - 1):
                machines.add_node(**NODE, resources={"host": 1})
            machines.wait_for_nodes()
            with Cluster(LANDER, hosts=number, resources={"host": 1}) as cluster:
                while len(cluster.hosts) < number:
                    time.sleep(0.1)
                branch = cluster.branch("main")
                branch.call("reset", seed=1)
                before = branch.snapshot()
                before.expand(inputs[: 64 * number], steps=TICKS, spread=True)
                play = functools.partial(before.expand, inputs, steps=TICKS, spread=True)
                found[f"{number} hosts, s"] = timed(play)
                if number == 2:
                    found |= moving(cluster)
                    found["registry's request, ms"] = 1000 * middle(functools.partial(cluster._find, "main"), 50)
                    found["step, ms"] = 1000 * middle(functools.partial(branch.step, action=0), 50)
        found |= of_ray(ray)
    finally:
        ray.shutdown()
        machines.shutdown()
    return found


def moving(cluster: Cluster) -> dict[str, float]:
    """Return how long it takes until a snapshot of one host has a branch on the other."""
    main = cluster.branch("main")
    (there,) = [number for number in cluster.hosts if number != main._server.number]
    target = cluster._server(there)
    taken = []
    for _ in range(7):
        main.step(action=1)
        snapshot = main.snapshot()
        began = time.perf_counter()
        branch = snapshot._on(target).branch()
        taken.append(time.perf_counter() - began)
        branch.drop()
    return {"first snapshot there, ms": 1000 * taken[0], "next one, ms": 1000 * statistics.median(taken[1:])}


def of_ray(ray: Any) -> dict[str, float]:
    """Return what Ray takes for a task that makes and plays an environment, and for an actor that has one."""

    @ray.remote(num_cpus=1)
    def play(action: int) -> None:
        import gymnasium

        env = gymnasium.make("LunarLander-v3")
        env.reset(seed=1)
        for _ in range(TICKS):
            env.step(action)

    @ray.remote(num_cpus=0)
    class Environment:
        def __init__(self) -> None:
            import gymnasium

            self.env = gymnasium.make("LunarLander-v3")
            self.env.reset(seed=1)

        def step(self) -> None:
            self.env.step(0)

    ray.get([play.remote(0) for _ in range(4)])
    tasks_s = timed(lambda: ray.get([play.remote(number % 4) for number in range(40)])) / 40

    def actor() -> None:
        made = Environment.remote()
        ray.get(made.step.remote())
        ray.kill(made)

    return {"Ray task a child, ms": 1000 * tasks_s, "Ray actor a branch, ms": 1000 * middle(actor, 3)}


def goals(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each goal, and whether it is met."""
    checks: list[Check] = [
        ("one host over a plain server", found["1 hosts, s"] / found["plain server, s"], "≤", 1.15),
        ("one host over two", found["1 hosts, s"] / found["2 hosts, s"], "≥", 1.8),
        ("a snapshot there whose base is, ms", found["next one, ms"], "≤", 100.0),
        ("a snapshot there whose base is not, ms", found["first snapshot there, ms"], "≤", 1000.0),
    ]
    return checked(checks)


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Have what is started within run on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(before)[core % len(before)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def timed(work: Callable[[], object]) -> float:
    """Return how many seconds something takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def middle(work: Callable[[], object], times: int) -> float:
    """Return the median of how many seconds something takes."""
    return statistics.median(timed(work) for _ in range(times))


def main() -> None:
    """Measure, print and write it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer children: a check that it runs")
    found = measure(200 if parser.parse_args().quick else CHILDREN)
    console = Console()
    console.print(table("Clusters", [{"what": name, "measured": float(value)} for name, value in found.items()]))
    console.print(table("Goals", goals(found)))
    (RESULTS.parent / "cluster.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
