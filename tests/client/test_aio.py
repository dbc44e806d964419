"""The asyncio client: many requests at once, cancelling, timeouts, private servers, hostile servers."""

from __future__ import annotations

import asyncio
import gc
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import msgpack
import pytest
import zmq
import zmq.asyncio
from snapserv_client import Server, aio
from snapserv_client.errors import (
    BadRequestError,
    InternalError,
    RequestTimeoutError,
    SnapservError,
    StepInterruptedError,
)

from ..conftest import ServerProcess

Serve = Callable[..., ServerProcess]


def test_branches_step_at_once_and_results_come_back_to_who_asked(server: Server, endpoint: str) -> None:
    async def main() -> None:
        async with await aio.connect(endpoint, timeout_s=10) as client:
            trunk = await client.branch("main")
            snapshot = await trunk.snapshot()
            branches = await snapshot.branch(4, rng="split")
            results = await asyncio.gather(*(branch.step(3 + index) for index, branch in enumerate(branches)))
            assert [result.step for result in results] == [3, 4, 5, 6]
            counts = await asyncio.gather(*(branch.read("count") for branch in branches))
            assert [int(count) for count in counts] == [3, 4, 5, 6]
            assert (await client.diff(branches[0], branches[1]))["count"].changed == 1
            assert len(await client.tree(sizes=True)) == 7
            assert await branches[0].call("echo", 5) == 5
            await branches[0].write("count", 0)
            await branches[0].restore(snapshot)
            await branches[0].reset()
            assert (await branches[1].log())[0].name == "root"
            assert (await client.stats()).snapshots == 2
            assert (await client.spec()).simulation == "Walk"
            await snapshot.tag("t")
            await snapshot.pin()
            await snapshot.pin(False)
            assert (await client.snapshot("t")).id == snapshot.id
            assert await client.ping() > 0
            for branch in branches:
                await branch.drop()

    asyncio.run(main())


def test_cancelling_a_step_interrupts_it(server: Server, endpoint: str) -> None:
    async def main() -> int:
        async with await aio.connect(endpoint, timeout_s=10) as client:
            trunk = await client.branch("main")
            reported = asyncio.Event()
            task = asyncio.ensure_future(trunk.step(10**9, progress=lambda *_: reported.set()))
            await asyncio.wait_for(reported.wait(), 20)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return int(await trunk.read("count"))

    assert asyncio.run(main()) == server.branch("main").info().step > 0


def test_an_interrupt_reaches_who_awaits_the_step(server: Server, endpoint: str) -> None:
    async def main() -> None:
        async with await aio.connect(endpoint, timeout_s=10) as client:
            trunk = await client.branch("main")
            reported = asyncio.Event()
            task = asyncio.ensure_future(trunk.step(10**9, progress=lambda *_: reported.set()))
            await asyncio.wait_for(reported.wait(), 20)
            assert await trunk.interrupt()
            with pytest.raises(StepInterruptedError):
                await task

    asyncio.run(main())


def test_a_timeout_leaves_the_connection_usable(server: Server, endpoint: str) -> None:
    async def main() -> None:
        async with await aio.connect(endpoint, timeout_s=10) as client:
            trunk = await client.branch("main")
            with pytest.raises(RequestTimeoutError):
                await trunk.step(10**9, timeout_s=0.05)
            assert await trunk.interrupt()
            assert (await trunk.step()).ticks == 1

    asyncio.run(main())


def test_closing_fails_what_is_in_flight(server: Server, endpoint: str) -> None:
    async def main() -> None:
        client = await aio.connect(endpoint, timeout_s=10)
        trunk = await client.branch("main")
        reported = asyncio.Event()
        task = asyncio.ensure_future(trunk.step(10**9, progress=lambda *_: reported.set()))
        await asyncio.wait_for(reported.wait(), 20)
        await client.close()
        with pytest.raises(BadRequestError, match="closed"):
            await task
        with pytest.raises(BadRequestError, match="closed"):
            await client.ping()

    asyncio.run(main())
    assert server.branch("main").interrupt()


