"""Elements that lie apart are gathered as numpy would, a piece at a time and in few calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from snapserv_client.arrays import array_bytes
from snapserv_client.requests import region_to_wire

from snapserv.memory import regions
from snapserv.memory.regions import axes_of, resolve_region
from snapserv.outside import strided
from snapserv.outside.fields import FieldPlace, cost_of
from snapserv.outside.strided import gather
from snapserv.server.verbs.look import INLINE_BYTES

from ..conftest import ServerProcess

PADDED = {"names": ["a", "b"], "formats": ["u1", "<u2"], "offsets": [0, 4], "itemsize": 6}
"""A record with bytes between its members that are none of them."""

Serve = Callable[..., ServerProcess]


class Memory:
    """Bytes that are copied as another process's are, and what was asked of them."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.content = array.reshape(-1).view(np.uint8) if array.size else np.empty(0, np.uint8)
        self.runs = 0
        self.longest = 0

    def copy(self, addresses: np.ndarray[Any, Any], run: int, into: np.ndarray[Any, Any]) -> None:
        assert len(into) == run * len(addresses)
        self.runs += len(addresses)
        self.longest = max(self.longest, len(into))
        for number, address in enumerate(addresses.tolist()):
            assert 0 <= address <= len(self.content) - run
            into[number * run : (number + 1) * run] = self.content[address : address + run]


def region_of(array: np.ndarray[Any, Any], memory: Memory, index: Any) -> np.ndarray[Any, Any]:
    """Gather a region of an array that begins at address 0."""
    region = resolve_region(region_to_wire(index), array.shape, what="field")
    first, axes = axes_of(region.taken, array.shape, array.itemsize)
    found: np.ndarray[Any, Any] = gather(memory.copy, first, axes, array.dtype)[region.arrange]
    return found


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_every_region_is_gathered_whatever_the_size_of_gaps_and_pieces(data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=7))
    dtype = np.dtype(data.draw(st.sampled_from(["u1", "<i4", "V6", PADDED])))
    count = int(np.prod(shape))
    array = np.frombuffer(np.arange(count * 6, dtype=np.uint8).tobytes(), dtype, count).reshape(shape)
    index = data.draw(hnp.basic_indices(shape, allow_newaxis=False, allow_ellipsis=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regions, "GAP_BYTES", data.draw(st.integers(0, 40)))
        patch.setattr(strided, "PIECE_BYTES", data.draw(st.integers(1, 60)))
        patch.setattr(strided, "MOST_RUNS", data.draw(st.integers(1, 4)))
        found = region_of(array, Memory(array), index)
    wanted = array.view((np.void, dtype.itemsize))[index].tobytes()
    assert found.view((np.void, dtype.itemsize)).tobytes() == bytes(array_bytes(found)) == wanted, (
        "all bytes of each"
    )
    assert found.shape == array[index].shape


def test_a_column_is_read_by_pieces_of_what_covers_it() -> None:
    array = np.arange(24 << 20, dtype=np.uint8).reshape(-1, 2)
    memory = Memory(array)
    assert np.array_equal(region_of(array, memory, np.s_[:, 1]), array[:, 1])
    assert memory.runs == 3
    assert memory.longest <= strided.PIECE_BYTES


def test_elements_far_apart_are_read_alone_and_the_whole_at_once() -> None:
    array = np.arange(24 << 20, dtype=np.uint8).reshape(3, -1)
    memory = Memory(array)
    assert np.array_equal(region_of(array, memory, np.s_[:, 7]), array[:, 7])
    assert memory.longest == 3
    whole = Memory(array)
    assert np.array_equal(region_of(array, whole, np.s_[:]), array)
    assert whole.runs == 1


def test_a_column_is_read_from_a_node_as_the_whole_has_it(serve: Serve) -> None:
    with serve("tests.simulations.memory:Scribble").connect() as server:
        main = server.branch("main")
        main.step(3)
        whole = main.read("memory")
        for index in (np.s_[:, 0], np.s_[::-7, 4095], np.s_[5, ::2], np.s_[1:900:3, 1:4000:50], np.s_[9, 9]):
            assert np.array_equal(main.read("memory", region=index), whole[index])


def test_many_small_runs_are_no_matter_for_the_event_loop() -> None:
    def cost(shape: tuple[int, ...], index: Any) -> int:
        place = FieldPlace("field", 0, np.dtype("u1"), shape)
        return cost_of(place, resolve_region(region_to_wire(index), shape, what="field"))

    assert cost((131_072, 2), np.s_[:, 0]) > INLINE_BYTES
    assert cost((1000, 1 << 20), np.s_[:, 0]) > INLINE_BYTES
    assert cost((1 << 30, 2), np.s_[:10]) < INLINE_BYTES
    assert cost((1 << 30, 2), np.s_[:0]) == 0
