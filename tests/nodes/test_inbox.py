"""Whatever comes from a cell is its messages in order, however it was cut, or a typed error; and it always ends."""

from __future__ import annotations

import socket
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snapserv.cell.link import PREFIX, Prefix, encode
from snapserv.ext import fork
from snapserv.nodes import inbox
from snapserv.nodes.inbox import GarbledError, Inbox, answer_of, progress_of


def read(*pieces: bytes) -> list[tuple[Prefix, bytes]]:
    """Return the messages of a stream that came in such pieces."""
    found: list[tuple[Prefix, bytes]] = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        reader = Inbox(lambda prefix, body: found.append((prefix, bytes(body))))
        for piece in pieces:
            theirs.sendall(piece)
            assert reader.read(ours)
        theirs.close()
        assert not reader.read(ours)
    return found


def packed(kind: int, value: Any) -> bytes:
    return b"".join(map(bytes, encode(kind, value)))


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_messages_are_the_same_however_they_are_cut(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.sampled_from([0, 10, 600, 70_000, 300_000]), min_size=1, max_size=4))
    values = [{"ok": {"array": np.full(size, number, np.uint8)}} for number, size in enumerate(sizes)]
    stream = b"".join(packed(fork.REPLY, value) for value in values)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    found = read(*filter(None, (part[at : at + 50_000] for part in pieces for at in range(0, len(part), 50_000))))
    for (prefix, body), value in zip(found, values, strict=True):
        view = memoryview(body)
        answer = answer_of(view[: prefix.header_bytes], view[prefix.header_bytes :])
        assert np.array_equal(answer["ok"]["array"], value["ok"]["array"])


@settings(deadline=None, max_examples=200)
@given(st.binary(min_size=PREFIX.size, max_size=200))
def test_stray_bytes_are_an_error_or_wait_for_no_more_than_there_can_be(content: bytes) -> None:
    kind, header, payload = PREFIX.unpack_from(content)
    if kind in (fork.REPLY, fork.PROGRESS, fork.HELLO, fork.FAILED, fork.FROZE) and header + payload < 1 << 20:
        return
    with pytest.raises(GarbledError):
        read(content)


@pytest.mark.parametrize(
    ("table", "payload"),
    [(struct.pack("=I1Q", 1, 5), 1 << 20), (struct.pack("=I", 1 << 30), 1 << 20), (b"\0", 1 << 20)],
)
def test_a_large_answer_is_received_only_where_its_parts_add_up(table: bytes, payload: int) -> None:
    with pytest.raises(GarbledError):
        read(PREFIX.pack(fork.REPLY, len(table), payload) + table + bytes(100))


def test_an_answer_for_which_there_is_no_memory_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 200 << 30
    monkeypatch.setattr(inbox, "bytearray", lambda _: (_ for _ in ()).throw(MemoryError()), raising=False)
    table = struct.pack("=I1Q", 1, size)
    with pytest.raises(GarbledError, match="no memory"):
        read(PREFIX.pack(fork.REPLY, len(table), size) + table)


@pytest.mark.parametrize("header", [b"", b"\0\0\0\0", b"\0\0\0\0\x81\xa2", b"\0\0\0\0\x05", b"\0\0\0\0\x80"])
def test_what_answers_nothing_is_an_error(header: bytes) -> None:
    with pytest.raises(GarbledError):
        answer_of(memoryview(header), memoryview(b""))
    with pytest.raises(GarbledError):
        progress_of(memoryview(header))


def test_keys_that_unpack_refuses_are_the_simulations_affair() -> None:
    whole = packed(fork.REPLY, {"ok": {(1, 2): 3}})[PREFIX.size :]
    assert "cannot be read" in answer_of(memoryview(whole), memoryview(b""))["error"]["message"]
    with pytest.raises(GarbledError):
        answer_of(memoryview(whole[:-1]), memoryview(b""))
