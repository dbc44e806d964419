"""A server that has keys, and clients that speak to it in frames."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zmq
from snapserv_client import Server, connect
from snapserv_client.keys import SERVER_KEY, client_keys
from snapserv_client.requests import Reply
from snapserv_client.transport import routing_id

from snapserv.server.keymaking import make_client_keys, make_server_keys

from ..conftest import ServerProcess

Serve = Callable[..., ServerProcess]
ANSWER_WITHIN_MS = 20_000
SILENT_FOR_MS = 1500
"""How long a stranger is left without an answer before we take it that none comes; known clients take one."""


@dataclass
class Keyed:
    """A server that has keys, and the folders of its clients."""

    server: ServerProcess
    keys: Path

    @property
    def endpoint(self) -> str:
        return self.server.endpoint

    def folder(self, name: str) -> Path:
        return self.keys / "clients" / name

    def connect(self, name: str, **options: Any) -> Server:
        return connect(self.endpoint, keys=self.folder(name), timeout_s=20.0, **options)

    def log(self, event: str) -> list[dict[str, Any]]:
        lines = self.server.log.read_text().splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [line for line in found if line["event"] == event]


@pytest.fixture
def keyed(serve: Serve, tmp_path: Path) -> Keyed:
    """A server on loopback that knows ana, who may do everything, and rob, who may read."""
    keys = tmp_path / "keys"
    make_server_keys(keys)
    make_client_keys(keys, "ana", read_only=False)
    make_client_keys(keys, "rob", read_only=True)
    options = ("--endpoint", "tcp://127.0.0.1:*", "--keys", str(keys))
    return Keyed(serve("tests.simulations.walk:Walk", options=options), keys)


def forge(keyed: Keyed, folder: Path) -> Path:
    """Return a folder with the right server's key, and a key that it does not know."""
    other = folder / "forged"
    make_server_keys(other / "own")
    make_client_keys(other / "own", "eve", read_only=False)
    eve = other / "own" / "clients" / "eve"
    shutil.copyfile(keyed.keys / SERVER_KEY, eve / SERVER_KEY)
    return eve


@contextlib.contextmanager
def dealer(endpoint: str, keys: Path | None = None, name: bytes | None = None) -> Iterator[zmq.Socket[bytes]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.ROUTING_ID, name or routing_id())
    if keys is not None:
        client_keys(keys).secure(socket)
    socket.connect(endpoint)
    try:
        yield socket
    finally:
        context.destroy(0)


def answer(socket: zmq.Socket[bytes]) -> Reply:
    assert socket.poll(ANSWER_WITHIN_MS), "no reply"
    return Reply.parse(socket.recv_multipart())
