"""Verifying a node: replays from before it lead to the same state, or the first difference is named."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from snapserv_client import Server, aio, requests
from snapserv_client.errors import BadRequestError, NodeDiedError, StepInterruptedError

from ..actions import told
from ..conftest import ServerProcess, assert_settles, statistics

Serve = Callable[..., ServerProcess]
WILDFIRE = "snapserv.examples.wildfire:Wildfire"


def test_wildfire_is_verified_from_the_root_and_from_any_ancestor(serve: Serve) -> None:
    with serve(WILDFIRE, params={"rows": 512, "cols": 512}).connect() as server:
        main = server.branch("main")
        main.step(50, wind=(3.0, 0.0))
        early = main.snapshot("early")
        main.step(50)
        late = main.snapshot("late")
        (branch,) = late.branch(1, rng="split")
        branch.step(20, wind=(0.0, -8.0))
        for node, ticks in ((early, 50), (late, 100), (main, 100), (branch, 120), (server.node("root"), 0)):
            found = node.verify()
            assert found, found
            assert found.result.ticks == ticks
        assert branch.verify(since=early).result.ticks == 70
        assert branch.verify(since="late").result.ticks == 20
        assert "verified" in str(branch.verify(since=late))
        assert [node.name for node in server.tree()] == ["root", "main", "early", "late", branch.name]


def test_a_simulation_without_fields_is_verified_by_what_it_puts_out(serve: Serve) -> None:
    with serve("tests.simulations.chance:Dice").connect() as server:
        main = server.branch("main")
        for _ in range(20):
            main.step(1)
        main.step(5, sides=20)
        found = main.verify()
        assert found
        assert found.fields == []
        assert found.result.ticks == 25


@pytest.mark.parametrize("at_once", [True, False])
def test_the_first_step_that_cannot_be_repeated_is_named(serve: Serve, at_once: bool) -> None:
    with serve("tests.simulations.chance:Dice", params={"fair_from": 7}).connect() as server:
        main = server.branch("main")
        main.step(6)
        assert main.verify()
        main.reset()
        for ticks in [10] if at_once else [1] * 10:
            main.step(ticks)
        found = main.verify()
        assert not found
        assert (found.result.after, found.step, found.result.parted) == (6, 7, 7)
        assert found.deterministic is False
        assert "not deterministic: two replays part at step 7" in str(found)


def test_a_field_that_differs_is_named_with_the_step_although_no_output_tells(serve: Serve) -> None:
    with serve("tests.simulations.timing:Clock", params={"notes_from": 150}).connect() as server:
        main = server.branch("main")
        main.step(100)
        main.snapshot("good")
        assert main.verify()
        main.step(100)
        main.snapshot("bad")
        main.step(1000)
        found = main.verify()
        assert found.differing == ["noted"]
        assert found.result.outputs
        assert (found.result.after, found.step, found.result.parted) == (149, 150, 150)
        assert found.deterministic is False
        assert not server.node("bad").verify(since="good")


def test_a_node_that_was_changed_by_no_action_is_told_from_chance(serve: Serve) -> None:
    """Two replays agree, and the node is another: snapshots on the way say between which steps that came to be."""
    with serve("tests.simulations.timing:Clock", params={"notes_from": 10**9}).connect() as server:
        main = server.branch("main")
        for number in range(4):
            main.step(10)
            main.snapshot(f"s{number}")
        with open(f"/proc/{main.info().pid}/mem", "r+b", buffering=0) as memory:
            memory.seek(_address(main.info().pid))
            memory.write((41).to_bytes(8, "little"))
        main.step(10)
        found = main.verify()
        assert found.differing == ["count"]
        assert found.deterministic is True
        assert (found.result.after, found.step) == (40, 50)
        assert server.node("s3").verify()


def test_a_replay_that_fails_where_the_node_did_not_is_a_difference(serve: Serve, tmp_path: Path) -> None:
    forbidden = tmp_path / "forbidden"
    params = {"notes_from": 10**9, "forbidden": str(forbidden)}
    with serve("tests.simulations.timing:Clock", params=params).connect() as server:
        main = server.branch("main")
        main.step(5)
        main.step(10)
        main.step(3)
        forbidden.touch()
        found = main.verify()
        assert not found
        assert "action 1 (step): Clock.step raised FileExistsError" in found.result.error
        assert (found.result.action, found.step) == (1, 15)
        assert found.deterministic is True
        assert "the replay ended early" in str(found)


def test_a_verification_that_is_given_up_or_cut_off_leaves_nothing(serve: Serve) -> None:
    process = serve("tests.simulations.walk:Walk")

    async def given_up() -> None:
        async with await aio.connect(process.endpoint, timeout_s=10) as client:
            main = await client.branch("main")
            for _ in range(4):
                await main.step(30_000)
            before = statistics(process.pid)
            verify = requests.verify("main", None, progress=False)
            running = asyncio.ensure_future(client._run(verify))
            while statistics(process.pid)["children"] == before["children"]:
                await asyncio.sleep(0.01)
            number = client._connection._last_id
            assert await client._run(requests.interrupt("main", request=number))
            with pytest.raises(StepInterruptedError):
                await running
            assert_settles(lambda: statistics(process.pid)["children"], before["children"])
            asyncio.ensure_future(client._run(verify))  # noqa: RUF006 - the server ends before it does
            while statistics(process.pid)["children"] == before["children"]:
                await asyncio.sleep(0.01)

    asyncio.run(given_up())
    assert process.end() == 0


def _address(pid: int) -> int:
    """Return where the first field lies: at the start of the first private mapping of a file that is writable."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        words = line.split(maxsplit=5)
        if words[1] == "rw-p" and len(words) > 5 and ("memfd:snapserv" in words[5] or words[5].startswith("/#")):
            return int(words[0].split("-")[0], 16)
    pytest.skip("the arena has no file")


