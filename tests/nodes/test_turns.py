"""Turns over lanes: who waits for whom, in which order, and nobody for ever."""

from __future__ import annotations

import asyncio

from snapserv.nodes.turns import NodeQueue, Turn


def test_turns_over_shared_lanes_come_in_order_and_never_deadlock() -> None:
    async def play() -> list[str]:
        a, b, c = NodeQueue(), NodeQueue(), NodeQueue()
        order: list[str] = []

        async def use(name: str, turn: Turn) -> None:
            async with turn:
                order.append(f"{name}+")
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                order.append(f"{name}-")

        plans = [
            ("ab", Turn(a, b)),
            ("ba", Turn(b, a)),
            ("c", Turn(c)),
            ("read1", Turn(shared=[a])),
            ("read2", Turn(shared=[a, c])),
            ("a", Turn(a)),
            ("mixed", Turn(b, shared=[c])),
        ]
        await asyncio.wait_for(asyncio.gather(*(use(*plan) for plan in plans)), 10)
        assert not any(queue.busy for queue in (a, b, c))
        return order

    order = asyncio.run(play())
    for earlier, later in (
        ("ab", "ba"),
        ("ba", "read1"),
        ("ba", "read2"),
        ("c", "read2"),
        ("read1", "a"),
        ("ba", "mixed"),
    ):
        assert order.index(f"{earlier}-") < order.index(f"{later}+")
    assert order.index("read2+") < order.index("read1-"), "two that only read go together"


def test_whoever_gives_up_waiting_leaves_the_lane() -> None:
    async def play() -> None:
        queue = NodeQueue()
        first, second, third = Turn(queue), Turn(queue), Turn(queue)
        async with first:
            waiting = asyncio.ensure_future(second.__aenter__())
            last = asyncio.ensure_future(third.__aenter__())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            assert not last.done()
        await asyncio.wait_for(last, 10)

    asyncio.run(play())
