"""The arena's promises, on each backing that this machine has."""

from __future__ import annotations

import gc
import itertools
from typing import Any

import numpy as np
import pytest

from snapserv.errors import BadRequestError, OverBudgetError
from snapserv.memory.arena import PAGE, Arena

from ..processes import areas
from .conftest import MakeArena, descriptors, fill, within

MIB = 1 << 20
DTYPES = [
    *("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "g", "F", "D", "G", ">i4", ">f8"),
    *("M8[s]", "m8[ns]", "S5", "U7", "V3"),
    np.dtype([("a", "u1"), ("b", "f8", (2, 3)), ("c", [("d", "S4"), ("e", "M8[D]")])]),
    np.dtype([("a", "u1"), ("b", "f8")], align=True),
]


# ------------------------------------------------------------------------------------------------- allocating


def test_a_field_is_zero_filled_page_aligned_and_writable(make: MakeArena) -> None:
    arena = make()
    for name, shape in (("grid", (300, 70)), ("scalar", ()), ("line", (5,))):
        array = arena.allocate(name, "f8", shape)
        assert array.shape == shape
        assert not array.any()
        assert arena.extents[name].address == array.__array_interface__["data"][0]
        assert arena.extents[name].address % PAGE == 0
        array[...] = 3
        assert (array == 3).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_field_of_any_dtype_without_objects_keeps_its_bytes_over_sealing(make: MakeArena, dtype: Any) -> None:
    arena = make()
    array = arena.allocate("field", dtype, (11, 3))
    assert array.dtype == np.dtype(dtype)
    written = fill(array, 4)
    arena.seal()
    assert array.tobytes() == written
    assert fill(array, 5) == array.tobytes() != written


def test_a_dtype_that_is_itself_an_array_makes_a_field_of_more_dimensions(make: MakeArena) -> None:
    arena = make()
    array = arena.allocate("field", ("f4", (3, 2)), (4,))
    extent = arena.extents["field"]
    assert (array.dtype, array.shape) == (extent.dtype, extent.shape) == (np.dtype("f4"), (4, 3, 2))
    assert extent.nbytes == array.nbytes


@pytest.mark.parametrize("shape", [(0,), (5, 0), (0, 1 << 40)])
def test_a_field_without_elements_works(make: MakeArena, shape: tuple[int, ...]) -> None:
    arena = make()
    before, array, after = (
        arena.allocate(name, "f8", size) for name, size in (("a", (3,)), ("b", shape), ("c", (3,)))
    )
    before[:], after[:] = 1, 2
    arena.seal()
    assert array.shape == shape
    assert array.nbytes == 0
    assert arena.private_pages("b").count == 0
    assert (before.tolist(), after.tolist()) == ([1, 1, 1], [2, 2, 2])


def test_an_arena_without_fields_seals(make: MakeArena) -> None:
    arena = make()
    arena.seal()
    assert arena.size_bytes == 0
    assert arena.private_pages().count == 0


def test_one_field_spans_many_segments(make: MakeArena) -> None:
    arena = make(segment_bytes=2 * MIB)
    array = arena.allocate("huge", "u1", (9 * MIB + 5,))
    written = fill(array, 6)
    arena.seal()
    assert [segment.size_bytes for segment in arena.segments] == [2 * MIB] * 5
    assert array.tobytes() == written


def test_hundreds_of_small_fields_lie_apart_and_keep_their_values(make: MakeArena) -> None:
    arena = make(segment_bytes=2 * MIB)
    arrays = [arena.allocate(f"f{index}", "i4", (index % 7 + 1,)) for index in range(600)]
    for index, array in enumerate(arrays):
        array[:] = index
    arena.seal()
    assert all((array == index).all() for index, array in enumerate(arrays))
    extents = sorted(arena.extents.values(), key=lambda extent: extent.address)
    assert all(a.address + a.nbytes <= b.address for a, b in itertools.pairwise(extents))


@pytest.mark.parametrize(
    ("dtype", "shape", "says"),
    [
        ("O", (3,), "Python objects"),
        ([("a", "f8"), ("b", [("c", "O")])], (3,), "Python objects"),
        (("O", (2,)), (3,), "Python objects"),
        ("f8", (3, -1), "negative"),
        ("f8", (2.5,), "float"),
        ("f8", 5, "int"),
        ("no such dtype", (3,), "not understood"),
        ("S", (3,), "no size"),
        ("f8", (1,) * 70, "dimension"),
    ],
)
def test_what_cannot_be_a_field_is_refused_by_name_and_takes_nothing(
    make: MakeArena, dtype: Any, shape: Any, says: str
) -> None:
    arena = make()
    before = descriptors()
    with pytest.raises(BadRequestError, match=f"(?s)field odd.*{says}"):
        arena.allocate("odd", dtype, shape)
    assert arena.extents == {}
    assert arena.segments == []
    assert descriptors() == before


def test_a_second_field_of_a_name_and_a_field_after_sealing_are_refused(make: MakeArena) -> None:
    arena = make()
    arena.allocate("twice", "f8", (3,))
    with pytest.raises(BadRequestError, match="field twice"):
        arena.allocate("twice", "f8", (3,))
    arena.seal()
    with pytest.raises(BadRequestError, match="field late: the arena is sealed"):
        arena.allocate("late", "f8", (3,))
    with pytest.raises(BadRequestError, match="sealed already"):
        arena.seal()


@pytest.mark.parametrize("option", ["segment_bytes", "capacity_bytes"])
@pytest.mark.parametrize("size", [0, -2 * MIB, 3 * MIB])
def test_sizes_that_are_no_multiple_of_a_huge_page_are_refused_by_name(option: str, size: int) -> None:
    with pytest.raises(BadRequestError, match=option):
        Arena(backing="anonymous", **{option: size})


def test_a_capacity_below_a_segment_is_kept_to_and_its_neighbours_are_left_alone(make: MakeArena) -> None:
    arena = make(capacity_bytes=4 * MIB)
    array = arena.allocate("small", "u1", (PAGE,))
    assert [segment.size_bytes for segment in arena.segments] == [4 * MIB]
    with pytest.raises(OverBudgetError, match="address space") as caught:
        arena.allocate("more", "u1", (4 * MIB,))
    assert caught.value.details == {"wanted": 4 * MIB, "available": 4 * MIB - PAGE}
    array[:] = 1
    arena.seal()
    assert array.all()


# --------------------------------------------------------------------------------------------------- lifetime


def test_an_array_keeps_its_memory_after_the_arena_is_forgotten(make_based: MakeArena) -> None:
    before = descriptors()
    arena = Arena(backing=make_based().backing)
    array = arena.allocate("field", "i8", (1000,))
    start = arena.segments[0].address
    del arena
    gc.collect()
    assert descriptors() == before
    array[:] = 4
    assert array.sum() == 4000
    del array
    gc.collect()
    assert not [area for area in areas() if area[0] == start and area[2] != "---p"]


def test_arenas_that_are_forgotten_leave_address_space_for_the_next(make: MakeArena) -> None:
    backing, before = make().backing, descriptors()
    for _ in range(200):  # of a tebibyte each, of the 128 that a process has
        Arena(backing=backing).allocate("field", "u1", (3,))
    assert descriptors() == before
    assert Arena(backing=backing)._reserved.size == 1 << 40


def test_closing_gives_everything_back_and_may_be_done_twice(make: MakeArena) -> None:
    before = descriptors()
    arena = make()
    arena.allocate("field", "u1", (3 * MIB,))
    start = arena.segments[0].address
    arena.close()
    arena.close()
    assert descriptors() == before
    assert within(start, 3 * MIB) == []
