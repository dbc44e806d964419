"""A client that sends corrupted copies of real messages. Its key may only read: none of them can do harm."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import zmq
import zmq.asyncio
from snapserv_client import requests
from snapserv_client.errors import SnapservError
from snapserv_client.keys import client_keys
from snapserv_client.requests import Reply
from snapserv_client.transport import routing_id

from .report import FaultFoundError
from .schedule import BURST, Event

ANSWER_WITHIN_S = 60.0
ASK_AGAIN_AFTER_S = 1.0
BOMBS = (
    b"\xdd\xff\xff\xff\xff" * 3000,  # lists of four billion entries, within each other
    b"\x91" * 100_000,  # lists a hundred thousand deep
    b"\xdf\x7f\xff\xff\xff" + b"\xc0" * 2000,  # a map that says that it is long
    b"\xc6\xff\xff\xff\xff",  # bytes that never come
    b"\xc7\xff\x01" + b"\0" * 255,  # an array that is none
)

SAMPLES = (
    requests.hello("vandal"),
    requests.ping(),
    requests.tree(None, offset=0, sizes=False),
    requests.step("main", 3, {"pattern": 1}, progress=True),
    requests.read("main", "cloth", slice(0, 64)),
    requests.write("main", "cloth", list(range(16)), slice(0, 16)),
    requests.snapshot("main", "vandalised"),
    requests.branch("root", 2, None, "same"),
    requests.restore("main", "root", "same"),
    requests.drop("main", recursive=True, force=True),
    requests.lineage("main"),
    requests.shutdown(),
)


class Vandal:
    """Sends a burst of corrupted messages when it is told to, and sees that the server still answers."""

    def __init__(self, endpoint: str, keys: Path) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        plain = self._context.socket(zmq.DEALER)
        plain.setsockopt(zmq.LINGER, 0)
        plain.setsockopt(zmq.ROUTING_ID, routing_id())
        client_keys(keys).secure(plain)
        plain.connect(endpoint)
        self._plain = plain
        self._socket = zmq.asyncio.Socket(shadow=plain)
        self._last_id = 1 << 40  # which no corrupted message happens to have

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        self._plain.close(0)
        self._context.term()

    async def vandalise(self, event: Event) -> int:
        """Send a burst; return how many messages it was.

        Raises:
            FaultFoundError: The server does not answer any more.
        """
        sent = 0
        for frames in corrupted(event.draw):
            await self._socket.send_multipart(frames)
            sent += 1
        self._last_id += 1
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                while not await self._answers():
                    pass
        except TimeoutError:
            raise FaultFoundError("surprise", "the server does not answer after corrupted messages") from None
        return sent

    async def _answers(self) -> bool:
        await self._socket.send_multipart(requests.ping().frames(self._last_id))
        try:
            async with asyncio.timeout(ASK_AGAIN_AFTER_S):
                while True:
                    try:
                        reply = Reply.parse(await self._socket.recv_multipart())
                    except SnapservError as error:
                        raise FaultFoundError("surprise", f"a reply that is none: {error}") from error
                    if reply.id == self._last_id and reply.error is None:
                        return True
        except TimeoutError:
            return False


def corrupted(seed: int) -> Iterator[list[bytes]]:
    """Yield a burst of corrupted messages, the same ones for the same seed."""
    dice = random.Random(seed)
    for _ in range(BURST):
        request = dice.choice(SAMPLES)
        frames = [bytes(frame) for frame in request.frames(dice.randrange(1, 1 << 16))]
        match dice.choice(("flip", "truncate", "duplicate", "insert", "bomb", "swap", "beheaded", "frames")):
            case "flip":
                for _ in range(1 + dice.randrange(4)):
                    frames[1] = _flipped(dice, frames[1])
            case "truncate":
                frames[1] = frames[1][: dice.randrange(len(frames[1]))]
            case "duplicate":
                frames[1] += frames[1]
            case "insert":
                at = dice.randrange(len(frames[1]))
                frames[1] = frames[1][:at] + dice.randbytes(1 + dice.randrange(64)) + frames[1][at:]
            case "bomb":
                frames[1] = dice.choice(BOMBS)
            case "swap":
                frames.reverse()
            case "beheaded":
                del frames[0]
            case "frames":
                frames += [dice.randbytes(dice.randrange(64)) for _ in range(dice.randrange(300))]
        yield frames


def _flipped(dice: random.Random, frame: bytes) -> bytes:
    at = dice.randrange(len(frame))
    return frame[:at] + bytes([frame[at] ^ (1 << dice.randrange(8))]) + frame[at + 1 :]
