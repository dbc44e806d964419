"""Regions of fields: what they mean is what numpy means, and the bytes lie where it is said."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from snapserv_client.requests import region_to_wire

from snapserv.memory.regions import GAP_BYTES, Axis, axes_of, cover, resolve_region


@settings(deadline=None)
@given(st.data())
def test_a_region_means_what_numpy_means_and_lies_where_it_is_said(data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=6))
    array = np.arange(int(np.prod(shape)), dtype=np.int32).reshape(shape)
    index = data.draw(hnp.basic_indices(shape, allow_newaxis=False, allow_ellipsis=False))
    region = resolve_region(region_to_wire(index), shape, what="field")
    assert np.array_equal(array[region.select], array[index])
    first, axes = axes_of(region.taken, shape, 4)
    counts, distances = [axis.length for axis in axes], [axis.distance for axis in axes]
    block = np.ndarray(counts, np.int32, array.tobytes(), first if 0 not in counts else 0, distances)
    assert np.array_equal(block[region.arrange], array[index])


def test_runs_that_are_close_are_read_as_one_and_those_far_apart_each_alone() -> None:
    assert cover([Axis(1000, 2)], 1) == (0, 1, 1999)
    assert cover([Axis(1000, GAP_BYTES + 1)], 1).runs == 1
    assert cover([Axis(1000, GAP_BYTES + 2)], 1) == (1, 1000, 1)
    assert cover([Axis(10, 1 << 20), Axis(100, 8)], 8) == (1, 10, 800)


def test_many_runs_cost_as_much_as_a_long_one() -> None:
    assert cover([Axis(131_072, 2)], 1).cost_bytes > 1 << 18
    assert cover([Axis(131_072, 1 << 20)], 1).cost_bytes > 1 << 28
    assert cover([Axis(8, 1 << 20)], 8).cost_bytes < 1 << 18
