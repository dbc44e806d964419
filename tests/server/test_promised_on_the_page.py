"""What docs/protocol.md says of the wire is so: tried with frames, as a client in another language sends them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq
from snapserv_client import Server
from snapserv_client.requests import Reply
from snapserv_client.wire import MAGIC, pack

from ..conftest import ServerProcess
from .conftest import answer, dealer

Serve = Callable[..., ServerProcess]
Ask = Callable[..., Reply]


@pytest.fixture
def socket(server: Server) -> Iterator[zmq.Socket[bytes]]:
    with dealer(server.endpoint) as made:
        yield made


@pytest.fixture
def ask(socket: zmq.Socket[bytes]) -> Ask:
    """Send one header, as bytes or as a map without its id, and return the reply to it."""
    last = 0

    def send(header: bytes | None = None, **said: Any) -> Reply:
        nonlocal last
        last += 1
        packed = pack({"id": last, **said})[0] if header is None else header
        socket.send_multipart([MAGIC, packed])
        return answer(socket)

    return send


def code(reply: Reply) -> str:
    return "ok" if reply.error is None else reply.error.code


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        ({"ticks": 2.0}, "bad_request"),
        ({"ticks": True}, "bad_request"),
        ({"ticks": 1}, "ok"),
        ({"inputs": {"drift": 1}}, "ok"),
        ({"inputs": {"drift": float("nan")}}, "ok"),
        ({"atomic": True, "timeout_s": 5}, "ok"),
        ({"atomic": True, "timeout_s": 0}, "bad_request"),
        ({"timeout_s": float("nan")}, "bad_request"),
        ({"unknown": 1}, "bad_request"),
    ],
)
def test_plain_values_are_taken_as_the_table_says(ask: Ask, args: dict[str, Any], wanted: str) -> None:
    assert code(ask(verb="step", node="main", args=args)) == wanted


def test_headers_are_read_however_they_are_packed(ask: Ask) -> None:
    for number, header in enumerate(
        (
            msgpack.packb({"verb": "step", "args": {"inputs": {"drift": 0.5}}, "node": "main", "id": 1}),
            msgpack.packb({"id": 2, "verb": "step", "node": "main", "args": {"inputs": {"drift": 0.5}}},
                          use_single_float=True),
            b"\x83\xa2id\xd3" + struct.pack(">q", 3) + b"\xa4verb\xa4ping\xa4moon\x01",
            b"\x83\xa2id\x63\xa4verb\xa4ping\xa2id\x04",
        ),
        1,
    ):  # fmt: skip
        reply = ask(header)
        assert (reply.id, code(reply)) == (number, "ok")
    for header, number in (
        (msgpack.packb({"id": 9, "verb": b"ping"}), 9),
        (msgpack.packb({b"id": 9, "verb": "ping"}), 0),
        (msgpack.packb({"id": 9.0, "verb": "ping"}), 0),
    ):
        reply = ask(header)
        assert (reply.id, code(reply)) == (number, "bad_request")


def test_any_value_comes_back_as_it_was_sent(ask: Ask) -> None:
    for value in ({1: "one", -2: [None, {}]}, [(1 << 64) - 1, -(1 << 63)], "ä", b"\0", [True, 0.5, float("inf")]):
        reply = ask(verb="call", node="main", args={"method": "echo", "kwargs": {"value": value}})
        assert reply.ok == {"value": value}


def test_arrays_may_have_any_byte_order_and_stand_in_either_place(ask: Ask, socket: zmq.Socket[bytes]) -> None:
    values = np.arange(3, dtype=">f4")
    described = ["position", [[0, 3, None]], msgpack.ExtType(1, msgpack.packb([">f4", [3], 0]))]
    args = dict(zip(("field", "region", "value"), described, strict=True))
    header = msgpack.packb({"id": 1, "verb": "write", "node": "main", "args": args})
    socket.send_multipart([MAGIC, header, values.tobytes()])
    assert code(answer(socket)) == "ok"
    reply = ask(id=2, verb="read", node="main", args={"field": "position", "region": [[2, None, -1]]})
    assert reply.ok["value"].tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("region", "shape"),
    [
        ([], [1000]),
        (None, [1000]),
        ([-1], []),
        ([[-3, None, None]], [3]),
        ([[990, 5000, None]], [10]),
        ([[7, 3, None]], [0]),
        ([[7, 3, -1]], [4]),
        ([1000], "bad_request"),
        ([[0, 3]], "bad_request"),
        ([[0, 3, 0]], "bad_request"),
        ([0, 0], "bad_request"),
    ],
)
def test_regions_select_what_the_page_says(ask: Ask, region: Any, shape: Any) -> None:
    reply = ask(verb="read", node="main", args={"field": "position", "region": region})
    assert (code(reply) if isinstance(shape, str) else list(reply.ok["value"].shape)) == shape


def test_names_are_resolved_when_a_request_arrives(socket: zmq.Socket[bytes]) -> None:
    for number, verb, node, args in ((1, "snapshot", "main", {"name": "new"}), (2, "branch", "new", {})):
        socket.send_multipart([MAGIC, *pack({"id": number, "verb": verb, "node": node, "args": args})])
    replies = {reply.id: reply for reply in (answer(socket), answer(socket))}
    assert (code(replies[1]), code(replies[2])) == ("ok", "not_found")


def test_nodes_of_other_trees_are_called_by_their_tree(serve: Serve) -> None:
    with dealer(serve("tests.simulations.walk:Walk").endpoint) as socket:

        def ask(number: int, verb: str, node: str | None = None, **args: Any) -> Reply:
            socket.send_multipart([MAGIC, *pack({"id": number, "verb": verb, "node": node, "args": args})])
            return answer(socket)

        assert ask(1, "create").ok["node"]["name"] == "t2/main"
        assert ask(2, "tag", "t2/main", name="best").ok["node"]["tags"] == ["best"]
        assert code(ask(3, "step", "t2/best")) == "ok"
        assert code(ask(4, "step", "best")) == "not_found"
        assert ask(5, "step", "default/main").ok["step"] == 1


def test_what_was_refused_before_it_began_is_not_remembered_and_what_failed_is(ask: Ask) -> None:
    assert code(ask(id=5, verb="step", node="main", args={"ticks": 0})) == "bad_request"
    assert code(ask(id=5, verb="step", node="main")) == "ok"
    assert code(ask(id=6, verb="snapshot", node="main", args={"name": "root"})) == "name_taken"
    assert code(ask(id=6, verb="snapshot", node="main", args={"name": "free"})) == "name_taken", "the first reply"


def test_an_interrupt_stops_anybodys_step_or_a_request_of_ones_own(endpoint: str, ask: Ask) -> None:
    def sent(socket: zmq.Socket[bytes], number: int, verb: str, node: str, **args: Any) -> None:
        socket.send_multipart([MAGIC, *pack({"id": number, "verb": verb, "node": node, "args": args})])

    with dealer(endpoint, name=b"another") as other:
        for _ in range(2):
            assert not ask(verb="interrupt", node="main").ok["interrupted"]
        sent(other, 1, "step", "main", ticks=10**9)
        while not ask(verb="interrupt", node="main", args={}).ok["interrupted"]:
            pass
        assert code(answer(other)) == "interrupted"
        sent(other, 2, "step", "main", ticks=10**9)
        assert not ask(verb="interrupt", node="root", args={"request": 2}).ok["interrupted"], "not one's own"
        sent(other, 3, "interrupt", "root", request=2)
        assert {reply.id: code(reply) for reply in (answer(other), answer(other))} == {2: "interrupted", 3: "ok"}


def test_the_newer_of_two_sockets_with_one_name_gets_the_replies(endpoint: str) -> None:
    with dealer(endpoint, name=b"twins") as older:
        older.send_multipart([MAGIC, *pack({"id": 1, "verb": "ping"})])
        assert answer(older).id == 1
        with dealer(endpoint, name=b"twins") as newer:
            newer.send_multipart([MAGIC, *pack({"id": 2, "verb": "ping"})])
            assert answer(newer).id == 2
            older.send_multipart([MAGIC, *pack({"id": 3, "verb": "ping"})])
            assert not older.poll(500)


def test_short_steps_report_no_progress_and_a_difference_is_of_bytes(ask: Ask) -> None:
    assert ask(verb="step", node="main", args={"progress": True}).final
    for value, changed in ((float("nan"), 1), (float("nan"), 0), (0.0, 1), (-0.0, 1)):
        (before,) = [ask(verb="snapshot", node="main").ok["node"]["id"]]
        ask(verb="write", node="main", args={"field": "position", "region": [3], "value": value})
        (field, _) = ask(verb="diff", node="main", args={"other": before}).ok["fields"]
        assert (field["changed"], field["box"]) == (changed, [[3, 4]] if changed else [])
