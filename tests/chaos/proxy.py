"""A proxy on loopback that tampers with the bytes between clients and the server.

CURVE authenticates every message, so that none of it can turn one valid request into another: the connection
breaks, and what was lost is asked for again. A change that only makes a peer wait for more bytes is noticed by
nobody; such a connection is cut a moment later, as a network would in the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable

from .schedule import Event

CHUNK_BYTES = 1 << 16
NOTICED_WITHIN_S = 0.5


class Proxy:
    """Listens, and passes bytes on to the server's port.

    Args:
        port: Returns where the server listens.
        count: Called with the way in which something was tampered with.
    """

    def __init__(self, port: Callable[[], int], count: Callable[[str], None]) -> None:
        self._port = port
        self._count = count
        self._armed: deque[Event] = deque()
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def endpoint(self) -> str:
        """The address to connect to."""
        assert self._server is not None
        return f"tcp://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def open(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def close(self) -> None:
        """Cut all connections."""
        assert self._server is not None
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()

    def tamper(self, event: Event) -> None:
        """Tamper with the next bytes that come by in one direction."""
        self._armed.append(event)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            with contextlib.suppress(OSError):
                upstream, downstream = await asyncio.open_connection("127.0.0.1", self._port())
                try:
                    await self._pass_on(reader, writer, upstream, downstream)
                finally:
                    downstream.close()
        finally:
            writer.close()
            self._serving.discard(task)

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        upstream: asyncio.StreamReader,
        downstream: asyncio.StreamWriter,
    ) -> None:
        """Pass bytes on in both directions until one of the two ends, or the connection was tampered with."""
        pumps = [
            asyncio.create_task(self._pump(reader, downstream, upwards=True)),
            asyncio.create_task(self._pump(upstream, writer, upwards=False)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, upwards: bool) -> None:
        while chunk := await source.read(CHUNK_BYTES):
            event = self._next(upwards)
            if event is None:
                sink.write(chunk)
                await sink.drain()
                continue
            self._count(event.how)
            if event.how != "cut":
                sink.write(tampered(chunk, event))
                await sink.drain()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(NOTICED_WITHIN_S):
                        while chunk := await source.read(CHUNK_BYTES):
                            sink.write(chunk)
                            await sink.drain()
            return

    def _next(self, upwards: bool) -> Event | None:
        if self._armed and (self._armed[0].draw % 2 == 1) == upwards:
            return self._armed.popleft()
        return None


def tampered(chunk: bytes, event: Event) -> bytes:
    """Return bytes as they are after an accident."""
    dice = random.Random(event.draw)
    at = dice.randrange(len(chunk))
    match event.how:
        case "flip":
            return chunk[:at] + bytes([chunk[at] ^ (1 << dice.randrange(8))]) + chunk[at + 1 :]
        case "drop":
            return chunk[:at] + chunk[at + 1 + dice.randrange(16) :]
        case "duplicate":
            return chunk + chunk
        case _:
            return chunk[:at]
