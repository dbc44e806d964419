"""Fixtures: a cluster of Ray's with several nodes on this machine, and the check that nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ray: Any = pytest.importorskip("ray", reason="clusters need Ray: pip install 'snapserv[ray]'")

from snapserv_client.cluster import Cluster  # noqa: E402 - where there is Ray
from snapserv_client.cluster.facts import HostInfo  # noqa: E402
from snapserv_client.errors import SnapservError  # noqa: E402

WALK = "tests.simulations.walk:Walk"
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
ENDS_WITHIN_S = 60.0
WAITS_S = 60.0


@pytest.fixture(scope="session")
def machines() -> Iterator[Any]:
    """A cluster of Ray's with one node, which is the driver's and hosts nothing; tests add nodes to it."""
    from ray.cluster_utils import Cluster as Machines

    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    os.environ["RAY_health_check_period_ms"] = "500"  # noqa: SIM112 - Ray writes it so
    found = Machines(initialize_head=True, head_node_args={**NODE, "num_cpus": 0})
    ray.init(address=found.address, namespace="tests", log_to_driver=False, logging_level="error")
    yield found
    ray.shutdown()
    found.shutdown()


@pytest.fixture(scope="session")
def two(machines: Any) -> list[Any]:
    """Two machines that stay."""
    nodes = [machines.add_node(**NODE, resources={"stays": 1}) for _ in range(2)]
    machines.wait_for_nodes()
    return nodes


@pytest.fixture
def machine(machines: Any) -> Iterator[Callable[..., Any]]:
    """Add machines, which go at the test's end."""
    added: list[Any] = []

    def add(**resources: float) -> Any:
        node = machines.add_node(**NODE, resources=resources)
        added.append(node)
        machines.wait_for_nodes()
        return node

    yield add
    for node in added:
        with contextlib.suppress(Exception):  # a test has removed it
            machines.remove_node(node)


@pytest.fixture
def start(machine: Callable[..., Any]) -> Iterator[Callable[..., Cluster]]:
    """Start clusters; at the test's end they end, before its machines go, and nothing of them is left."""
    started: list[Cluster] = []
    seen: dict[int, str] = {}

    def begin(*args: Any, **options: Any) -> Cluster:
        cluster = Cluster(*(args or (WALK,)), **options)
        started.append(cluster)
        watch(cluster, seen)
        return cluster

    yield begin
    for cluster in started:
        watch(cluster, seen)
        cluster.close()
        wait_until(lambda: not [pid for pid in seen if alive(pid)], f"processes of {seen} end")
        if cluster._member.settings.own_store:
            assert not Path(cluster.store).exists()


@pytest.fixture(scope="module")
def shared(two: list[Any]) -> Iterator[Cluster]:
    """A cluster of two hosts, whose nodes tests leave to each other."""
    with Cluster(WALK, hosts=2, resources={"stays": 1}) as cluster:
        wait_until(lambda: len(cluster.hosts) == 2, "two hosts")
        yield cluster
    wait_until(lambda: not Path(cluster.store).exists(), "the store goes")


def watch(cluster: Cluster, seen: dict[int, str]) -> None:
    """Take note of the processes of a cluster."""
    for host in cluster.hosts.values():
        seen |= {host.pid: f"server of {host.name}", host.actor: f"actor of {host.name}"}
    with contextlib.suppress(SnapservError):  # it has ended itself
        seen |= {node.pid: f"cell of {node.name}" for node in cluster.tree() if node.pid}


def wait_until(holds: Callable[[], object], what: str, within_s: float = WAITS_S) -> None:
    """Wait until something holds."""
    until = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < until, f"it was not so within {within_s:g} s: {what}"
        time.sleep(0.1)


def kill(pid: int) -> None:
    """End a process at once."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def other(cluster: Cluster, number: int) -> HostInfo:
    """Return a host that is not this one."""
    return next(host for host in cluster.hosts.values() if host.number != number)


def alive(pid: int) -> bool:
    """Return whether there is such a process, and it has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
