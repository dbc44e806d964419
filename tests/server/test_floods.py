"""What a client can cost others: floods, bombs, replies not taken, connections half open."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import zmq
from snapserv_client import requests, wire
from snapserv_client.errors import BusyError

from ..conftest import ROOT, ServerProcess, assert_nothing_more, assert_settles, statistics
from .conftest import answer, dealer

Serve = Callable[..., ServerProcess]


def test_a_flood_is_refused_and_another_client_is_served(serve: Serve) -> None:
    server = serve("tests.simulations.walk:Walk", options=("--rate", "200"))
    with dealer(server.endpoint) as flood, server.connect() as client:
        for number in range(1, 2001):
            flood.send_multipart(requests.ping().frames(number))
        for _ in range(20):
            client.ping()
        assert client.branch("main").step(5).step == 5
        replies = [answer(flood) for _ in range(2000)]
    refused = [reply for reply in replies if isinstance(reply.error, BusyError)]
    assert len(refused) > 1000
    assert sorted(reply.id for reply in replies) == list(range(1, 2001))
    assert refused[0].error is not None
    assert refused[0].error.details["retry_after_s"] > 0


def bombs() -> list[bytes]:
    """Headers that say more than they are, or that are far more work than their size."""
    most = wire.MAX_HEADER_BYTES
    long_list = b"\xdd" + (most - 16).to_bytes(4, "big")

    def array(described: Any) -> bytes:
        packed: bytes = msgpack.packb({"id": 5, "a": msgpack.ExtType(1, msgpack.packb(described))})
        return packed

    tiny = msgpack.packb(msgpack.ExtType(1, msgpack.packb(["<f4", [0], b""])))
    many = (most - 8) // len(tiny)
    deep: Any = "<f4"
    for _ in range(50):
        deep = [["a", deep]]
    return [
        long_list * 1000 + b"\xc0" * (most - 5008),
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xffabc",
        b"\x91" * most,
        b"\x91" * 1000 + b"\xc0",
        b"\xdd" + (most - 5).to_bytes(4, "big") + b"\x90" * (most - 5),
        b"\xdd" + (most - 5).to_bytes(4, "big") + b"\x80" * (most - 5),
        b"\xdd" + many.to_bytes(4, "big") + tiny * many,
        array(["<f4", [2**47] * 100_000, b""]),
        array(["<f4", [0, 2**47, 2**47], b""]),
        array(["|V0", [2**47], b""]),
        array(["f" * 900_000, [1], b""]),
        array([deep, [1], b""]),
        array([[[f"f{number}", "<f4"] for number in range(60_000)], [1], b""]),
        array([[["a", "<f4", [2**20, 2**20]]], [1], b""]),
        msgpack.packb({"id": 5, "verb": "v" * (most - 100)}),
        msgpack.packb({"id": 5, "verb": "read", "node": "n" * (most - 100)}),
        msgpack.packb({"id": 5, "verb": "read", "node": "main", "args": {"field": "\n" * (most - 100)}}),
        msgpack.packb({"id": 5, "verb": "spec", "args": {"tree": "\0" * (most - 100)}}),
        msgpack.packb({"id": 5, "verb": "create", "args": {"simulation": "\\" * (most - 100)}}),
    ]


def test_header_bombs_get_typed_errors_and_another_client_is_served(serve: Serve) -> None:
    server = serve("tests.simulations.walk:Walk")
    before = statistics(server.pid)
    with dealer(server.endpoint) as bomber, server.connect() as client:
        for steps, bomb in enumerate(bombs(), 1):
            bomber.send_multipart([wire.MAGIC, bomb])
            assert client.branch("main").step().step == steps
            error = answer(bomber).error
            assert error is not None
            assert error.code in ("bad_request", "too_large", "not_found")
            assert len(str(error)) < 1 << 17
        assert client.stats().resident_bytes < 1 << 30
    assert_nothing_more(server.pid, before)


def test_what_cannot_be_passed_on_to_a_cell_leaves_the_cells_replies_in_step(serve: Serve) -> None:
    """Arrays that fit into a request and not into a message to a cell: each reply must stay its own request's."""
    server = serve("tests.simulations.walk:Walk")
    many = [msgpack.ExtType(1, msgpack.packb(["|u1", [512], b"x" * 512]))] * 1500
    header = {"id": 1, "verb": "call", "node": "main", "args": {"method": "echo", "args": [many]}}
    with dealer(server.endpoint) as socket:
        socket.send_multipart([wire.MAGIC, msgpack.packb(header)])
        error = answer(socket).error
        assert error is not None
        assert error.code == "too_large"
        socket.send_multipart(requests.step("main", 3, {}, progress=False).frames(8))
        assert answer(socket).ok["step"] == 3
        socket.send_multipart(requests.step("main", 4, {}, progress=False).frames(9))
        assert answer(socket).ok["step"] == 7


