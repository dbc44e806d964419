"""Doing again elsewhere what a history says, and what comes of it where an action fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from snapserv_client import Server, aio, requests
from snapserv_client.errors import (
    BadRequestError,
    NameTakenError,
    NodeDiedError,
    SimulationError,
    SnapservError,
    TooLargeError,
)
from snapserv_client.protocol import CallAction, StepAction

from ..conftest import ServerProcess, assert_settles, statistics

Serve = Callable[..., ServerProcess]


def test_a_node_is_rebuilt_on_another_server(server: Server, serve: Serve) -> None:
    main = server.branch("main")
    main.step(3, drift=0.5)
    main.write("position", np.linspace(0, 1, 1000))
    (branch,) = main.snapshot("s").branch(1, rng="split")
    branch.step(4)
    with serve("tests.simulations.walk:Walk").connect() as elsewhere:
        made = elsewhere.replay(branch.actions(), name="made")
        assert made.info().step == 7
        assert np.array_equal(made.read("position"), branch.read("position"))
        hashes = [[field.hash for field in node.verify().fields] for node in (branch, made)]
        assert hashes[0] == hashes[1]
        half = elsewhere.replay(branch.actions()[:1]).snapshot("half")
        rest = elsewhere.replay(branch.actions()[1:], start=half)
        assert rest.diff(made).same


def test_an_action_that_fails_is_named_and_nothing_is_left(server: Server) -> None:
    main = server.branch("main")
    before = statistics(_server_pid(server))
    main.step(2)
    actions: list[Any] = [*main.actions(), {"kind": "write", "field": "position", "value": "text"}]
    with pytest.raises(BadRequestError, match=r"action 1 \(write\)") as caught:
        server.replay(actions, name="made")
    assert caught.value.details["index"] == 1
    with pytest.raises(SimulationError, match=r"action 1 \(step\): it raised when"):
        server.replay([actions[0], StepAction(ticks=1, raised=True)], name="made")
    with pytest.raises(SnapservError) as missing:
        server.replay([*actions[:1] * 2, {"kind": "call", "method": "hidden"}], name="made")
    assert (missing.value.code, missing.value.details["index"]) == ("not_found", 2)
    with pytest.raises(NameTakenError):
        server.replay(actions[:1], name="main")
    for wrong in ([{"kind": "nothing"}], [{"kind": "step"}], [{"kind": "step", "ticks": -1}], [1]):
        with pytest.raises(BadRequestError):
            server.replay(wrong)
    with pytest.raises(BadRequestError, match="live branch"):
        server.replay([], start="main")
    with pytest.raises(TooLargeError, match="replay a part"):
        server.replay([StepAction(ticks=1, inputs={"drift": float(n)}) for n in range(20_000)])
    assert [node.name for node in server.tree()] == ["root", "main"]
    assert_settles(lambda: statistics(_server_pid(server))["children"], before["children"])


def _server_pid(server: Server) -> int:
    assert server.hello is not None
    return server.hello.pid


def test_an_action_that_kills_is_named_as_well(serve: Serve) -> None:
    with serve("tests.simulations.trouble:Trouble").connect() as server:
        with pytest.raises(NodeDiedError, match=r"action 1 \(call\)") as caught:
            server.replay([StepAction(ticks=3), CallAction(method="fail", args=["segfault"])])
        assert (caught.value.details["signal"], caught.value.details["step"]) == ("SIGSEGV", 3)
        assert [node.name for node in server.tree()] == ["root", "main"]


def test_a_long_replay_delays_nobody_and_can_be_interrupted(server: Server) -> None:
    raised: list[SnapservError] = []
    interrupt = requests.interrupt("main", request=2)

    async def both() -> None:
        async with await aio.connect(server.endpoint, timeout_s=10) as client:
            running = asyncio.ensure_future(client.replay([StepAction(ticks=1, repeat=10**9)], name="long"))
            await asyncio.sleep(0.05)
            assert await client.ping() < 1
            assert (await (await client.branch("main")).step()).step == 1
            assert await client._run(interrupt)
            try:
                await running
            except SnapservError as error:
                raised.append(error)

    asyncio.run(both())
    assert [error.code for error in raised] == ["interrupted"]
    assert [node.name for node in server.tree()] == ["root", "main"]
