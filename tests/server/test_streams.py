"""Outcomes that are streamed: any number of them, all of them again for a retry, and none lost without a word."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import zmq
from snapserv_client import Outcome, Server, aio, connect
from snapserv_client.errors import TooLargeError
from snapserv_client.requests import Reply
from snapserv_client.wire import MAGIC, MAX_BUFFERS, pack

from snapserv.server.sessions import MOST_REPLY_BYTES

from ..conftest import ServerProcess
from .conftest import answer, dealer

Serve = Callable[..., ServerProcess]
LARGE = "tests.simulations.expanding:Large"


def ask(socket: zmq.Socket[bytes], **header: Any) -> None:
    socket.send_multipart([MAGIC, *pack(header)])


def until_final(socket: zmq.Socket[bytes]) -> tuple[list[Reply], Reply]:
    before = []
    while not (reply := answer(socket)).final:
        before.append(reply)
    return before, reply


def test_a_retry_gets_every_outcome_again_and_then_the_reply(server: Server, endpoint: str) -> None:
    with dealer(endpoint, name=b"retries") as socket:
        for _ in range(3):
            ask(socket, id=1, verb="expand", node="main", args={"inputs": [{}] * 3, "stream": True, "keep": "all"})
            before, final = until_final(socket)
            assert sorted(each.outcome.index for each in before if each.outcome is not None) == [0, 1, 2]
            assert final.ok["outcomes"] == []
            assert len(final.ok["kept"]) == 3
    assert len(server.tree().nodes) == 2 + 1 + 3, "it was done once"


def test_a_retry_of_outcomes_that_are_not_kept_says_so(serve: Serve) -> None:
    size = MOST_REPLY_BYTES // 4
    process = serve(LARGE, options=("--param", f"size={size}"))
    with dealer(process.endpoint, name=b"retries") as socket:
        request = {"id": 1, "verb": "expand", "node": "main", "args": {"inputs": [{}] * 5, "stream": True}}
        ask(socket, **request)
        before, final = until_final(socket)
        assert len(before) == 5
        assert final.error is None
        ask(socket, **request)
        before, final = until_final(socket)
        assert not before
        assert isinstance(final.error, TooLargeError)
        assert "done" in final.error.message


def test_any_number_of_arrays_comes_back(serve: Serve) -> None:
    children = MAX_BUFFERS + 40
    process = serve(LARGE)
    with process.connect() as server:
        outcomes = server.branch("main").expand([{"arrays": 2}] * children)
        assert len(outcomes) == children
        assert all(np.array_equal(outcome["1"], np.ones(1000, np.uint8)) for outcome in outcomes)
        many, few = server.branch("main").expand([{"arrays": MAX_BUFFERS + 1}, {}])
        assert isinstance(many.error, TooLargeError)
        assert few.ok

    async def main() -> None:
        async with await aio.connect(process.endpoint, timeout_s=20) as client:
            assert len(await (await client.branch("main")).expand([{"arrays": 2}] * children)) == children

    asyncio.run(main())


def test_outcomes_that_got_lost_on_the_way_are_asked_for_again(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse, lost = Reply.parse, []

    def lossy(frames: Any) -> Reply:
        reply = parse(frames)
        if reply.outcome is not None and not lost:
            lost.append(reply)
            return Reply(0, None, None, {}, None)
        return reply

    monkeypatch.setattr(Reply, "parse", staticmethod(lossy))
    with connect(endpoint, timeout_s=20) as server:
        seen: list[Outcome] = []
        assert len(server.branch("main").expand([{}] * 4, on_outcome=seen.append)) == 4
        assert sorted(outcome.index for outcome in seen) == [0, 1, 2, 3], "each once"
    lost.clear()

    async def main() -> None:
        async with await aio.connect(endpoint, timeout_s=20) as client:
            branch = await client.branch("main")
            assert len(await branch.expand([{}] * 4)) == 4
            lost.clear()
            assert len([outcome async for outcome in branch.expand_as_completed([{}] * 4)]) == 4

    asyncio.run(main())


def test_whoever_is_slow_to_take_outcomes_gets_them_all(serve: Serve) -> None:
    process = serve(LARGE, options=("--param", "size=100000"))
    with dealer(process.endpoint, name=b"slow") as socket:
        socket.setsockopt(zmq.RCVHWM, 1)
        ask(socket, id=1, verb="expand", node="main", args={"inputs": [{}] * 2000, "stream": True})
        time.sleep(1.0)
        before, final = until_final(socket)
        assert len(before) == 2000
        assert all(each.outcome is not None and each.outcome.ok for each in before)
        assert final.error is None
