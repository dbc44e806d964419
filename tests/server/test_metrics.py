"""Metrics: a page that Prometheus reads, whose counts follow what was done, and which holds nobody up."""

from __future__ import annotations

import bisect
import contextlib
import json
import math
import os
import signal
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from snapserv_client import Server
from snapserv_client.activity import quantile
from snapserv_client.errors import SimulationError, StepInterruptedError
from snapserv_client.wire import MAGIC, pack

from snapserv.nodes.histograms import BOUNDS_S, DurationHistogram
from snapserv.nodes.states import count_states
from snapserv.nodes.tree import Forest, Node

from ..conftest import ServerProcess, assert_settles, start_server

Serve = Callable[..., ServerProcess]


def said(server: ServerProcess, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def url_of(server: ServerProcess) -> str:
    assert_settles(lambda: len(said(server, "serving")), 1)
    return str(said(server, "serving")[0]["metrics"])


class Page:
    """What was read from a server's page."""

    def __init__(self, url: str) -> None:
        with urllib.request.urlopen(url, timeout=10) as answer:
            self.text = answer.read().decode()
        self.families = {family.name: family for family in text_string_to_metric_families(self.text)}

    def samples(self, name: str, **labels: str) -> list[Sample]:
        every = (sample for family in self.families.values() for sample in family.samples)
        return [each for each in every if each.name == name and labels.items() <= each.labels.items()]

    def value(self, name: str, **labels: str) -> float:
        return sum(sample.value for sample in self.samples(name, **labels))


@pytest.fixture
def process(serve: Serve) -> ServerProcess:
    return serve("tests.simulations.trouble:Trouble", options=("--metrics", ":0"))


@pytest.fixture
def url(process: ServerProcess) -> str:
    return url_of(process)


@pytest.fixture
def client(process: ServerProcess) -> Iterator[Server]:
    with process.connect() as server:
        yield server


def test_requests_are_counted_by_verb_and_outcome_with_how_long_they_took(client: Server, url: str) -> None:
    main = client.branch("main")
    for _ in range(5):
        main.step(2)
    with pytest.raises(SimulationError):
        main.step(how="raise", at=11)
    main.clear()
    page = Page(url)
    name = "snapserv_request_duration_seconds"
    assert page.families[name].type == "histogram"
    assert page.value(f"{name}_count", verb="step", code="ok") == 5
    assert page.value(f"{name}_count", verb="step", code="simulation_error") == 1
    assert 0 < page.value(f"{name}_sum", verb="step", code="ok") < 60
    buckets = [each.value for each in page.samples(f"{name}_bucket", verb="step", code="ok")]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 5
    assert page.value("snapserv_steps_total") == 10
    assert page.value("snapserv_clients") == 1


def test_nodes_forks_and_deaths_follow_what_was_done(client: Server, url: str) -> None:
    main = client.branch("main")
    before = Page(url)
    assert before.value("snapserv_nodes", kind="snapshot", state="idle") == 1
    assert before.value("snapserv_nodes", kind="branch", state="idle") == 1
    main.snapshot("s")
    client.snapshot("s").branch(name="doomed")
    client.snapshot("s").branch(name="wrong")
    with pytest.raises(SimulationError):
        client.branch("wrong").call("fail", "raise")
    os.kill(client.node("doomed").info().pid, signal.SIGSEGV)
    assert_settles(lambda: Page(url).value("snapserv_node_deaths_total", signal="SIGSEGV"), 1)
    page = Page(url)
    assert page.value("snapserv_nodes") == 5
    assert page.value("snapserv_nodes", kind="snapshot", state="idle") == 2
    assert page.value("snapserv_nodes", kind="branch", state="idle") == 1
    assert page.value("snapserv_nodes", kind="branch", state="dead") == 1
    assert page.value("snapserv_nodes", kind="branch", state="faulted") == 1
    forks = "snapserv_fork_duration_seconds"
    assert page.value(f"{forks}_count") - before.value(f"{forks}_count") == 3
    assert page.value(f"{forks}_sum") > before.value(f"{forks}_sum")
    client.branch("wrong").restore("s")
    client.node("doomed").drop()
    after = Page(url)
    assert after.value("snapserv_nodes", state="faulted") == after.value("snapserv_nodes", state="dead") == 0
    assert after.value("snapserv_nodes") == 4


def test_what_runs_and_waits_is_seen_while_it_does(process: ServerProcess, client: Server, url: str) -> None:
    main = client.branch("main")

    def step() -> None:
        with process.connect() as own, contextlib.suppress(StepInterruptedError):
            own.branch("main").step(10**12)

    threads = [threading.Thread(target=step) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert_settles(lambda: Page(url).value("snapserv_longest_lane_requests"), 3)
    page = Page(url)
    assert page.value("snapserv_requests_in_flight") == 3
    assert page.value("snapserv_nodes", kind="branch", state="busy") == 1
    assert page.value("snapserv_nodes", kind="branch", state="idle") == 0
    assert_settles(lambda: (main.interrupt(), any(thread.is_alive() for thread in threads))[1], False)
    page = Page(url)
    assert page.value("snapserv_longest_lane_requests") == page.value("snapserv_requests_in_flight") == 0
    assert page.value("snapserv_nodes", kind="branch", state="idle") == 1


def test_the_process_and_the_build_are_described(client: Server, process: ServerProcess, url: str) -> None:
    page = Page(url)
    assert page.value("snapserv_build_info", protocol="1") == 1
    assert 0 < page.value("snapserv_uptime_seconds") < 600
    assert page.value("process_resident_memory_bytes") > 1 << 20
    assert page.value("process_open_fds") > 3
    assert page.value("process_cpu_seconds_total") > 0
    assert page.value("process_max_fds") >= page.value("process_open_fds")


def test_every_metric_has_a_name_and_a_unit_as_prometheus_wants_them(url: str) -> None:
    for name, family in Page(url).families.items():
        assert name.startswith(("snapserv_", "process_"))
        assert family.documentation
        if family.type == "histogram":
            assert name.endswith("_seconds")


def test_messages_that_are_refused_are_counted(process: ServerProcess, url: str) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.LINGER, 0)
    try:
        dealer.connect(process.endpoint)
        for _ in range(3):
            dealer.send_multipart([b"GET / HTTP/1.1"])
        dealer.send_multipart([MAGIC, *pack({"id": 1, "verb": "no such verb", "args": {}})])
        assert dealer.poll(10_000)
    finally:
        dealer.close()
        context.term()
    page = Page(url)
    assert page.value("snapserv_requests_refused_total", code="not_our_protocol") == 3
    assert page.value("snapserv_requests_refused_total", code="bad_request") == 1


def test_a_reader_that_says_nothing_holds_up_neither_the_server_nor_its_end(
    process: ServerProcess, url: str
) -> None:
    host, port = url.removeprefix("http://").removesuffix("/metrics").rsplit(":", 1)
    with socket.create_connection((host, int(port))):
        with process.connect() as client:
            client.branch("main").step(3)
            assert client.branch("main").info().step == 3
        assert process.end() == 0


def test_the_page_is_on_loopback_unless_another_address_is_said(
    process: ServerProcess, url: str, serve: Serve
) -> None:
    assert url.startswith("http://127.0.0.1:")
    assert said(process, "metrics_beyond_loopback") == []
    wide = serve("tests.simulations.walk:Walk", options=("--metrics", "0.0.0.0:0"))
    assert Page(url_of(wide).replace("0.0.0.0", "127.0.0.1")).value("snapserv_nodes") == 2
    assert [line["url"] for line in said(wide, "metrics_beyond_loopback")] == [url_of(wide)]


def test_an_address_that_is_taken_or_none_is_refused(url: str, tmp_path: Path) -> None:
    taken = url.removeprefix("http://").removesuffix("/metrics")
    for address, code in ((taken, "address_unavailable"), ("here", "bad_request"), (":99999", "bad_request")):
        with pytest.raises(AssertionError, match=code):
            start_server(tmp_path, "tests.simulations.walk:Walk", options=("--metrics", address))
    assert [path.name for path in tmp_path.iterdir()] == ["server.log"]


def test_a_thousand_nodes_are_counted_without_being_looked_at() -> None:
    """Only those that are not idle are: their kinds are counted where they come and go."""
    nodes = Crowd(1000)
    assert count_states(nodes) == {("snapshot", "idle"): 990, ("snapshot", "dead"): 10}  # type: ignore[arg-type]
    assert nodes.looked_at == 10


class Crowd:
    """Nodes of a server, of which ten are dead, and one that is dead was dropped."""

    def __init__(self, count: int) -> None:
        self.forest = Forest()
        tree = self.forest.plant("default", "S")
        made = [self.forest.add(tree, "snapshot", None, name=None, step=0, now=0.0) for _ in range(count)]
        self.not_idle = {node.id for node in made[:10]} | {count + 1}
        self.looked_at = 0

    def state(self, node: Node) -> str:
        self.looked_at += 1
        return "dead"


@given(st.lists(st.floats(1e-6, 90.0), min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_a_quantile_is_within_the_bucket_of_the_true_one(lengths: list[float], part: float) -> None:
    durations = DurationHistogram()
    for length in lengths:
        durations.add(length)
    true = sorted(lengths)[math.ceil(part * len(lengths) - 1e-9) - 1]
    told = quantile(BOUNDS_S, durations.buckets, part)
    index = bisect.bisect_left(BOUNDS_S, true)
    assert (BOUNDS_S[index - 1] if index else 0.0) <= told <= BOUNDS_S[index]
    assert durations.count == len(lengths)


def test_a_quantile_of_nothing_is_0_and_of_what_is_too_long_the_last_bound() -> None:
    durations = DurationHistogram()
    assert quantile(BOUNDS_S, durations.buckets, 0.5) == 0.0
    durations.add(1e6)
    assert quantile(BOUNDS_S, durations.buckets, 0.5) == BOUNDS_S[-1]
