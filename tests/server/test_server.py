"""The front door, at the level of frames: at most once, order, hostile messages, slow clients, leaks."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from snapserv_client import Server, requests, wire
from snapserv_client.protocol import MAX_IN_FLIGHT, VERBS
from snapserv_client.requests import Reply, Request
from snapserv_client.transport import routing_id

from ..conftest import ServerProcess, assert_nothing_more, assert_settles, session_processes, statistics

Serve = Callable[..., ServerProcess]
ANSWER_WITHIN_MS = 20_000


class Raw:
    """A client that sends what it likes."""

    def __init__(self, endpoint: str, name: bytes | None = None) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.name = name or routing_id()
        self.socket.setsockopt(zmq.ROUTING_ID, self.name)
        self.socket.connect(endpoint)
        self.last = 0

    def send(self, request: Request[Any], request_id: int | None = None) -> int:
        self.last = self.last + 1 if request_id is None else request_id
        self.socket.send_multipart(request.frames(self.last))
        return self.last

    def receive(self) -> Reply:
        assert self.socket.poll(ANSWER_WITHIN_MS), "no reply"
        return Reply.parse(self.socket.recv_multipart())

    def ask(self, request: Request[Any], request_id: int | None = None) -> Reply:
        sent = self.send(request, request_id)
        while (reply := self.receive()).id != sent:
            pass
        return reply

    def close(self, *, send_all: bool = False) -> None:
        """Hang up; ``send_all`` waits until what was sent is on its way, which by default may be lost."""
        self.context.destroy(ANSWER_WITHIN_MS if send_all else 0)


@pytest.fixture
def raw(server: Server) -> Iterator[Raw]:
    client = Raw(server.endpoint)
    yield client
    client.close()


def step(ticks: int = 1, **inputs: Any) -> Request[Any]:
    return requests.step("main", ticks, inputs, progress=False)


def test_a_retried_step_gets_the_first_reply_and_happens_once(raw: Raw, server: Server) -> None:
    first = raw.ask(step(3))
    for _ in range(3):
        again = raw.ask(step(3), first.id)
        assert again.ok == first.ok
    assert server.branch("main").info().step == 3


def test_a_retry_after_a_reconnect_gets_the_reply_that_was_missed(raw: Raw, server: Server) -> None:
    sent = raw.send(step(5))
    raw.close(send_all=True)
    assert_settles(lambda: server.branch("main").info().step, 5)
    back = Raw(server.endpoint, raw.name)
    reply = back.ask(step(5), sent)
    back.close()
    assert reply.ok["step"] == 5
    assert server.branch("main").info().step == 5


def test_a_log_that_cannot_be_written_hurts_nobody(serve: Serve) -> None:
    full = serve("tests.simulations.walk:Walk", prefix=("sh", "-c", 'exec "$0" "$@" 2>/dev/full'))
    with full.connect() as client:
        main = client.branch("main")
        os.kill(main.info().pid, signal.SIGKILL)  # which is logged
        assert_settles(lambda: main.info().state, "dead")
        main.reset()
        assert main.step().step == 1
    assert full.end() == 0
    assert full.log.read_text() == ""


def test_a_retry_of_a_running_request_is_not_a_second_request(raw: Raw, server: Server) -> None:
    sent = raw.send(step(20_000))
    raw.send(step(20_000), sent)
    assert raw.receive().ok["step"] == 20_000
    assert not raw.socket.poll(50)
    assert server.branch("main").info().step == 20_000


def test_an_error_is_remembered_like_any_reply(raw: Raw) -> None:
    first = raw.ask(requests.snapshot("main", "root"))
    again = raw.ask(requests.snapshot("main", "free"), first.id)
    assert first.error is not None
    assert again.error is not None
    assert again.error.code == first.error.code == "name_taken"


def test_a_retry_that_comes_too_late_is_refused_rather_than_run_twice(raw: Raw, server: Server) -> None:
    for _ in range(300):
        raw.ask(requests.write("main", "count", 0, None))
    reply = raw.ask(step(), 1)
    assert reply.error is not None
    assert reply.error.code == "bad_request"
    assert "too old" in reply.error.message
    assert server.branch("main").info().step == 0


def test_requests_to_one_node_run_in_the_order_in_which_they_came(raw: Raw) -> None:
    sent = [raw.send(step()) for _ in range(50)]
    sent.append(raw.send(requests.read("main", "count", None)))
    sent.append(raw.send(step()))
    replies = [raw.receive() for _ in sent]
    assert [reply.id for reply in replies] == sent
    assert [reply.ok["step"] for reply in replies[:50]] == list(range(1, 51))
    assert int(replies[50].ok["value"]) == 50


def test_a_long_step_of_one_node_does_not_hold_up_another(raw: Raw, server: Server) -> None:
    server.branch("main").branch(name="other")
    long = raw.send(requests.step("other", 10**9, {}, progress=False))
    assert raw.ask(step()).ok["step"] == 1
    raw.send(requests.interrupt("other", request=long))
    codes = {}
    for _ in range(2):
        reply = raw.receive()
        codes[reply.id] = reply.error.code if reply.error else None
    assert codes == {long: "interrupted", long + 2: None}


def test_a_step_that_waits_for_its_turn_can_be_called_off(raw: Raw, server: Server) -> None:
    running = raw.send(step(10**9))
    waiting = raw.send(step(5))
    raw.send(requests.interrupt("main", request=waiting))
    raw.send(requests.interrupt("main", request=running))
    errors = {}
    for _ in range(4):
        reply = raw.receive()
        if reply.error:
            errors[reply.id] = reply.error.code
            assert "step" in reply.error.details, "where the branch stands, also of the one that had not begun"
    assert errors == {running: "interrupted", waiting: "interrupted"}
    assert server.branch("main").step().step > 1


def test_no_more_requests_are_taken_in_than_may_be_in_flight(raw: Raw, server: Server) -> None:
    running = raw.send(step(10**9))
    for _ in range(MAX_IN_FLIGHT):
        raw.send(step())
    refused = raw.receive()
    assert refused.error is not None
    assert refused.error.code == "busy"
    server.branch("main").interrupt()
    codes = [reply.error.code if reply.error else "ok" for reply in (raw.receive() for _ in range(MAX_IN_FLIGHT))]
    assert codes.count("ok") == MAX_IN_FLIGHT - 1
    assert codes.count("interrupted") == 1
    assert running == 1


def test_a_client_that_vanishes_in_the_middle_of_a_request_disturbs_nobody(server: Server) -> None:
    for _ in range(20):
        client = Raw(server.endpoint)
        client.send(requests.step("main", 5, {}, progress=True))
        client.send(requests.read("main", "position", None))
        client.close()
    assert_settles(lambda: server.stats().in_flight, 1)
    assert server.branch("main").step().step % 5 == 1


def test_a_client_that_does_not_read_its_replies_delays_nobody(serve: Serve) -> None:
    process = serve("tests.simulations.memory:Big", params={"nbytes": 4 << 20})
    slow = Raw(process.endpoint)
    slow.socket.setsockopt(zmq.RCVHWM, 1)
    for _ in range(200):
        slow.send(requests.read("main", "memory", None))
    with process.connect() as server:
        for _ in range(50):
            server.ping()
        assert server.branch("main").step(inputs={"pages": 1}).step == 1
    slow.close()


def test_what_is_too_large_is_refused_with_a_typed_error(raw: Raw, server: Server) -> None:
    raw.socket.send_multipart([wire.MAGIC, msgpack.packb({"id": 5, "verb": "ping", "x": "y" * (2 << 20)})])
    reply = raw.receive()
    assert reply.error is not None
    assert reply.error.code == "too_large"
    raw.socket.send_multipart([wire.MAGIC, msgpack.packb({"id": 6, "verb": "ping"}), *[b""] * 300])
    reply = raw.receive()
    assert reply.error is not None
    assert reply.error.code == "bad_request"
    server.ping()


def test_another_version_of_the_protocol_is_told_which_one_is_spoken(raw: Raw) -> None:
    raw.socket.send_multipart([b"SS9", b"whatever"])
    reply = raw.receive()
    assert reply.error is not None
    assert reply.error.code == "version_mismatch"
    newer = raw.ask(Request("hello", None, {"client": "x", "protocol": 99}, lambda ok: ok))
    assert newer.error is not None
    assert newer.error.code == "version_mismatch"
    assert newer.error.details == reply.error.details == {"protocol": 1}


def test_a_header_bomb_gets_an_error(raw: Raw, server: Server) -> None:
    for header in (
        b"\x91" * 100_000,  # nested arrays
        b"\x81\xa1a" * 100_000,  # nested maps
        b"\xdd\xff\xff\xff\xff",  # an array of four billion
        b"\xc6\xff\xff\xff\xff",  # a binary of four GiB
        msgpack.packb({"id": 1, "verb": "read", "node": "main", "args": {"field": msgpack.ExtType(1, b"\x93")}}),
        msgpack.packb({"id": 1, "verb": "step", "args": {"inputs": msgpack.ExtType(9, b"")}}),
    ):
        raw.socket.send_multipart([wire.MAGIC, header])
        reply = raw.receive()
        assert reply.error is not None
        assert reply.error.code == "bad_request"
    server.ping()


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
ARGUMENTS = st.dictionaries(
    st.sampled_from(["ticks", "inputs", "field", "region", "value", "name", "count", "names", "rng", "other", "x"]),
    ANYTHING,
    max_size=4,
)
SAFE_VERBS = sorted(VERBS.keys() - {"shutdown", "create", "branch", "replay", "snapshot", "drop", "pin", "step"})


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=200), min_size=0, max_size=4), st.booleans())
def test_whatever_bytes_come_the_server_answers_or_ignores_them_and_goes_on(
    raw: Raw, server: Server, frames: list[bytes], ours: bool
) -> None:
    raw.socket.send_multipart([wire.MAGIC, *frames] if ours or not frames else frames)
    server.ping()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(SAFE_VERBS),
    st.sampled_from(["main", "root", "nobody", 1, 99, None]) | ANYTHING,
    ARGUMENTS | ANYTHING,
)
def test_whatever_a_request_says_it_gets_one_final_reply(
    raw: Raw, server: Server, verb: str, node: Any, args: Any
) -> None:
    raw.last += 1
    header = {"id": raw.last, "verb": verb, "node": node, "args": args}
    raw.socket.send_multipart([wire.MAGIC, msgpack.packb(header)])
    while raw.receive().id not in (raw.last, 0):
        pass
    server.ping()


def test_the_server_ends_every_cell_on_a_signal_even_in_the_middle_of_a_step(serve: Serve) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        process = serve("tests.simulations.trouble:Trouble")
        client = Raw(process.endpoint)
        assert client.ask(requests.branch("main", 3, ["a", "b", "c"], "same")).ok is not None
        client.send(requests.step("a", 1, {"how": "hang", "at": 1}, progress=False))
        client.send(requests.step("b", 10**9, {}, progress=False))
        assert client.ask(requests.ping()).error is None
        pids = session_processes(process.pid)
        assert len(pids) == 6  # root, main, three branches and the snapshot that they stand on
        assert process.end(number) == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        client.close()


def test_a_shutdown_is_answered_and_then_happens(serve: Serve) -> None:
    process = serve("tests.simulations.walk:Walk")
    client = Raw(process.endpoint)
    assert client.ask(requests.shutdown()).error is None
    assert process.process.wait(20) == 0
    client.close()


def test_events_tell_in_order_what_happened(serve: Serve) -> None:
    process = serve("tests.simulations.walk:Walk")
    told: list[tuple[int, str, str | None]] = []
    heard = threading.Event()

    def watch() -> None:
        with process.connect() as own:
            for event in own.watch(timeout_s=20):
                told.append((event.sequence, event.kind, event.node.name if event.node else None))
                heard.set()

    with process.connect() as server:
        main = server.branch("main")
        first = main.snapshot("first")
        thread = threading.Thread(target=watch)
        thread.start()
        while not heard.wait(0.05):  # a subscription takes effect when it does
            first.pin(False)
        branch = first.branch(name="a")
        main.restore(first)
        os.kill(branch.info().pid, signal.SIGKILL)
        assert_settles(lambda: branch.info().state, "dead")
        branch.drop()
        server.shutdown()
        thread.join(20)
    assert [(kind, name) for _, kind, name in told if kind != "pinned"] == [
        ("created", "a"),
        ("restored", "main"),
        ("died", "a"),
        ("dropped", "a"),
        ("shutdown", None),
    ]
    numbers = [number for number, _, _ in told]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


@pytest.mark.timeout(180)
def test_a_thousand_snapshots_taken_read_branched_and_dropped_leave_the_server_as_it_was(serve: Serve) -> None:
    process = serve("tests.simulations.walk:Walk", params={"cols": 10_000})
    with process.connect() as server:
        main = server.branch("main")

        def cycle() -> None:
            main.step()
            snapshot = main.snapshot()
            branch = snapshot.branch()
            assert np.array_equal(branch.read("position"), snapshot.read("position"))
            assert snapshot.drop() == [snapshot.name]
            assert branch.drop() == [branch.name]

        for _ in range(100):
            cycle()
        before, settled = server.stats(), statistics(process.pid)
        for _ in range(900):
            cycle()
        after = server.stats()
        assert_nothing_more(process.pid, settled)
        assert after.nodes == before.nodes == 2
        assert after.threads == before.threads
        assert after.resident_bytes - before.resident_bytes < 4 << 20


def test_a_tree_can_be_dropped_whole(serve: Serve) -> None:
    process = serve("tests.simulations.walk:Walk")
    with process.connect() as server:
        before = statistics(process.pid)
        other = server.create(name="other")
        other.snapshot()
        server.snapshot("other/root").drop(recursive=True)
        assert [tree.name for tree in server.tree().trees] == ["default"]
        assert_nothing_more(process.pid, before)
        assert server.create(name="other").step().step == 1


def test_a_page_of_the_tree_says_where_the_next_one_begins(server: Server) -> None:
    main = server.branch("main")
    for _ in range(5):
        main.snapshot()
    whole = server.tree()
    page = server._run(requests.tree(None, offset=2, sizes=False))
    assert [node.id for node in page.nodes] == [node.id for node in whole][2:]
    assert page.total == 7
    assert page.next is None


def test_a_signal_that_comes_while_the_server_ends_changes_nothing(serve: Serve) -> None:
    for _ in range(3):
        ending = serve("tests.simulations.walk:Walk")
        with ending.connect() as client:
            client.shutdown()
        while ending.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(ending.pid, signal.SIGTERM)
        assert ending.process.returncode == 0
