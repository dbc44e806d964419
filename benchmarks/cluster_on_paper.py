"""What bounds a cluster of many hosts, on paper: a simulation of one expansion, from what the parts cost.

A client shares a million children out; each host fetches a snapshot from the store, then small shares. Three things
are there once: the client's loop that handles outcomes, the registry, and the store's bandwidth. The rest is there
for each host. Run it: ``python -m benchmarks.cluster_on_paper``.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

HOSTS = (1, 2, 10, 100, 1000)


@dataclass(frozen=True)
class Costs:
    """What the parts cost, in seconds and bytes: assumed, rounded from what was seen on one machine."""

    child_s: float = 0.030
    """A child of 50 ticks on one core."""
    cores: int = 16
    outcome_s: float = 60e-6
    """What the client's loop takes for an outcome."""
    share_s: float = 0.8
    """How long a share takes its host; see `snapserv_client.cluster.shares`."""
    request_s: float = 1e-3
    """What a share costs the client besides: a request with its inputs."""
    registry_s: float = 0.5e-3
    """What the registry takes for a request."""
    registry_requests: int = 2
    """How many requests a host costs it: to be admitted, and to join."""
    image_bytes: float = 6e6
    """What a host reads of the store once: the root of the tree, base image and all."""
    changed_bytes: float = 0.3e6
    """What it reads for the snapshot."""
    store_bytes_per_s: float = 1.25e9
    """What the store gives out to all together: 10 Gbit/s."""
    store_requests: int = 12
    """How many requests a host makes of the store."""


@dataclass(frozen=True)
class Found:
    """How long it took, and how much of that what is there once was busy."""

    hosts: int
    seconds: float
    speedup: float
    client: float
    registry_s: float
    store_s: float
    store_requests: int


def simulate(hosts: int, children: int, costs: Costs) -> Found:
    """Play one expansion, share by share."""
    per_s = costs.cores / costs.child_s
    bytes_each = costs.image_bytes + costs.changed_bytes
    store_s = hosts * bytes_each / costs.store_bytes_per_s
    registry_s = hosts * costs.registry_requests * costs.registry_s
    # Hosts are ready one after the other, as the store gives out what they read.
    ready = [(at * bytes_each / costs.store_bytes_per_s, at) for at in range(hosts)]
    heapq.heapify(ready)
    waiting, client_free, client_busy, end = children, 0.0, 0.0, 0.0
    while waiting:
        now, host = heapq.heappop(ready)
        size = min(waiting, max(costs.cores, int(min(per_s * costs.share_s, -(-waiting // (2 * hosts))))))
        waiting -= size
        began = max(now, client_free)
        client_free = began + costs.request_s + size * costs.outcome_s
        client_busy += client_free - began
        done = max(began + costs.request_s + size / per_s, client_free)
        end = max(end, done)
        heapq.heappush(ready, (done, host))
    alone = children / per_s
    return Found(hosts, end, alone / end, client_busy / end, registry_s, store_s, hosts * costs.store_requests)


def page(children: int = 1_000_000, costs: Costs | None = None) -> str:
    """Return the figures as a table of Markdown."""
    heads = (
        "hosts",
        "seconds",
        "faster than one",
        "client busy",
        "registry, s",
        "store, s",
        "requests of the store",
    )
    lines = [f"| {' | '.join(heads)} |", f"|{' ---: |' * len(heads)}"]
    for hosts in HOSTS:
        found = simulate(hosts, children, costs or Costs())
        cells = (
            f"{found.hosts:,}",
            f"{found.seconds:,.1f}",
            f"{found.speedup:,.1f}",
            f"{found.client:.0%}",
            f"{found.registry_s:.2f}",
            f"{found.store_s:.2f}",
            f"{found.store_requests:,}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(page())
