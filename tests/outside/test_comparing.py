"""Two processes' fields are compared a chunk at a time, and all that is told of them is exact."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from snapserv_client.protocol import FieldDiff

from snapserv.errors import NodeDiedError
from snapserv.outside import comparing
from snapserv.outside.comparing import compare
from snapserv.outside.fields import FieldPlace

from ..conftest import ServerProcess

Serve = Callable[..., ServerProcess]


@contextmanager
def other_process(change: Callable[[], None]) -> Iterator[int]:
    """Run a copy of this process that makes a change to its memory and waits."""
    done, told = os.pipe()
    waits, held = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(held)
        change()
        os.write(told, b"x")
        os.read(waits, 1)
        os._exit(0)
    os.close(told)
    os.close(waits)
    try:
        os.read(done, 1)
        yield pid
    finally:
        os.close(held)
        os.close(done)
        os.waitpid(pid, 0)


def place_of(array: np.ndarray[Any, Any]) -> FieldPlace:
    return FieldPlace("field", array.ctypes.data, array.dtype, array.shape)


def found_by_numpy(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> FieldDiff:
    """Return what there is to tell of two arrays, found in the plainest way."""
    different = np.argwhere(ours != theirs)
    box = [(int(axis.min()), int(axis.max()) + 1) for axis in different.T] if len(different) else []
    first = different[: comparing.FIRST_INDICES].tolist()
    found = FieldDiff("field", len(different), ours.size, box, first)
    if ours.dtype.kind == "u":
        apart = np.abs(ours.astype(np.int64) - theirs.astype(np.int64))
        found.largest, found.mean, found.undefined = float(apart.max()), float(apart.sum() / apart.size), 0
    return found


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_what_is_told_is_what_numpy_finds_whatever_the_chunks(data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=4, max_side=7))
    dtype = data.draw(st.sampled_from(["u1", "<u4", "V3", "V24"]))
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    content = np.zeros(size, np.uint8)
    changed = content.copy()
    changed[data.draw(st.lists(st.integers(0, size - 1), max_size=30))] = 1
    array = content.view(dtype).reshape(shape)
    smallest = 1 if dtype[0] == "V" else 4  # no number is larger than a chunk
    with (
        pytest.MonkeyPatch.context() as patch,
        other_process(lambda: content.__setitem__(slice(None), changed)) as pid,
    ):
        patch.setattr(comparing, "CHUNK_BYTES", data.draw(st.integers(smallest, 40)))
        patch.setattr(comparing, "CHUNK_ELEMENTS", data.draw(st.integers(1, 8)))
        found = compare([place_of(array)], os.getpid(), pid, None)
    assert found.fields == [found_by_numpy(array, changed.view(dtype).reshape(shape))]
    assert found.compared_bytes == size


def test_a_field_that_differs_everywhere_takes_a_few_chunks_of_memory() -> None:
    array = np.zeros((48 << 20, 2), np.uint8)
    with other_process(lambda: array.fill(1)) as pid:
        tracemalloc.start()
        found = compare([place_of(array)], os.getpid(), pid, None)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert found.fields == [
        FieldDiff(
            "field",
            array.size,
            array.size,
            [(0, 48 << 20), (0, 2)],
            [[i // 2, i % 2] for i in range(16)],
            largest=1.0,
            mean=1.0,
            undefined=0,
        )
    ]
    assert peak < 64 << 20


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", "<c16", "<f16"])
def test_how_far_apart_numbers_are_is_found_within_the_same_memory(dtype: str) -> None:
    array = np.zeros((16 << 20) // np.dtype(dtype).itemsize, dtype)
    array[0] = np.nan

    def change() -> None:
        array[:] = 2
        array[-1] = 5

    with other_process(change) as pid:
        tracemalloc.start()
        (found,) = compare([place_of(array)], os.getpid(), pid, None).fields
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    defined = len(array) - 1
    assert (found.changed, found.largest, found.undefined) == (len(array), 5.0, 1)
    assert found.mean == pytest.approx((2 * defined + 3) / defined)
    assert peak < 64 << 20


def test_an_element_larger_than_a_chunk_is_compared_by_pieces() -> None:
    array = np.zeros(2, f"V{3 * comparing.CHUNK_BYTES}")
    last = array.view(np.uint8)
    with other_process(lambda: last.__setitem__(-1, 1)) as pid:
        found = compare([place_of(array)], os.getpid(), pid, None)
    assert found.fields == [FieldDiff("field", 1, 2, [(1, 2)], [[1]])]


def test_pages_written_in_several_segments_are_found_in_all_of_them(serve: Serve) -> None:
    size = 160 << 20
    with serve("tests.simulations.memory:Big", params={"nbytes": size}).connect() as server:
        main = server.branch("main")
        before = main.snapshot()
        for at in (0, 64 << 20, size - 1):
            main.write("memory", 9, (at,))
        found = before.diff(main)["memory"]
        assert (found.changed, found.box) == (3, [(0, size)])
        assert found.first == [[0], [64 << 20], [size - 1]]


def test_a_process_that_ended_is_a_typed_error() -> None:
    array = np.zeros(10, np.uint8)
    with other_process(lambda: None) as pid:
        pass
    with pytest.raises(NodeDiedError):
        compare([place_of(array)], os.getpid(), pid, None)
    with pytest.raises(NodeDiedError):
        compare([place_of(array)], os.getpid(), pid, [(array.ctypes.data, 10)])