def test_what_is_no_past_of_a_node_is_refused(serve: Serve) -> None:
    with serve("tests.simulations.rewinding:Rewindable").connect() as server:
        main = server.branch("main")
        main.step()
        main.mark()
        main.step()
        lost = main.snapshot("lost")
        main.rewind()
        main.step(2)
        with pytest.raises(BadRequestError, match="rewound to before lost"):
            main.verify(since=lost)
        assert main.verify()
        with pytest.raises(BadRequestError, match="no ancestor"):
            server.node("root").verify(since=lost)
        with pytest.raises(BadRequestError, match="live branch"):
            main.verify(since=main.id)


def test_a_dead_node_or_ancestor_is_a_typed_error_and_the_rest_goes_on(serve: Serve) -> None:
    with serve("tests.simulations.trouble:Trouble").connect() as server:
        main = server.branch("main")
        main.step(2)
        taken = main.snapshot("taken")
        os.kill(server.node("root").info().pid, signal.SIGKILL)
        assert_settles(lambda: server.node("root").info().state, "dead")
        with pytest.raises(NodeDiedError):
            main.verify()
        assert main.verify(since=taken).ok
        assert told(taken.actions()) == ["0: step 2 x1"]


def test_while_a_node_is_verified_others_and_the_node_itself_go_on(server: Server) -> None:
    async def both() -> Any:
        async with await aio.connect(server.endpoint, timeout_s=10) as client:
            main = await client.branch("main")
            for _ in range(3):
                await main.step(20_000)
            running = asyncio.ensure_future(main.verify())
            after = await main.step()
            was_running = not running.done()
            actions = await main.actions()
            return await running, after.step, was_running, actions

    found, step, was_running, actions = asyncio.run(both())
    assert found.ok
    assert was_running
    assert step == 60_001
    assert told(actions) == ["0: step 20000 x3", "60000: step 1 x1"]
