"""The log: what a line says of the request behind it, what is said seldom, and that nobody waits for its reader."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zmq
from snapserv_client import connect
from snapserv_client.errors import NodeDiedError, NotFoundError, RequestTimeoutError
from snapserv_client.wire import MAGIC, pack
from structlog.testing import capture_logs

from snapserv.server import logs, throttled_log

from ..conftest import END_WITHIN_S, ROOT, START_WITHIN_S, ServerProcess, assert_settles

Serve = Callable[..., ServerProcess]


def said(server: ServerProcess, event: str) -> list[dict[str, Any]]:
    """Return the lines of a server's log about one event."""
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def test_a_line_names_the_client_the_request_the_verb_and_the_node(serve: Serve) -> None:
    server = serve("tests.simulations.trouble:Trouble", options=("--verbose",))
    with server.connect() as client:
        main = client.branch("main")
        main.step()
        with pytest.raises(NotFoundError):
            client.node("nobody")
        main.snapshot("s")

    def answered() -> set[tuple[str, Any, str]]:
        lines = [*said(server, "request"), *said(server, "slow_request")]
        return {(line["verb"], line.get("node"), line["code"]) for line in lines}

    wanted = {("step", "main", "ok"), ("snapshot", "main", "ok"), ("hello", None, "ok")}
    assert_settles(lambda: wanted <= answered(), True)
    requests = answered()
    assert any(code == "not_found" for _, node, code in requests if node == "nobody")
    lines = [*said(server, "request"), *said(server, "slow_request")]
    (snapshot,) = (line for line in lines if line["verb"] == "snapshot")
    forked = said(server, "forked")[-1]
    for name in ("client", "request", "verb", "node"):
        assert forked[name] == snapshot[name], "what is done for a request says for which"
    assert forked["level"] == "debug"
    (event,) = (line for line in said(server, "event") if line.get("request") == snapshot["request"])
    assert (event["kind"], event["client"]) == ("created", snapshot["client"])


def test_a_death_is_nobodys_request(serve: Serve) -> None:
    """Not that of the one who made the node, long ago, nor that of whoever asks something else just then."""
    server = serve("tests.simulations.trouble:Trouble")
    with server.connect() as client:
        branch = client.branch("main").branch(name="doomed")
        os.kill(branch.info().pid, 9)
        assert_settles(lambda: client.node("doomed").info().state, "dead")
        with pytest.raises(NodeDiedError):
            branch.step()
    assert_settles(lambda: len(said(server, "node_died")), 1)
    (line,) = said(server, "node_died")
    assert (line["node"], line["signal"], line["level"]) == ("doomed", "SIGKILL", "warning")
    assert not {"client", "request", "verb"} & line.keys()


def test_a_slow_request_has_a_line_without_being_asked_for(serve: Serve) -> None:
    server = serve("tests.simulations.trouble:Trouble")
    with server.connect() as client:
        with pytest.raises(RequestTimeoutError, match="ran for too long"):
            client.branch("main").step(10**12, atomic=True, timeout_s=1.5)
        assert_settles(lambda: len(said(server, "slow_request")), 1)
    (line,) = said(server, "slow_request")
    assert (line["verb"], line["node"], line["code"], line["level"]) == ("step", "main", "timeout", "info")
    assert line["elapsed_s"] > 1.5
    assert said(server, "request") == []


def test_nonsense_has_one_line_of_a_kind_and_not_one_a_message(serve: Serve) -> None:
    server = serve("tests.simulations.walk:Walk")
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.ROUTING_ID, uuid.uuid4().bytes[:15] + b"x")
    try:
        socket.connect(server.endpoint)
        for _ in range(200):
            socket.send_multipart([b"GET / HTTP/1.1"])
            socket.send_multipart([MAGIC, b"\xc1"])
        socket.send_multipart([MAGIC, *pack({"id": 1, "verb": "ping", "args": {}})])
        replies = 0
        while replies < 201:
            assert socket.poll(10_000)
            socket.recv_multipart()
            replies += 1
    finally:
        socket.close()
        context.term()
    assert_settles(lambda: len(said(server, "request_refused")), 1)
    assert_settles(lambda: [line["times"] for line in said(server, "not_our_protocol")], [1])
    assert [(line["times"], line["code"]) for line in said(server, "request_refused")] == [(1, "bad_request")]


def test_what_is_said_seldom_says_how_often_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(throttled_log.time, "monotonic", lambda: now)
    said = throttled_log.ThrottledLog()
    with capture_logs() as lines:
        for _ in range(5):
            said.warn("flood", "a", whose="one")
        said.warn("flood", "b", whose="two")
        now += throttled_log.SAY_EVERY_S
        said.warn("flood", "a", whose="three")
    assert [(line["whose"], line["times"]) for line in lines] == [("one", 1), ("two", 1), ("three", 5)]


def test_a_server_whose_log_nobody_reads_goes_on_and_ends(tmp_path: Path) -> None:
    """Its standard error is a pipe that is full; a write to it would wait for ever."""
    unread, full = os.pipe()
    fcntl.fcntl(full, fcntl.F_SETPIPE_SZ, 4096)
    ready, told = os.pipe()
    endpoint = f"ipc://{tmp_path}/s.sock"
    command = [sys.executable, "-m", "snapserv", "serve", "tests.simulations.walk:Walk", "--endpoint", endpoint]
    command += ["--verbose", "--log-json", "--ready-fd", str(told), "--orphan-grace", "0"]
    # Cells inherit it too: whatever a simulation prints is its own affair, and Walk prints nothing.
    process = subprocess.Popen([*command, "--json"], pass_fds=[told], cwd=ROOT, stdout=full, stderr=full)
    os.close(told)
    try:
        with os.fdopen(ready) as answer:
            assert select.select([answer], [], [], START_WITHIN_S)[0]
            assert "endpoint" in json.loads(answer.readline())
        with connect(endpoint, timeout_s=10.0) as client:
            main = client.branch("main")
            for _ in range(300):  # each has a line of some 150 bytes
                main.step()
            assert main.info().step == 300
        process.terminate()
        assert process.wait(END_WITHIN_S) == 0
    finally:
        process.kill()
        process.wait()
        os.close(unread)
        os.close(full)


def test_lines_that_nobody_takes_are_lost_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_WAITING", 10)
    taken, full = os.pipe()
    fcntl.fcntl(full, fcntl.F_SETPIPE_SZ, 4096)
    lines = logs.Lines(full)
    for number in range(200):
        lines.write(f"{number:>99}\n")
    assert lines.lost > 100
    with capture_logs() as told:
        os.set_blocking(taken, False)
        assert_settles(lambda: _drain(taken) or bool(told), True)
    lines.close()
    assert [line["event"] for line in told] == ["log_lines_lost"]
    assert lines.lost == 0


def test_lines_that_cannot_be_written_are_lost_and_nobody_is_told_by_an_error() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    lines = logs.Lines(full)
    with capture_logs() as told:
        for _ in range(5):
            assert lines.write("a line\n") == 7
        lines.close()
    assert lines.lost == 5
    assert told == [], "as long as nothing can be said"
    os.close(full)


def _drain(descriptor: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        os.read(descriptor, 1 << 16)
    return False