def test_a_client_that_takes_no_replies_costs_bounded_memory(serve: Serve) -> None:
    cells = (64 << 20) // 8
    server = serve("tests.simulations.walk:Walk", params={"cols": cells})
    with dealer(server.endpoint) as lazy, server.connect() as client:
        lazy.setsockopt(zmq.RCVHWM, 1)
        before = client.stats().resident_bytes
        wanted = 24
        for number in range(1, wanted + 1):
            lazy.send_multipart(requests.read("main", "position", None).frames(number))
        assert_settles(lambda: client.stats().in_flight, 1, within_s=60.0)  # that of stats itself
        assert client.stats().resident_bytes - before < 768 << 20
        replies = [answer(lazy) for _ in range(wanted)]
        refused = [reply for reply in replies if isinstance(reply.error, BusyError)]
        assert refused
        assert "taken" in refused[0].error.message if refused[0].error else False
        lazy.send_multipart(requests.read("main", "count", None).frames(99))
        assert answer(lazy).error is None


def test_half_open_connections_are_given_up(serve: Serve) -> None:
    """Whoever connects and says nothing is hung up on, and meanwhile others are served."""
    import socket as plain

    server = serve("tests.simulations.walk:Walk", options=("--endpoint", "tcp://127.0.0.1:*"))
    host, _, port = server.endpoint.removeprefix("tcp://").rpartition(":")
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(plain.create_connection((host, int(port)))) for _ in range(20)]
        with server.connect() as client:
            assert client.branch("main").step().step == 1
        for each in silent:
            each.settimeout(30.0)
            while each.recv(4096):
                pass


def test_the_kernel_watches_silent_peers(serve: Serve) -> None:
    server = serve("tests.simulations.walk:Walk", options=("--endpoint", "tcp://127.0.0.1:*"))
    _, _, port = server.endpoint.rpartition(":")
    with server.connect() as client:
        client.ping()

        def timers() -> list[tuple[str, bool]]:
            rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
            established = "01"  # net/ipv4/tcp_ipv4.c, get_tcp4_sock
            ours = [
                row[5].split(":") for row in rows if row[1].endswith(f":{int(port):04X}") and row[3] == established
            ]
            return [(kind, int(expires, 16) <= 11 * os.sysconf("SC_CLK_TCK")) for kind, expires in ours]

        by_keepalive = "02"
        assert_settles(timers, [(by_keepalive, True)])


def test_a_flood_that_breaks_off_unread_does_not_end_the_process() -> None:
    """With heartbeats libzmq would end it, after the ten seconds that lay between two of them."""
    broken_off = r"""
import socket, struct, time, zmq
from snapserv.server.listening import watch_peers

router = zmq.Context().socket(zmq.ROUTER)
router.setsockopt(zmq.RCVHWM, 2)
watch_peers(router, "tcp://127.0.0.1:*")
port = router.bind_to_random_port("tcp://127.0.0.1")
peer = socket.create_connection(("127.0.0.1", port))
peer.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48))
peer.recv(4096)
ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER"
peer.sendall(b"\x04" + bytes([len(ready)]) + ready)
peer.sendall((b"\x00\x64" + bytes(100)) * 3000)
time.sleep(0.5)
peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
peer.close()
time.sleep(11)
router.close(0)
"""
    ran = subprocess.run([sys.executable, "-c", broken_off], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
