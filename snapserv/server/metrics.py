"""Metrics for Prometheus: what they are called, and the page where they are read.

A thread of its own answers, one reader after another: the server never forks, so it may have threads. What the loop
is asked for is a copy of its counts, which are kept anyway; the page is made of it here. So neither many nodes
nor a slow reader hold the loop up.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import platform
import resource
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import structlog
from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from snapserv_client.protocol import PROTOCOL_VERSION, MemoryStats

import snapserv

from ..errors import AddressError, BadRequestError
from ..machine import descriptors
from ..nodes.histograms import BOUNDS_S, DurationHistogram
from ..nodes.states import count_states
from ..nodes.tree import Kind, State
from ..outside import accounting
from .service import Service

log = structlog.get_logger(__name__)

LOOPBACK = "127.0.0.1"
LOOP_ANSWERS_WITHIN_S = 5.0
READER_WITHIN_S = 2.0
"""For each word of it; the end of the server waits for it too."""
CLOSING_LOOK_EVERY_S = 0.1
STATES: tuple[State, ...] = ("idle", "busy", "dead", "faulted", "stored")
KINDS: tuple[Kind, ...] = ("snapshot", "branch")


class MetricsPage:
    """A page over HTTP that Prometheus can read; ``url`` says where.

    Args:
        take: Copies the counts of this moment; it is called in the loop that runs now.
        address: HOST:PORT. Without a host it is on loopback; port 0 takes any that is free.

    Raises:
        BadRequestError: ``address`` is none.
        AddressError: Nothing can listen there.
    """

    def __init__(self, take: Callable[[], Sample], address: str) -> None:
        host, port = _parse(address)
        registry = CollectorRegistry()
        registry.register(ServerMetrics(take))
        try:
            self._page = _Page(host, port)
        except OSError as cause:
            raise AddressError(
                f"cannot listen for readers of metrics on {address}: {cause.strerror}",
                hint="choose another address or port with --metrics",
                details={"address": address},
            ) from cause
        self._page.set_app(make_wsgi_app(registry))
        name = f"[{host}]" if ":" in host else host
        self.url = f"http://{name}:{self._page.server_port}/metrics"
        if not _is_loopback(host):
            log.warning("metrics_beyond_loopback", url=self.url, risk="whoever reaches it can read them")
        self._thread = threading.Thread(
            target=self._page.serve_forever, args=(CLOSING_LOOK_EVERY_S,), name="snapserv-metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Answer nobody any more; outside of the loop, which somebody who is being answered may wait for."""
        self._page.shutdown()
        self._page.server_close()


@dataclass(frozen=True)
class Sample:
    """The counts of one moment; see `ServerMetrics` for what they mean."""

    uptime_s: float
    answered: Mapping[tuple[str, str], tuple[list[int], float]]
    refused: Mapping[str, int]
    forks: tuple[list[int], float]
    deaths: Mapping[str, int]
    nodes: Mapping[tuple[Kind, State], int]
    trees: int
    steps: int
    in_flight: int
    longest_queue: int
    clients: int
    memory: MemoryStats


def take_sample(service: Service) -> Sample:
    """Copy the counts of a server; in its loop."""
    nodes, counts = service.nodes, service.counts
    return Sample(
        uptime_s=service.uptime_s,
        answered={key: _copy(durations) for key, durations in counts.durations.items()},
        refused=dict(counts.refused),
        forks=_copy(nodes.counters.fork_durations),
        deaths=dict(nodes.counters.deaths),
        nodes=count_states(nodes),
        trees=len(nodes.forest.trees),
        steps=nodes.counters.steps,
        in_flight=len(service.calls),
        longest_queue=nodes.traffic.longest,
        clients=service.connected(),
        memory=service.budget.statistics(),
    )


