"""Frames: every array and value comes out as it went in, and no bytes do harm."""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from snapserv_client import arrays, errors, wire
from snapserv_client.errors import BadRequestError, SnapservError, TooLargeError, error_from_wire

STRUCTURED = np.dtype([("where", "<f4", (2, 3)), ("kind", "u1"), ("inner", [("a", "i8"), ("b", "S3")])])


def there_and_back(value: Any) -> Any:
    header, *buffers = (bytes(frame) for frame in wire.pack(value))
    return wire.unpack(header, buffers)


@settings(deadline=None)
@given(
    hnp.arrays(
        dtype=hnp.scalar_dtypes()
        | hnp.array_dtypes(max_size=3)
        | hnp.byte_string_dtypes()
        | hnp.unicode_string_dtypes(),
        shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
    )
)
def test_arrays_of_every_dtype_and_shape_come_out_as_they_went_in(array: np.ndarray[Any, Any]) -> None:
    back = there_and_back({"value": array})["value"]
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


@pytest.mark.parametrize("order", ["C", "F"])
def test_structured_strided_and_scalar_arrays_survive(order: Any) -> None:
    records = np.zeros((3, 4), STRUCTURED)
    records["where"] = 1.5
    grid = np.asarray(np.arange(24.0).reshape(4, 6), order=order)
    back = there_and_back([records, grid[::2, ::-1], np.float32(2.5), np.array(7)])
    assert back[0].dtype == STRUCTURED
    assert np.array_equal(back[0], records)
    assert np.array_equal(back[1], grid[::2, ::-1])
    assert back[2:] == [2.5, np.array(7)]


def test_a_received_array_is_a_view_of_its_frame() -> None:
    header, *buffers = wire.pack({"value": np.arange(1000)})
    value = wire.unpack(header, buffers)["value"]
    assert np.shares_memory(value, np.frombuffer(buffers[0], np.uint8))


@pytest.mark.parametrize(
    "value", [object(), {"x": {1, 2}}, np.array([object()]), 1 << 70, np.zeros(2, [("a", "O")])]
)
def test_what_cannot_be_carried_is_refused(value: Any) -> None:
    with pytest.raises(BadRequestError):
        wire.pack(value)


def test_too_much_is_refused() -> None:
    with pytest.raises(TooLargeError, match="numpy arrays"):
        wire.pack("x" * (wire.MAX_HEADER_BYTES + 1))
    with pytest.raises(TooLargeError):
        wire.pack([np.zeros(wire.INLINE_BYTES)] * (wire.MAX_BUFFERS + 1))
    with pytest.raises(TooLargeError):
        wire.unpack(b"\xc0" * (wire.MAX_HEADER_BYTES + 1))


def test_small_arrays_travel_in_the_header_until_they_are_many() -> None:
    small = np.arange(wire.INLINE_BYTES, dtype=np.uint8)
    many = wire.MAX_INLINE_BYTES // wire.INLINE_BYTES + 3
    assert len(wire.pack([small])) == 1
    assert len(wire.pack([np.append(small, 0)])) == 2
    header, *buffers = wire.pack([small] * many)
    assert len(buffers) == 3
    for array in wire.unpack(header, buffers):
        assert np.array_equal(array, small)


@settings(deadline=None, max_examples=400)
@given(st.binary(max_size=300), st.lists(st.binary(max_size=40), max_size=3))
def test_hostile_bytes_raise_nothing_but_typed_errors(header: bytes, buffers: list[bytes]) -> None:
    with contextlib.suppress(SnapservError):
        wire.unpack(header, buffers)


