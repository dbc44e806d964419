"""``snapserv top``: rates between two looks, and a terminal that is left as it was found."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from snapserv_client import Server
from snapserv_client.activity import between
from snapserv_client.errors import NotFoundError
from snapserv_client.protocol import NodeInfo, StatsResult, VerbStats

from ..conftest import END_WITHIN_S, ROOT, START_WITHIN_S, ServerProcess

Serve = Callable[..., ServerProcess]
TERMINAL = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "50"}
TOP = (sys.executable, "-m", "snapserv", "top")


def stats(**given: Any) -> StatsResult:
    """Return the counters of a server that has done nothing, but for what is given."""
    none: dict[str, Any] = {
        **dict.fromkeys(StatsResult.__struct_fields__, 0),
        "uptime_s": 100.0,
        "states": {},
        "deaths": {},
        "verbs": [],
        "bounds_s": [0.001, 0.002, 0.004],
        "active": [],
    }
    return StatsResult(**{**none, **given})


def node(number: int, step: int) -> NodeInfo:
    return NodeInfo(number, f"b{number}", "default", "branch", "idle", None, step, 0.0)


def test_rates_are_what_was_counted_in_between_and_not_before() -> None:
    before = stats(requests=1000, steps=50, forks=7, errors=2, verbs=[VerbStats("step", 10, 1, 1.0, [10])])
    after = stats(
        uptime_s=102.0,
        requests=1200,
        steps=250,
        forks=8,
        errors=2,
        verbs=[VerbStats("step", 20, 3, 1.1, [10, 0, 9, 1]), VerbStats("read", 4, 0, 0.1, [4])],
    )
    found = between(before, after, 2.0)
    assert (found.requests_per_s, found.steps_per_s, found.forks_per_s, found.errors_per_s) == (100, 100, 0.5, 0)
    assert not found.restarted
    step, read = found.verbs
    assert (step.verb, step.per_s, step.errors_per_s) == ("step", 5.0, 1.0)
    assert 2.0 < step.p50_ms <= 4.0
    assert step.p99_ms == 4.0, "of what is longer than all bounds only that is known"
    assert (read.verb, read.per_s) == ("read", 2.0)


def test_verbs_that_nobody_asked_for_in_between_are_left_out() -> None:
    verbs = [VerbStats("step", 10, 0, 1.0, [10])]
    assert between(stats(verbs=verbs), stats(uptime_s=101.0, verbs=verbs), 1.0).verbs == []


def test_steps_a_second_are_known_of_nodes_that_were_seen_before() -> None:
    before = stats(active=[node(1, 100), node(2, 90)])
    after = stats(uptime_s=102.0, active=[node(3, 5), node(1, 300), node(2, 10)])
    found = [(each.name, each.steps_per_s) for each in between(before, after, 2.0).nodes]
    assert found == [("b3", None), ("b1", 100.0), ("b2", 0.0)]


def test_a_server_that_was_restarted_has_no_negative_rates() -> None:
    before = stats(requests=1000, steps=500, verbs=[VerbStats("step", 10, 0, 1.0, [10])], active=[node(1, 9)])
    after = stats(uptime_s=0.5, requests=5, verbs=[VerbStats("step", 1, 0, 0.1, [1])], active=[node(1, 9)])
    found = between(before, after, 2.0)
    assert found.restarted
    assert (found.requests_per_s, found.steps_per_s, found.verbs[0].per_s) == (10.0, 0.0, 2.0)


@pytest.fixture
def busy(serve: Serve) -> Iterator[ServerProcess]:
    """A server whose branch ``main`` is stepped again and again."""
    process = serve("tests.simulations.walk:Walk")
    enough = threading.Event()

    def step() -> None:
        with process.connect() as own:
            main = own.branch("main")
            while not enough.is_set():
                main.step(10)

    thread = threading.Thread(target=step)
    thread.start()
    yield process
    enough.set()
    thread.join(20)


def test_one_look_says_what_the_server_does_now(busy: ServerProcess) -> None:
    with busy.connect() as client:
        client.branch("main").snapshot("s")
    told = subprocess.run(
        [*TOP, "--once", "--json", "--interval", "0.5", "-e", busy.endpoint],
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=START_WITHIN_S,
    )
    found = json.loads(told.stdout)
    assert found["steps_per_s"] > 0
    assert found["stats"]["states"].keys() <= {"idle", "busy"}
    (step,) = (verb for verb in found["verbs"] if verb["verb"] == "step")
    assert step["per_s"] > 0
    assert 0 < step["p50_ms"] <= step["p99_ms"]
    (main,) = (node for node in found["nodes"] if node["name"] == "main")
    assert main["steps_per_s"] > 0
    assert found["nodes"][0]["name"] == "main", "the one that is used, before the one that was"


def test_json_is_a_document_a_line_until_it_is_stopped(busy: ServerProcess) -> None:
    process = subprocess.Popen(
        [*TOP, "--json", "--interval", "0.1", "-e", busy.endpoint], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    with process.stdout as lines:
        assert [json.loads(next(lines))["restarted"] for _ in range(3)] == [False] * 3
        process.send_signal(signal.SIGINT)
        assert process.wait(END_WITHIN_S) == 130


@pytest.mark.parametrize(("key", "status"), [(b"q", 0), (b"\x03", 130)])
def test_a_key_leaves_and_the_terminal_is_as_it_was(busy: ServerProcess, key: bytes, status: int) -> None:
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    command = [*TOP, "--interval", "0.2", "-e", busy.endpoint]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env=TERMINAL
    )
    try:
        shown, deadline = b"", time.monotonic() + START_WITHIN_S
        while b"steps/s" not in shown or b"main" not in shown:
            assert time.monotonic() < deadline, shown
            if select.select([ours], [], [], 0.1)[0]:
                shown += os.read(ours, 1 << 16)
        if key == b"\x03":
            process.send_signal(signal.SIGINT)  # what the terminal makes of the key
        else:
            os.write(ours, key)
        while process.poll() is None:
            assert time.monotonic() < deadline, "it does not leave"
            if select.select([ours], [], [], 0.1)[0]:
                os.read(ours, 1 << 16)
        assert process.returncode == status
        assert termios.tcgetattr(theirs) == before
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


def test_stats_say_who_was_used_last_and_never_more_than_a_few(server: Server) -> None:
    root = server.snapshot("root")
    made = [root.branch() for _ in range(20)]
    for each in made:
        each.step()
    active = server.stats().active
    assert [each.id for each in active] == [each.id for each in reversed(made)][: len(active)]
    assert len(active) == 16
    made[0].step(5)
    assert (server.stats().active[0].id, server.stats().active[0].step) == (made[0].id, 6)
    made[0].drop()
    assert made[0].id not in [each.id for each in server.stats().active]


def test_stats_count_requests_by_verb(server: Server) -> None:
    def steps() -> tuple[int, int]:
        found = {each.verb: each for each in server.stats().verbs}
        return (found["step"].count, found["step"].errors) if "step" in found else (0, 0)

    count, errors = steps()
    server.branch("main").step()
    with pytest.raises(NotFoundError):
        server.branch("nobody")
    assert steps() == (count + 1, errors)
    found = {each.verb: each for each in server.stats().verbs}
    assert all(sum(each.buckets) == each.count for each in found.values())
    assert all(len(each.buckets) <= len(server.stats().bounds_s) + 1 for each in found.values())