class ServerMetrics(Collector):
    """Collects the metrics of a server when they are read, in whatever thread reads them."""

    def __init__(self, take: Callable[[], Sample]) -> None:
        self._take = take
        self._loop = asyncio.get_running_loop()

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics, of one moment.

        Raises:
            TimeoutError: The loop has no time for it; the reader gets the status 500.
        """
        sample = asyncio.run_coroutine_threadsafe(self._sample(), self._loop).result(LOOP_ANSWERS_WITHIN_S)
        yield from _families(sample)
        yield from _of_process()

    async def _sample(self) -> Sample:
        return self._take()


def _families(sample: Sample) -> Iterator[Metric]:
    build = {
        "version": snapserv.__version__,
        "protocol": str(PROTOCOL_VERSION),
        "python": platform.python_version(),
    }
    yield InfoMetricFamily("snapserv_build", "What runs here.", build)
    yield GaugeMetricFamily("snapserv_uptime_seconds", "Since the server started.", sample.uptime_s)

    requests = HistogramMetricFamily(
        "snapserv_request_duration_seconds",
        "From when a request was begun until its reply was sent, by verb and outcome: ok, or the error's code.",
        labels=("verb", "code"),
    )
    for labels, (buckets, total_s) in sorted(sample.answered.items()):
        requests.add_metric(labels, _cumulated(buckets), total_s)
    yield requests
    yield _counts("snapserv_requests_refused", "Messages that were no request to begin.", "code", sample.refused)
    yield GaugeMetricFamily("snapserv_requests_in_flight", "Requests that run or wait.", sample.in_flight)
    yield GaugeMetricFamily(
        "snapserv_longest_lane_requests", "Requests at the node that has most of them.", sample.longest_queue
    )
    yield GaugeMetricFamily("snapserv_clients", "Clients that are connected.", sample.clients)

    nodes = GaugeMetricFamily("snapserv_nodes", "Nodes by kind and state.", labels=("kind", "state"))
    for kind in KINDS:
        for state in STATES:
            nodes.add_metric((kind, state), sample.nodes.get((kind, state), 0))
    yield nodes
    yield GaugeMetricFamily("snapserv_trees", "Trees.", sample.trees)
    yield CounterMetricFamily("snapserv_steps", "Ticks that were completed.", sample.steps)
    memory = sample.memory
    yield GaugeMetricFamily("snapserv_memory_limit_bytes", "The budget of memory.", memory.limit_bytes)
    charged = GaugeMetricFamily(
        "snapserv_memory_charged_bytes", "What nodes hold of it for themselves, and base images.", labels=("what",)
    )
    for what in ("base", "master", "snapshot", "branch", "other"):
        charged.add_metric((what,), getattr(memory, f"{what}_bytes"))
    yield charged
    yield CounterMetricFamily("snapserv_evictions", "Snapshots dropped over the budget.", memory.evictions)
    yield CounterMetricFamily("snapserv_runaways_stopped", "Processes ended as they grew over it.", memory.stopped)
    forks = HistogramMetricFamily(
        "snapserv_fork_duration_seconds", "The clone of a process, without what goes on around it.", labels=()
    )
    forks.add_metric((), _cumulated(sample.forks[0]), sample.forks[1])
    yield forks
    yield _counts(
        "snapserv_node_deaths", "Nodes whose process ended unasked; none: by no signal.", "signal", sample.deaths
    )


def _of_process() -> Iterator[Metric]:
    """Yield what Prometheus' own libraries tell of every process, under the names that they have there.

    prometheus-client's collector of these lists all descriptors, and there is one for each snapshot.
    """
    resident_bytes = accounting.resident_bytes(os.getpid())
    yield GaugeMetricFamily("process_resident_memory_bytes", "Resident memory of the server.", resident_bytes)
    yield GaugeMetricFamily("process_open_fds", "Descriptors of the server.", descriptors.count_open())
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield GaugeMetricFamily("process_max_fds", "How many descriptors it may have.", most)
    yield CounterMetricFamily("process_cpu_seconds", "Processor time of the server.", time.process_time())


def _counts(name: str, text: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=(label,))
    for value, count in sorted(counts.items()):
        family.add_metric((value,), count)
    return family


def _copy(durations: DurationHistogram) -> tuple[list[int], float]:
    return list(durations.buckets), durations.total_s


def _cumulated(buckets: list[int]) -> list[tuple[str, float]]:
    """Return buckets as Prometheus has them: each counts all that is no longer than its bound."""
    bounds = [*(f"{bound:g}" for bound in BOUNDS_S), "+Inf"]
    total, cumulated = 0, []
    for bound, count in zip(bounds, buckets, strict=True):
        total += count
        cumulated.append((bound, float(total)))
    return cumulated


class _Page(WSGIServer):
    """Serves one reader at a time, so that any number of them cost one thread."""

    def __init__(self, host: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Reader)

    def server_bind(self) -> None:
        """Bind, without asking the DNS for the name of this machine, as the base class does."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()


class _Reader(WSGIRequestHandler):
    """Hangs up on a reader that neither asks nor takes."""

    timeout = READER_WITHIN_S

    def log_message(self, format: str, *args: object) -> None:
        """Keep each reading out of the log."""


def _parse(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65_535:
        raise BadRequestError(
            f"--metrics {address!r} names no port", hint="write 127.0.0.1:9464, or :0 for any port on loopback"
        )
    return host.removeprefix("[").removesuffix("]") or LOOPBACK, int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
