"""A server that says nothing: whoever waits is told so, and who gives up is told what there is in its place."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from snapserv_client import Server, aio, connect
from snapserv_client.connection import LOST_AFTER_S, NOTICE_AFTER_S, Patience
from snapserv_client.errors import UnreachableError
from snapserv_client.probing import greeting_of

from ..conftest import ServerProcess

Serve = Callable[..., ServerProcess]
WALK = "tests.simulations.walk:Walk"


@contextlib.contextmanager
def stopped(server: ServerProcess, for_s: float | None = None) -> Iterator[None]:
    """Have a server stand still, for so long or until the end."""
    os.kill(server.pid, signal.SIGSTOP)
    timer = threading.Timer(for_s or 60.0, os.kill, (server.pid, signal.SIGCONT))
    timer.start()
    try:
        yield
    finally:
        if for_s is None:
            timer.cancel()
            os.kill(server.pid, signal.SIGCONT)
        timer.join()


def test_a_client_says_once_that_it_waits_where_for_how_long_and_what_to_check(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(WALK)
    with server.connect(request_timeout_s=30.0) as client:
        main = client.branch("main")
        with stopped(server, for_s=NOTICE_AFTER_S + 1.5):
            assert main.info().step == 0
        (record,) = caplog.records
        assert (record.name, record.levelno) == ("snapserv_client", logging.WARNING)
        said = record.getMessage()
        for part in (server.endpoint, "for 2 s", "for up to 28 s", "snapserv status", "Ctrl-C"):
            assert part in said, said
        with stopped(server, for_s=NOTICE_AFTER_S + 0.5):
            client.stats()
        assert len(caplog.records) == 1, "once"


def test_many_who_wait_at_once_say_it_once(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    server = serve(WALK)

    async def wait_together() -> None:
        async with await aio.connect(server.endpoint, timeout_s=10) as client:
            with stopped(server, for_s=NOTICE_AFTER_S + 1.0):
                await asyncio.gather(*(client.stats() for _ in range(5)))

    asyncio.run(wait_together())
    (record,) = caplog.records
    assert "for up to 58 s" in record.getMessage()


def test_a_step_that_takes_long_is_no_silence(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    began = time.monotonic()
    main = server.branch("main")
    while time.monotonic() - began < NOTICE_AFTER_S + 0.5:
        main.step(60_000)
    assert caplog.records == []


def test_a_server_that_stands_still_is_told_from_one_that_has_ended(serve: Serve, short_path: Path) -> None:
    server = serve(WALK)
    with stopped(server), pytest.raises(UnreachableError) as caught:
        connect(server.endpoint, timeout_s=0.3)
    assert "a process is there that has not answered in 0.3 s: stopped" in caught.value.message
    assert caught.value.details["reason"] == "silent"
    left_behind = f"ipc://{short_path}/s.sock"
    with socket.socket(socket.AF_UNIX) as ended:
        ended.bind(left_behind.removeprefix("ipc://"))
    with pytest.raises(UnreachableError, match="a server was here, and has ended") as caught:
        asyncio.run(aio.connect(left_behind, timeout_s=0.3))
    assert "snapserv serve" in caught.value.hint


def _greet_otherwise(other: socket.socket) -> None:
    stream, _ = other.accept()
    with stream:
        stream.sendall(b"SSH-2.0-a banner that is as long as what ZeroMQ would say\r\n")
        stream.recv(64)


def test_what_is_no_server_is_told_from_one_that_hangs(short_path: Path) -> None:
    endpoint = f"ipc://{short_path}/other.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(endpoint.removeprefix("ipc://"))
        other.listen()
        with pytest.raises(UnreachableError, match="or no server of snapserv"):
            connect(endpoint, timeout_s=0.2)
    with socket.create_server(("127.0.0.1", 0)) as other:
        threading.Thread(target=_greet_otherwise, args=(other,), daemon=True).start()
        with pytest.raises(ConnectionError, match="speaks no ZeroMQ"):
            greeting_of(f"tcp://127.0.0.1:{other.getsockname()[1]}", 10.0)
    with pytest.raises(UnreachableError, match="nobody listens there"):
        connect("tcp://127.0.0.1:1", timeout_s=0.2)


def test_silence_begins_where_a_ping_is_not_answered() -> None:
    patience = Patience(0.0, 0)
    assert patience.wake == 1.0, "nothing is due before"
    assert not patience.silent(1.0)
    assert patience.retry(1.0)
    assert patience.wake == NOTICE_AFTER_S
    patience.heard(1.5)  # the ping's answer: it is only slow
    assert not patience.silent(2.9)
    assert patience.retry(3.0)
    assert not patience.silent(3.9)
    assert patience.silent(4.0)
    assert not patience.silent(5.0), "once"
    assert patience.wake == patience.next
    patience.heard(0.5)  # what was heard before
    assert not patience.lost(1.5 + LOST_AFTER_S)
    assert patience.lost(1.6 + LOST_AFTER_S)
    assert patience.left(11.5) == LOST_AFTER_S - 10


def test_a_large_request_is_no_silence_before_it_can_have_arrived() -> None:
    patience = Patience(0.0, 30_000_000)
    assert patience.wake == 31.0
    assert not patience.silent(20.0)
