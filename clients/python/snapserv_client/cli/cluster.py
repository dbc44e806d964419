"""``cluster``: one tree over many machines, on Ray: begin one, look at it, end it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

from .options import Json, failing, pairs
from .output import counted, show, table
from .parameters import Argument, Option

if TYPE_CHECKING:
    from ..cluster import Cluster

Address = Annotated[str, Option("--address", envvar="RAY_ADDRESS", help="Ray's: HOST:PORT of its head, or auto.")]
ClusterName = Annotated[str, Argument(metavar="NAME", help="What the cluster is called.")]


@contextmanager
def joined(name: str, address: str, *, as_json: bool) -> Iterator[Cluster]:
    """Yield the cluster that is meant."""
    with failing(as_json=as_json):
        from ..cluster import Cluster

        with Cluster.join(name, address=address) as cluster:
            yield cluster


def up(
    target: Annotated[str, Argument(metavar="MODULE:CLASS", help="Or FILE.py:CLASS, gym:ID, …")],
    param: Annotated[list[str] | None, Option("--param", "-p", help="NAME=VALUE for setup.")] = None,
    name: Annotated[str, Option("--name", help="What to call the cluster.")] = "default",
    hosts: Annotated[int | None, Option(min=1, help="On how many machines; all that there are, and come.")] = None,
    store: Annotated[
        str | None, Option("--store", "-s", envvar="SNAPSERV_STORE", help="A folder that machines share, or a URL.")
    ] = None,
    durable: Annotated[
        str, Option(metavar="named|all|none", help="Which snapshots are saved by themselves.")
    ] = "named",
    cpus: Annotated[float, Option(min=0, help="How many processors each host asks of Ray.")] = 1.0,
    address: Address = "auto",
    as_json: Json = False,
) -> None:
    """Have a server on each machine of a cluster of Ray's; it stays until `snapserv cluster down`.

    Examples:
        snapserv cluster up snapserv.examples.wildfire:Wildfire --store /shared/runs
        snapserv cluster up counter.py:Counter --name lab --hosts 4 --store s3://bucket/lab
    """
    with failing(as_json=as_json):
        from ..cluster import Cluster
        from ..cluster.facts import durable_of

        cluster = Cluster(
            target, name=name, hosts=hosts, store=store, address=address, durable=durable_of(durable),
            params=pairs(param or [], "param"), num_cpus=cpus, detached=True,
        )  # fmt: skip
        with cluster:
            _show_hosts(cluster, as_json=as_json)


def status(name: ClusterName = "default", address: Address = "auto", as_json: Json = False) -> None:
    """Say which hosts a cluster has, and how they are doing.

    Examples:
        snapserv cluster status
        snapserv cluster status lab --json
    """
    with joined(name, address, as_json=as_json) as cluster:
        _show_hosts(cluster, as_json=as_json)


def tree(name: ClusterName = "default", address: Address = "auto", as_json: Json = False) -> None:
    """Show all nodes of a cluster as a tree, each with its hosts.

    Examples:
        snapserv cluster tree
        snapserv cluster tree lab
    """
    with joined(name, address, as_json=as_json) as cluster:
        found = cluster.tree()
    said = {"trees": found.trees, "nodes": found.nodes, "hosts": dict(found.hosts)}
    show(said, as_json=as_json, people=lambda: str(found))


def down(name: ClusterName = "default", address: Address = "auto", as_json: Json = False) -> None:
    """End a cluster, when each of its servers has saved what it has.

    Examples:
        snapserv cluster down
        snapserv cluster down lab
    """
    with joined(name, address, as_json=as_json) as cluster:
        hosts, store = len(cluster.hosts), cluster.store
        cluster.shutdown()
    ended = f"ended {counted(hosts, 'host')}; what lasts is in {store}"
    show({"ended": hosts, "store": store}, as_json=as_json, people=lambda: ended)


def _show_hosts(cluster: Cluster, *, as_json: bool) -> None:
    there, stats = cluster.hosts, cluster.host_stats()
    hosts = [(host, stats[host.name]) for host in there.values() if host.name in stats]

    def people() -> Any:
        rows = table(f"cluster {cluster.name}", cluster.endpoint)
        rows.add_row("store", cluster.store)
        for host, seen in hosts:
            nodes = f"{counted(seen.snapshots, 'snapshot')}, {counted(seen.branches, 'branch')}"
            rows.add_row(host.name, f"{host.machine} · {host.endpoint} · {nodes}, {seen.steps:,} steps")
        return rows

    said = {
        "cluster": cluster.name,
        "endpoint": cluster.endpoint,
        "store": cluster.store,
        "hosts": [
            {
                "host": host.name,
                "machine": host.machine,
                "endpoint": host.endpoint,
                "cores": host.cores,
                "snapshots": seen.snapshots,
                "branches": seen.branches,
                "steps": seen.steps,
            }
            for host, seen in hosts
        ],
    }
    show(said, as_json=as_json, people=people)
