"""Messages as bytes, and what each stands for: what another client tries its packing and unpacking with.

``docs/vectors.json`` is this. JSON has neither bytes nor NaN nor arrays with a dtype, and many of its readers no
ints beyond 2^53, so such values are maps of one key there: ``{"float": "-0.0"}``, ``{"bytes": "00ff"}``,
``{"int": "18446744073709551615"}``, ``{"array": {"dtype": "<f4", "shape": [2], "bytes": "0000803f00000040"}}``, and
``{"map": [[key, value], [key, value]]}`` where the keys are not all text. Every float is written so.

``frames`` are in hexadecimal. Where ``sent_like_this`` is false, they are only to be understood: whoever sends the
same value may write it in another way, and snapserv does. The order of the keys of a map means nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgpack
import numpy as np
from snapserv_client import arrays, errors, wire

SAFE_INT = 1 << 53

PADDED = np.dtype([("kind", "u1"), ("where", "<f8")], align=True)
NESTED = np.dtype([("at", "<i2", (2,)), ("inner", [("a", ">u4"), ("b", "S3")])])


class Vector(NamedTuple):
    """One message.

    Attributes:
        name: What it shows.
        value: What it stands for.
        frames: Its frames, where they are not what snapserv would send: then they are only to be read.
        on: Which socket it is on: ``requests`` or ``events``.
        kind: Of an event, its first frame.
    """

    name: str
    value: Any
    frames: list[bytes] | None = None
    on: str = "requests"
    kind: bytes = wire.MAGIC

    @property
    def message(self) -> list[bytes]:
        """The frames."""
        return self.frames or [self.kind, *(bytes(frame) for frame in wire.pack(self.value))]


NODE = {"id": 5, "name": "s5", "tree": "default", "kind": "snapshot", "state": "idle", "parent": 1, "step": 2}
NODE |= {"created": 1767225600.5, "tags": ["best"], "pinned": False, "pid": 4711}


def vectors() -> list[Vector]:
    """Return all of them."""
    step = {"id": 7, "verb": "step", "node": "main", "args": {"ticks": 2, "inputs": {"drift": 0.5}}}
    read = {"id": 8, "verb": "read", "node": "main", "args": {"field": "position", "region": [[0, 2, None]]}}
    two = np.array([1.0, 2.0], "<f4")
    inline = {"id": 8, "ok": {"value": two, "step": 2}}
    not_found = errors.NotFoundError("no node 'x'", hint="list the nodes with tree").to_wire()
    interrupted = errors.StepInterruptedError(
        "interrupted after 3 of 9 ticks", details={"step": 5, "ticks": 3, "rolled_back_to": None}
    )
    mismatch = errors.VersionMismatchError("this server speaks version 1 of the protocol", details={"protocol": 1})
    outcome = {"index": 1, "ok": True, "step": 3, "ticks": 1, "outputs": {"reward": 0.25}, "totals": {}}
    outcome |= {"fields": {"position": two}, "finished": False, "elapsed_us": 412, "error": None}
    failed = {"index": 0, "ok": False, "step": 0, "ticks": 0, "outputs": None, "totals": {}, "fields": {}}
    failed |= {"finished": False, "elapsed_us": 0, "error": not_found}
    expanded = {"outcomes": [], "kept": [], "snapshot": None}
    later = {"id": 7, "ok": {"step": 2, "ticks": 2, "outputs": {}, "elapsed_us": 90, "moon": 1}, "tide": 3}
    notice = {"code": "rng_unchanged", "message": "there was no stream to change", "hint": "", "details": {}}
    return [
        Vector("a request: two ticks of `main` with an input", step),
        Vector("a request for a region of a field", read),
        Vector("its reply: an array of two `<f4`, inline as it is small", inline),
        Vector("the same reply, with the elements in a buffer frame", inline, _in_buffers(inline)),
        Vector("a large array, which always has a buffer frame", _value(np.arange(200, dtype="<u4"))),
        Vector("two arrays, each with its own buffer frame", _value([two, -two]), _in_buffers(_value([two, -two]))),
        Vector("progress of a step", {"id": 7, "progress": {"done": 40, "total": 100}}),
        Vector("an outcome of an expansion", {"id": 9, "outcome": outcome}),
        Vector("an outcome that failed", {"id": 9, "outcome": failed}),
        Vector("the final reply of a streamed expansion", {"id": 9, "ok": expanded}),
        Vector("an error", {"id": 9, "error": not_found}),
        Vector("an error with details", {"id": 7, "error": interrupted.to_wire()}),
        Vector("an error about a message whose id could not be read", {"id": 0, "error": mismatch.to_wire()}),
        Vector("a result with a notice", {"id": 7, "ok": {"node": NODE}, "notices": [notice]}),
        Vector("an empty result", {"id": 3, "ok": {}}),
        Vector("an event about a node", {**_event(1, "created"), "node": NODE}, None, "events", b"created"),
        Vector("an event with a text", {**_event(2, "tree"), "text": "t2"}, None, "events", b"tree"),
        Vector("the last event", _event(3, "shutdown"), None, "events", b"shutdown"),
        Vector("an array of shape []", _value(np.array(7, "<i8"))),
        Vector("an array of shape [0, 3]", _value(np.empty((0, 3), "<f8"))),
        Vector("big-endian elements", _value(np.array([1, -2], ">i4"))),
        Vector("booleans", _value(np.array([True, False]))),
        Vector("half precision", _value(np.array([1.5, -2], "<f2"))),
        Vector("complex elements", _value(np.array([1 + 2j], "<c8"))),
        Vector("bytes of fixed length", _value(np.array([b"ab", b"c"], "S3"))),
        Vector("text of fixed length", _value(np.array(["ä", ""], "<U2"))),
        Vector("a moment, and NaT", _value(np.array(["2024-02-29", "NaT"], "<M8[D]"))),
        Vector("a duration", _value(np.array(90, "<m8[s]"))),
        Vector("raw elements", _value(np.array([b"abcd"], "V4"))),
        Vector("records with padding", _value(np.array([(1, 0.5)], PADDED))),
        Vector("records within records, and a subarray", _value(np.array([([1, 2], (3, b"xy"))], NESTED))),
        Vector("NaN, infinities and -0 as elements", _value(np.array([np.nan, np.inf, -np.inf, -0.0], "<f8"))),
        Vector("NaN with a payload", _value(np.frombuffer(bytes.fromhex("010000000000f87f"), "<f8"))),
        Vector("NaN, infinity and -0 as values", _value([float("nan"), float("inf"), -0.0])),
        Vector("ints at the edges", _value([-1, 127, 128, SAFE_INT + 1, (1 << 63) - 1, -(1 << 63), (1 << 64) - 1])),
        Vector("bytes, text, nil, booleans and nested values", _value([b"\x00\xff", "ä", None, True, {"a": [{}]}])),
        Vector("a map whose keys are ints", _value({1: "one", -2: "minus two"})),
        Vector("ints that take more bytes than they need", {"id": 7, "ok": {"step": 2}}, _wide()),
        Vector("a float of four bytes", _value(0.5), [wire.MAGIC, _packed(_value(0.5), use_single_float=True)]),
        Vector("a reply of a later server, with keys that nobody knows", later),
        Vector(
            "a kind of message that nobody knows, and that is no final reply", {"id": 7, "tide": {"high": True}}
        ),
    ]


def described() -> list[dict[str, Any]]:
    """Return every vector as JSON can hold it."""
    return [
        {
            "name": vector.name,
            "socket": vector.on,
            "frames": [frame.hex() for frame in vector.message],
            "header": tagged(vector.value),
            "sent_like_this": vector.frames is None,
        }
        for vector in vectors()
    ]


def tagged(value: Any) -> Any:
    """Return a value as JSON can hold it, as the module's docstring says."""
    if isinstance(value, np.ndarray):
        content = bytes(arrays.array_bytes(value)).hex()
        return {"array": {"dtype": arrays.dtype_to_wire(value.dtype), "shape": list(value.shape), "bytes": content}}
    if isinstance(value, float):
        return {"float": repr(value)}
    if isinstance(value, int) and abs(value) > SAFE_INT:
        return {"int": str(value)}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, dict):
        if all(isinstance(key, str) for key in value):
            return {key: tagged(item) for key, item in value.items()}
        return {"map": [[tagged(key), tagged(item)] for key, item in value.items()]}
    return [tagged(item) for item in value] if isinstance(value, list) else value


