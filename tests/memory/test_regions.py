"""Regions of fields: what they mean is what numpy means, and the bytes lie where it is said."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from snapserv_client.requests import region_to_wire

from snapserv.memory.regions import resolve_region, runs_of


@settings(deadline=None)
@given(st.data())
def test_a_region_means_what_numpy_means_and_lies_where_it_is_said(data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=6))
    array = np.arange(int(np.prod(shape)), dtype=np.int32).reshape(shape)
    index = data.draw(hnp.basic_indices(shape, allow_newaxis=False, allow_ellipsis=False))
    region = resolve_region(region_to_wire(index), shape, what="field")
    assert np.array_equal(array[region.select], array[index])
    offsets, run = runs_of(region.box, shape, 4)
    flat = array.tobytes()
    gathered = b"".join(flat[int(offset) : int(offset) + run] for offset in offsets)
    box = np.frombuffer(gathered, np.int32).reshape([count for _, count in region.box])
    assert np.array_equal(box[region.inside], array[index])