DESCRIPTIONS = st.recursive(
    st.none()
    | st.integers()
    | st.text(max_size=6)
    | st.sampled_from(["<f8", "|O", "|u1", "<U3", "<M8[ns]", "|V4"]),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


@settings(deadline=None, max_examples=400)
@example("a", None, None, b"")  # of which numpy warns
@example(["0a"], [0], None, b"")  # which it takes for a field
@given(DESCRIPTIONS, DESCRIPTIONS, st.integers(-2, 3) | st.none(), st.binary(max_size=64))
def test_hostile_arrays_raise_nothing_but_typed_errors(dtype: Any, shape: Any, index: Any, buffer: bytes) -> None:
    try:
        described = msgpack.packb([dtype, shape, index])
        header = msgpack.packb({"value": msgpack.ExtType(wire.ARRAY_EXTENSION, described)})
    except OverflowError:
        return
    try:
        value = wire.unpack(header, [buffer])["value"]
    except SnapservError:
        return
    assert not value.dtype.hasobject


def test_objects_are_never_taken_off_the_wire() -> None:
    for dtype in ("|O", [["a", "|O"]], [["a", [["b", "O"]]]]):
        with pytest.raises(BadRequestError):
            arrays.dtype_from_wire(dtype)


@pytest.mark.parametrize("kind", errors.ERRORS.values(), ids=lambda kind: kind.code)
def test_every_error_survives_the_wire_and_a_pickle(kind: type[SnapservError]) -> None:
    error = kind("what", hint="do this", details={"step": 3})
    for back in (error_from_wire(error.to_wire()), pickle.loads(pickle.dumps(error))):
        assert type(back) is kind
        assert (back.message, back.hint, back.details) == ("what", "do this", {"step": 3})
    assert str(error) == "what (do this)"


def test_an_error_of_a_later_version_keeps_its_code() -> None:
    error = error_from_wire({"code": "from_the_future", "message": "?"})
    assert error.details["code"] == "from_the_future"


def test_the_protocol_is_imported_without_zeromq() -> None:
    """Processes that hold simulations import it, and ZeroMQ does not survive a fork."""
    modules = "snapserv.cell.loop, snapserv_client.protocol, snapserv_client.wire"
    code = f"import sys, {modules}; print('zmq' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
    )


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (msgpack.packb({"id": 77, "verb": "step", "args": {"x": [0] * 1000}}), 77),
        (msgpack.packb({"id": 77, "verb": "step"})[:12], 77),
        (msgpack.packb({"verb": "step", "id": 77}), 0),
        (msgpack.packb({"id": [77]}), 0),
        (msgpack.packb({}), 0),
        (b"\xdf\xff\xff\xff\xff", 0),
        (b"\x91", 0),
        (b"", 0),
    ],
)
def test_the_id_that_a_header_begins_with_is_read_without_the_rest(header: bytes, found: int) -> None:
    assert wire.leading_id(header) == found


NOT_AN_ARRAY = msgpack.packb(["float32", [2], 0])


@pytest.mark.parametrize(
    "broken",
    [
        msgpack.packb({"id": 77, "args": {"value": msgpack.ExtType(1, NOT_AN_ARRAY)}}),
        msgpack.packb({"verb": "write", "args": {"value": msgpack.ExtType(1, NOT_AN_ARRAY)}, "id": 77}),
        msgpack.packb({"args": {"value": msgpack.ExtType(9, b"?")}, "id": 77}),
        msgpack.packb({"id": 77}) + b"trailing",
        msgpack.packb({"verb": "\udcff", "id": 77}, unicode_errors="surrogateescape"),
        msgpack.packb({"bin": b"1", "id": 77, "more": [1] * 100})[:-3],
        b"\x82\xa1x\xdd\x7f\xff\xff\xff",
    ],
)
def test_the_id_of_a_header_that_cannot_be_unpacked_is_read_all_the_same(broken: bytes) -> None:
    with pytest.raises(SnapservError):
        wire.unpack(broken)
    assert wire.readable_id(broken) == (0 if b"\xdd" in broken else 77)


@pytest.mark.parametrize(
    ("number", "found"),
    [
        (0, 0),
        (127, 127),
        (255, 255),
        (1 << 33, 1 << 33),
        ((1 << 64) - 1, (1 << 64) - 1),
        (-1, -1),
        (2.0, 0),
        (True, 0),
        ([1], 0),
        ("7", 0),
        (None, 0),
    ],
)
def test_only_an_int_is_an_id(number: Any, found: int) -> None:
    assert wire.readable_id(msgpack.packb({"verb": "ping", "id": number})) == found


@settings(deadline=None, max_examples=400)
@given(st.binary(max_size=300))
def test_no_bytes_keep_the_id_from_being_looked_for(header: bytes) -> None:
    assert isinstance(wire.readable_id(header), int)
