"""Connections whose streams are tampered with: the client connects again, and its request is done once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from snapserv_client.aio import connect

from ..chaos.house import OWNER, House
from ..chaos.proxy import Proxy
from ..chaos.schedule import TAMPERINGS, Event

UPWARDS, DOWNWARDS = 1, 2


@pytest.mark.parametrize("way", [UPWARDS, DOWNWARDS])
def test_a_client_gets_its_reply_over_a_stream_that_is_tampered_with(short_path: Path, way: int) -> None:
    """ZeroMQ gives a connection up for good where it has read what is no message."""

    async def go() -> None:
        house = House(short_path, "broken-streams")
        await house.start()
        proxy = Proxy(lambda: house.port, lambda how: None)
        await proxy.open()
        try:
            async with await connect(proxy.endpoint, keys=house.bundle(OWNER), timeout_s=20.0) as server:
                main = await server.branch("main")
                for number, how in enumerate(TAMPERINGS, start=1):
                    proxy.tamper(Event(0, "tamper", how, way + 2 * number))
                    assert (await main.step()).step == number, how
        finally:
            await proxy.close()
            assert await house.end() == 0

    asyncio.run(go())