def _value(value: Any) -> dict[str, Any]:
    return {"id": 4, "ok": {"value": value}}


def _event(sequence: int, kind: str) -> dict[str, Any]:
    return {"sequence": sequence, "kind": kind, "time": 1767225600.25, "node": None, "text": ""}


def _packed(value: Any, **options: Any) -> bytes:
    return bytes(msgpack.packb(value, **options))


def _in_buffers(value: Any) -> list[bytes]:
    """Return the frames of a message in which every array has a buffer, however small it is."""
    buffers: list[bytes] = []

    def default(array: Any) -> Any:
        buffers.append(bytes(arrays.array_bytes(array)))
        described = [arrays.dtype_to_wire(array.dtype), list(array.shape), len(buffers) - 1]
        return msgpack.ExtType(wire.ARRAY_EXTENSION, msgpack.packb(described))

    header = _packed(value, default=default)
    return [wire.MAGIC, header, *buffers]


def _wide() -> list[bytes]:
    """Return the frames of a reply as a packer may write it that knows one width of each type only."""
    text = {name: b"\xdb" + len(name).to_bytes(4, "big") + name.encode() for name in ("id", "ok", "step")}
    inner = b"\xdf\x00\x00\x00\x01" + text["step"] + b"\xcf" + (2).to_bytes(8, "big")
    return [
        wire.MAGIC,
        b"\xdf\x00\x00\x00\x02" + text["id"] + b"\xd3" + (7).to_bytes(8, "big") + text["ok"] + inner,
    ]