def test_closing_after_leaving_early_leaves_nothing_for_asyncio_to_complain_of(serve: Serve) -> None:
    complaints: list[dict[str, object]] = []

    async def main(endpoint: str) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        async with await aio.connect(endpoint, timeout_s=10) as client:
            trunk = await client.branch("main")
            outcomes = trunk.expand_as_completed([{}, *[{"how": "sleep", "at": 1}] * 3], parallel=4)
            async for outcome in outcomes:
                assert outcome.ok
                break  # and it is held still when the loop ends

    asyncio.run(main(serve("tests.simulations.trouble:Trouble").endpoint))
    gc.collect()
    assert complaints == []


def test_events_are_watched_with_async_for(serve: Serve) -> None:
    process = serve("tests.simulations.walk:Walk")

    async def main() -> list[str]:
        kinds: list[str] = []
        async with await aio.connect(process.endpoint, timeout_s=10) as client:
            trunk = await client.branch("main")

            async def follow() -> None:
                async for event in client.watch():
                    kinds.append(event.kind)

            following = asyncio.ensure_future(follow())
            while "tagged" not in kinds:
                await trunk.tag("x")
                await trunk.tag("x", remove=True)
                await asyncio.sleep(0.01)
            await trunk.snapshot()
            await client.shutdown()
            await asyncio.wait_for(following, 20)
        return [kind for kind in kinds if kind != "tagged"]

    assert asyncio.run(main()) == ["created", "shutdown"]


def test_local_starts_and_ends_a_private_server() -> None:
    async def main() -> tuple[int, Path]:
        async with await aio.local("tests.simulations.walk:Walk", cols=3) as client:
            trunk = await client.branch("main")
            assert (await trunk.step()).step == 1
            assert client.hello is not None
            return client.hello.pid, Path(client.endpoint.removeprefix("ipc://")).parent

    pid, folder = asyncio.run(main())
    assert not Path(f"/proc/{pid}").exists()
    assert not folder.exists()


async def _use(client: aio.Server) -> None:
    await client.ping()


def test_a_client_in_another_loop_is_refused_and_one_forgotten_does_not_hang(endpoint: str) -> None:
    client = asyncio.run(aio.connect(endpoint, timeout_s=10))

    with pytest.raises(BadRequestError, match="another event loop"):
        asyncio.run(_use(client))
    before = len(os.listdir("/proc/self/fd"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del client
        gc.collect()
    assert len(os.listdir("/proc/self/fd")) < before


@pytest.mark.parametrize(
    "frames",
    [
        [b"SS1"],
        [b"XX1", msgpack.packb({"id": 1, "ok": None})],
        [b"SS1", b"\xc1"],
        [b"SS1", msgpack.packb([1])],
        [b"SS1", msgpack.packb({"id": 1, "progress": {"nonsense": 1}})],
        [b"SS1", msgpack.packb({"id": 1, "error": 5})],
        [b"SS1", msgpack.packb({"id": 1, "ok": {"nonsense": 1}})],
        [b"SS1", msgpack.packb({"id": 1, "ok": msgpack.ExtType(1, b"")})],
    ],
)
def test_a_server_that_sends_nonsense_is_an_error_and_not_a_hang(tmp_path: Path, frames: list[bytes]) -> None:
    async def main() -> None:
        context = zmq.asyncio.Context()
        router = context.socket(zmq.ROUTER)
        router.bind(f"ipc://{tmp_path}/s.sock")

        async def answer() -> None:
            who, *_ = await router.recv_multipart()
            await router.send_multipart([who, *frames])

        answering = asyncio.ensure_future(answer())
        try:
            with pytest.raises(SnapservError) as caught:
                await asyncio.wait_for(aio.connect(f"ipc://{tmp_path}/s.sock", timeout_s=10), 20)
            assert isinstance(caught.value, InternalError)
            await answering
        finally:
            context.destroy(0)

    asyncio.run(main())


def test_connections_can_follow_one_another_in_one_loop(endpoint: str) -> None:
    async def main() -> None:
        for _ in range(3):
            async with await aio.connect(endpoint, timeout_s=10) as client:
                await client.ping()

    asyncio.run(main())
