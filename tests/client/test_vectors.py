"""The golden vectors: every message reads as what it stands for, and is what is sent for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from snapserv_client import arrays, requests, wire

from ..conftest import ROOT

VECTORS: list[dict[str, Any]] = json.loads((ROOT / "docs" / "vectors.json").read_text())["vectors"]


def meant(value: Any) -> Any:
    """Return what a value of the file stands for."""
    match value:
        case {"float": str(text)}:
            return float(text)
        case {"int": str(text)}:
            return int(text)
        case {"bytes": str(text)}:
            return bytes.fromhex(text)
        case {"array": {"dtype": dtype, "shape": shape, "bytes": text}}:
            return np.frombuffer(bytes.fromhex(text), arrays.dtype_from_wire(dtype)).reshape(shape)
        case {"map": list(pairs)}:
            return {meant(key): meant(item) for key, item in pairs}
        case dict():
            return {key: meant(item) for key, item in value.items()}
        case list():
            return [meant(item) for item in value]
    return value


def assert_same(found: Any, wanted: Any) -> None:
    """Compare values of the same types, down to the bits of floats and of elements."""
    assert type(found) is type(wanted)
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key, item in wanted.items():
            assert_same(found[key], item)
    elif isinstance(wanted, Sequence) and not isinstance(wanted, str | bytes):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert_same(one, other)
    elif isinstance(wanted, np.ndarray):
        assert (found.dtype, found.shape, found.tobytes()) == (wanted.dtype, wanted.shape, wanted.tobytes())
    elif isinstance(wanted, float):
        assert np.float64(found).tobytes() == np.float64(wanted).tobytes()
    else:
        assert found == wanted


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_a_message_says_what_it_stands_for(vector: dict[str, Any]) -> None:
    first, header, *buffers = (bytes.fromhex(frame) for frame in vector["frames"])
    wanted = meant(vector["header"])
    assert_same(wire.unpack(header, buffers), wanted)
    if vector["sent_like_this"]:
        assert [header, *buffers] == [bytes(frame) for frame in wire.pack(wanted)]
    else:
        assert_same(wire.unpack(*_split(wire.pack(wanted))), wanted)
    if vector["socket"] == "events":
        event = requests.event_of([first, header, *buffers])
        assert event is not None
        assert event.kind == first.decode()
    elif "verb" not in wanted:
        reply = requests.Reply.parse([first, header, *buffers])
        assert reply.final == ("ok" in wanted or "error" in wanted)


def _split(frames: wire.Frames) -> tuple[bytes, list[bytes]]:
    header, *buffers = (bytes(frame) for frame in frames)
    return header, buffers


def test_the_vectors_cover_what_is_easily_got_wrong() -> None:
    text = json.dumps(VECTORS)
    for what in (
        "18446744073709551615",
        "9007199254740993",
        '"nan"',
        '"-0.0"',
        '"shape": []',
        "[0, 3]",
        ">i4",
        "|V7",
    ):
        assert what in text, what
    kinds = {kind for vector in VECTORS for kind in vector["header"]}
    assert {"progress", "outcome", "error", "ok", "notices", "sequence", "verb"} <= kinds
    assert any(len(vector["frames"]) > 3 for vector in VECTORS)
