"""Whatever is sent, the server answers or ignores it."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from snapserv_client import requests, wire
from snapserv_client.protocol import VERBS

from ..conftest import ServerProcess, start_server
from .conftest import answer, dealer

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=24))
    | st.builds(msgpack.Timestamp, st.integers(0, 1 << 32)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
ARGUMENTS = st.dictionaries(
    st.sampled_from(sorted({name for verb in VERBS.values() for name in verb.args.__struct_fields__})),
    VALUES | st.sampled_from(["main", "root", "count", "position", "echo", 1, 2]),
    max_size=4,
)
HEADERS = st.fixed_dictionaries(
    {"id": st.integers(0, 1 << 20), "verb": st.sampled_from(sorted(set(VERBS) - {"shutdown"}))},
    optional={"node": st.sampled_from(["main", "root", 1, 2]) | VALUES, "args": ARGUMENTS | VALUES},
)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = start_server(tmp_path_factory.mktemp("fuzz"), "tests.simulations.walk:Walk")
    yield server
    assert server.end(signal.SIGTERM) == 0, server.log.read_text()
    assert "internal_error" not in server.log.read_text()


RESTS = st.lists(st.binary(max_size=64), max_size=3)
MESSAGES = st.builds(lambda header, rest: [wire.MAGIC, msgpack.packb(header), *rest], HEADERS, RESTS)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=64), max_size=5) | MESSAGES)
def test_the_server_answers_or_ignores_whatever_is_sent(fuzzed: ServerProcess, frames: list[bytes]) -> None:
    with dealer(fuzzed.endpoint) as socket:
        if frames:
            socket.send_multipart(frames)
        socket.send_multipart(requests.ping().frames(1 << 40))
        while (reply := answer(socket)).id != 1 << 40:
            assert reply.error is None or reply.error.code != "internal"
