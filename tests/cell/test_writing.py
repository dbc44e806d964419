"""What is written is what is read, in every dtype; and what would be changed on the way is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from snapserv.cell.writing import write_field
from snapserv.errors import BadRequestError

from ..simulations.elements import DTYPES, RECORD, Elements

TAKEN: list[tuple[str, Any, Any]] = [
    ("counts", np.uint8([1, 2, 3]), [1, 2, 3]),
    ("counts", np.uint64((1 << 63) - 1), (1 << 63) - 1),
    ("counts", True, 1),
    ("counts", 2.0, 2),
    ("counts", [1, 2.0, 3], [1, 2, 3]),
    ("small", np.int64([-128, 127, 0]), [-128, 127, 0]),
    ("naturals", (1 << 64) - 1, (1 << 64) - 1),
    ("naturals", [(1 << 64) - 1, 0, 1], np.array([(1 << 64) - 1, 0, 1], "u8")),
    ("flags", 1, True),
    ("flags", [True, False, 1.0], [True, False, True]),
    ("swapped", np.array(-7, "<i4"), -7),
    ("singles", 1 / 3, np.float32(1 / 3)),
    ("singles", np.float64([1e-60, np.inf, np.nan]), np.float32([0, np.inf, np.nan])),
    ("singles", (1 << 53) + 1, np.float32(1 << 53)),
    ("doubles", np.array(2.5, ">f8"), 2.5),
    ("doubles", -0.0, -0.0),
    ("waves", 2, 2),
    ("waves", np.complex128(1 + 2j), 1 + 2j),
    ("bytes_", "abc", b"abc"),
    ("bytes_", b"ab\0", b"ab"),
    ("texts", "äöü", "äöü"),
    ("texts", b"ab", "ab"),
    ("texts", np.array("abc  ", "U5")[()][:3], "abc"),
    ("moments", np.datetime64("2024-02-29", "D"), np.datetime64("2024-02-29", "ns")),
    ("moments", np.datetime64("NaT", "s"), np.datetime64("NaT", "ns")),
    ("days", np.datetime64("2024-02-29T00", "h"), np.datetime64("2024-02-29", "D")),
    ("spans", np.timedelta64(3000, "ms"), np.timedelta64(3, "s")),
    ("raws", np.void(b"abcd"), np.void(b"abcd")),
]

REFUSED: list[tuple[str, Any, str]] = [
    ("counts", np.array([0, 1, 1 << 63], "u8"), "1 of 3 values do not fit: 9223372036854775808"),
    ("naturals", np.int64(-1), "-1 does not fit"),
    ("naturals", [(1 << 64) - 1, -1, 0], "-1 does not fit"),
    ("counts", [1 << 63, -1, 0], "9223372036854775808"),
    ("counts", float(1 << 63), "does not fit"),
    ("counts", float("nan"), "does not fit"),
    ("counts", 2.5, "2.5 does not fit dtype int64"),
    ("counts", np.float32(2), "the value has dtype float32"),
    ("small", 128, "128 does not fit"),
    ("flags", 2, "2 does not fit"),
    ("flags", np.int8(1), "the value has dtype int8"),
    ("singles", 1e300, "1e+300 does not fit"),
    ("singles", np.float64([1, -1e39, 2]), "-1e+39 does not fit"),
    ("halves", 1_000_000, "1000000 does not fit"),
    ("doubles", np.complex64(1), "complex64"),
    ("waves", np.complex128(1e300), "does not fit"),
    ("bytes_", "abcd", "'abcd' does not fit"),
    ("bytes_", "ä", "encode"),
    ("texts", "abcdef", "'abcdef' does not fit"),
    ("texts", 5, "5 is no value"),
    ("counts", "three", "'three' is no value of dtype int64"),
    ("moments", 5, "5 is no value"),
    ("moments", np.int64(5), "the value has dtype int64"),
    ("moments", "2024-02-29", "no value"),
    ("moments", np.datetime64("9999-01-01", "D"), "moments"),
    ("days", np.datetime64("2024-02-29T01", "h"), "does not fit"),
    ("days", np.timedelta64(1, "D"), "timedelta64"),
    ("spans", np.timedelta64(1500, "ms"), "does not fit"),
    ("spans", 5, "no value"),
    ("raws", np.void(b"abc"), "the value has dtype"),
    ("records", 5, "no value"),
    ("counts", None, "no value"),
    ("counts", {"a": 1}, "no value"),
    ("counts", [1, 2], "shape [2]"),
    ("counts", [[1], [2, 3]], "counts"),
]


@pytest.mark.parametrize(("field", "value", "held"), TAKEN)
def test_what_a_dtype_can_hold_is_written(field: str, value: Any, held: Any) -> None:
    simulation = Elements.build()
    write_field(simulation, field, [1], value)
    wanted = np.broadcast_to(np.asarray(held).astype(DTYPES[field]), 3)
    assert simulation.array(field)[1].tobytes() == wanted.tobytes()
    assert not simulation.array(field)[0].tobytes().strip(b"\0")


@pytest.mark.parametrize(("field", "value", "says"), REFUSED)
def test_what_a_cast_would_change_is_refused_and_nothing_is_written(field: str, value: Any, says: str) -> None:
    simulation = Elements.build()
    with pytest.raises(BadRequestError) as caught:
        write_field(simulation, field, [1], value)
    assert field in caught.value.message
    assert says in caught.value.message
    assert not simulation.array(field).tobytes().strip(b"\0")


def test_records_fit_field_by_field() -> None:
    simulation = Elements.build()
    same = np.zeros(3, RECORD)
    same["where"], same["tag"], same["inner"]["a"] = [1, 2, 3], b"ab", 9
    wide = np.dtype([("where", "f8", (3,)), ("tag", "S9"), ("inner", [("a", "i8"), ("b", "c16")])])
    for value in (same, same.astype(wide)):
        write_field(simulation, "records", [1], value)
        assert np.array_equal(simulation.array("records")[1], same)
    wrong = same.astype(wide)
    wrong["inner"]["a"][2] = 40_000
    with pytest.raises(BadRequestError, match=r"records\.inner\.a: 1 of 3 values do not fit: 40000"):
        write_field(simulation, "records", [1], wrong)
    with pytest.raises(BadRequestError, match=r"records\.where.*shape \[2\]"):
        write_field(
            simulation, "records", [1], np.zeros(3, [("where", "f4", (2,)), *RECORD.descr[1:2], ("inner", "i2")])
        )
    with pytest.raises(BadRequestError, match="dtype"):
        write_field(simulation, "records", [1], np.zeros(3, [("elsewhere", "f4")]))
