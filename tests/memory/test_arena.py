"""The arena's promises, on each backing that this machine has."""

from __future__ import annotations

import errno
import gc
import itertools
import os
import re
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snapserv.arena import PAGE, Arena
from snapserv.backings import NAMES, probe
from snapserv.errors import BadRequestError, OverBudgetError, UnsupportedError
from snapserv.ext import memory
from snapserv.limits import available_bytes

from ..processes import areas, become_nobody, forked, held_child, needs_filter, needs_root, refuse

MIB = 1 << 20
DTYPES = [
    *("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "g", "F", "D", "G", ">i4", ">f8"),
    *("M8[s]", "m8[ns]", "S5", "U7", "V3"),
    np.dtype([("a", "u1"), ("b", "f8", (2, 3)), ("c", [("d", "S4"), ("e", "M8[D]")])]),
    np.dtype([("a", "u1"), ("b", "f8")], align=True),
]

MakeArena = Callable[..., Arena]


def _arenas(backing: str) -> Iterator[MakeArena]:
    for found in probe():
        if found.name == backing and not found.available:
            pytest.skip(f"{backing} cannot be had here: {found.reason}")
    made: list[Arena] = []

    def new(**options: Any) -> Arena:
        made.append(Arena(backing=backing, **options))
        return made[-1]

    yield new
    for arena in made:
        arena.close()


@pytest.fixture(params=NAMES)
def make(request: pytest.FixtureRequest) -> Iterator[MakeArena]:
    """Make arenas on each backing; they are closed at the end."""
    yield from _arenas(request.param)


@pytest.fixture(params=["huge_tmpfs", "memfd"])
def make_based(request: pytest.FixtureRequest) -> Iterator[MakeArena]:
    """Make arenas on each backing that has a base image; they are closed at the end."""
    yield from _arenas(request.param)


def descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


def status_kib(pid: int | str, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise AssertionError(f"no {key} in the status of {pid}")


def within(arena_start: int, size: int) -> list[tuple[int, int, str]]:
    return [(low, high, mode) for low, high, mode in areas() if low < arena_start + size and high > arena_start]


def fill(array: np.ndarray[Any, Any], seed: int) -> bytes:
    """Fill an array with bytes that suit any dtype and return them."""
    raw = np.random.default_rng(seed).integers(0, 2, max(1, array.nbytes), np.uint8)[: array.nbytes].tobytes()
    if array.nbytes:
        array[...] = np.ndarray(array.shape, array.dtype, buffer=raw)
    return array.tobytes()


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


# ---------------------------------------------------------------------------------------------------- budgets


@pytest.mark.parametrize("elements", [1 << 45, 1 << 59, 1 << 100])
def test_a_field_larger_than_the_machine_is_over_budget_and_leaves_nothing(make: MakeArena, elements: int) -> None:
    arena = make()
    kept = arena.allocate("kept", "f8", (3,))
    before, size = descriptors(), arena.size_bytes
    with pytest.raises(OverBudgetError, match="field vast needs") as caught:
        arena.allocate("vast", "f8", (elements,))
    details = caught.value.details
    assert 0 < details["available"] < details["wanted"] < 1 << 63 or details["wanted"] == (1 << 63) - 1
    assert (list(arena.extents), descriptors(), arena.size_bytes) == (["kept"], before, size)
    kept[:] = 1
    arena.seal()
    assert kept.all()


@pytest.mark.parametrize("backing", ["huge_tmpfs", "memfd"])
def test_when_the_kernel_refuses_half_way_the_segments_so_far_are_given_back(backing: str) -> None:
    for arenas in _arenas(backing):
        arena = arenas(segment_bytes=2 * MIB)

        def work(arena: Arena = arena) -> tuple[str, list[str], bool, bool]:
            first = arena.allocate("first", "u1", (PAGE,))
            before = descriptors()
            mapped = within(arena.segments[0].address, 64 * MIB)
            limit = len(before) + 10
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            with pytest.raises(OverBudgetError) as caught:
                arena.allocate("wide", "u1", (60 * MIB,))
            clean = descriptors() == before and within(arena.segments[0].address, 64 * MIB) == mapped
            second = arena.allocate("second", "u1", (3 * MIB,))
            second[:] = 2
            first[:] = 1
            arena.seal()
            return str(caught.value), list(arena.extents), clean, bool(first.all() and (second == 2).all())

        message, extents, clean, whole = forked(work)
        assert "field wide" in message
        assert "ulimit -n" in message
        assert extents == ["first", "second"]
        assert clean
        assert whole


def test_pages_are_taken_when_a_field_is_allocated_and_no_more_than_it_needs(make_based: MakeArena) -> None:
    arena = make_based()
    arena.allocate("small", "u1", (3 * PAGE,))
    taken = os.fstat(arena.segments[0].descriptor).st_blocks * 512
    assert 3 * PAGE <= taken <= memory.HUGE_PAGE


@pytest.mark.parametrize("limit", [2 << 30, 8 << 30])
def test_an_arena_makes_do_with_the_address_space_that_it_may_have(make: MakeArena, limit: int) -> None:
    def work() -> tuple[bool, float]:
        room = status_kib("self", "VmSize") * 1024 + limit
        resource.setrlimit(resource.RLIMIT_AS, (room, room))
        arena = make()
        array = arena.allocate("field", "f8", (1000,))
        array[:] = 2
        arena.seal()
        return arena.sealed, float(array.sum())

    assert forked(work) == (True, 2000.0)


def test_no_address_space_at_all_is_unsupported_and_says_what_to_raise() -> None:
    def work() -> None:
        room = status_kib("self", "VmSize") * 1024 + 64 * MIB
        resource.setrlimit(resource.RLIMIT_AS, (room, room))
        Arena(backing="anonymous")

    with pytest.raises(UnsupportedError, match="ulimit -v"):
        forked(work)


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "300", "memory.max": "max"}, 300 - 100 + 40),
        ("0::/a/b\n", {"a/b/memory.max": "200", "a/memory.max": "300"}, 200 - 100 + 40),
        ("0::/host/path\n", {"memory.max": "500"}, 500 - 100 + 40),
        ("0::/a\n", {"a/memory.max": "max"}, 1000 * 1024),
        ("4:memory:/a\n0::/\n", {"memory/a/memory.limit_in_bytes": "400"}, 400 - 100 + 60),
        ("4:cpu,memory:/a\n", {"memory/memory.limit_in_bytes": "600"}, 600 - 100 + 60),
        ("4:cpu:/a\n", {"memory/a/memory.limit_in_bytes": "400"}, 1000 * 1024),
        (None, {}, 1000 * 1024),
    ],
)
def test_the_tightest_control_group_above_this_process_bounds_what_is_available(
    tmp_path: Path, groups: str | None, files: dict[str, str], expected: int
) -> None:
    proc, tree = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 2000 kB\nMemAvailable:    1000 kB\n")
    if groups is not None:
        (proc / "self/cgroup").write_text(groups)
    for path, limit in files.items():
        folder = (tree / path).parent
        folder.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(f"{limit}\n")
        (folder / "memory.current").write_text("100\n")
        (folder / "memory.usage_in_bytes").write_text("100\n")
        (folder / "memory.stat").write_text("inactive_file 40\ntotal_inactive_file 60\n")
    assert available_bytes(proc, tree) == expected


def test_what_is_available_here_is_no_more_than_the_machine_has() -> None:
    assert 0 < available_bytes() <= os.sysconf("SC_PHYS_PAGES") * PAGE


# ---------------------------------------------------------------------------------------------------- sealing


def test_after_sealing_nobody_holds_a_descriptor_or_a_shared_mapping_or_a_name(make_based: MakeArena) -> None:
    before, names = descriptors(), os.listdir("/dev/shm")
    arena = make_based(segment_bytes=2 * MIB)
    arena.allocate("field", "u1", (9 * MIB,))
    assert {mode for *_, mode in within(arena.segments[0].address, arena.size_bytes)} == {"rw-s"}
    arena.seal()
    assert {mode for *_, mode in within(arena.segments[0].address, arena.size_bytes)} == {"rw-p"}
    assert descriptors() == before
    assert os.listdir("/dev/shm") == names


def test_sealed_segments_stay_areas_of_their_own(make_based: MakeArena) -> None:
    arena = make_based(segment_bytes=2 * MIB)
    arena.allocate("field", "u1", (9 * MIB,))
    arena.seal()
    assert [(low, high) for low, high, _ in within(arena.segments[0].address, arena.size_bytes)] == [
        (segment.address, segment.address + segment.size_bytes) for segment in arena.segments
    ]


def test_sealing_gives_the_unused_address_space_back(make: MakeArena) -> None:
    before = status_kib("self", "VmSize")
    arena = make()
    arena.allocate("field", "u1", (3 * MIB,))
    assert status_kib("self", "VmSize") - before > 1 << 20
    arena.seal()
    assert arena.size_bytes == 4 * MIB
    assert status_kib("self", "VmSize") - before < 64 << 10


def test_reading_a_sealed_arena_maps_whole_huge_pages() -> None:
    for make in _arenas("huge_tmpfs"):
        arena = make()
        array = arena.allocate("field", "u1", (8 * MIB,))
        arena.seal()
        assert not array[::PAGE].any()
        listed = Path("/proc/self/smaps").read_text()
        area = listed[listed.index(f"{arena.segments[0].address:x}-") :]
        mapped = re.findall(r"(?:ShmemPmdMapped|FilePmdMapped): +(\d+) kB", area)[:2]
        assert sum(map(int, mapped)) == 8 << 10


# ------------------------------------------------------------------------------------------------- private pages


def pages_of(ranges: np.ndarray[Any, Any], start: int) -> list[int]:
    return [page for low, high in ranges.tolist() for page in range((low - start) // PAGE, (high - start) // PAGE)]


def test_private_pages_are_exactly_those_written_since_sealing(make_based: MakeArena) -> None:
    arena = make_based(segment_bytes=4 * MIB)
    array = arena.allocate("field", "u1", (15 * MIB,))
    fill(array, 7)
    arena.seal()
    assert array[::PAGE].sum() >= 0
    assert (arena.private_pages().count, arena.private_pages().exact) == (0, True)
    # Over 512 ranges in one segment, where one call of the kernel reports some of them twice.
    written = sorted({*range(0, 1024, 2), *range(1, 1024, 4), *range(2000, 2010), 3839})
    for page in written:
        array[page * PAGE + page % PAGE] += 1
    found = arena.private_pages()
    assert pages_of(found.ranges, arena.segments[0].address) == written
    assert (found.count, found.bytes) == (len(written), len(written) * PAGE)
    by_reading = [memory.scan_private_pagemap(0, s.address, s.address + s.size_bytes) for s in arena.segments]
    assert np.array_equal(np.concatenate(by_reading), found.ranges)


def test_private_pages_of_a_field_leave_its_neighbours_out(make_based: MakeArena) -> None:
    arena = make_based()
    a, b, c = (arena.allocate(name, "u1", (3 * PAGE + 1,)) for name in "abc")
    arena.seal()
    a[-1] = b[0] = b[-1] = 1
    assert [arena.private_pages(name).count for name in "abc"] == [1, 2, 0]
    assert arena.private_pages("b").ranges.tolist() == [
        [arena.extents["b"].address, arena.extents["b"].address + PAGE],
        [arena.extents["b"].address + 3 * PAGE, arena.extents["b"].address + 4 * PAGE],
    ]
    assert arena.private_pages().count == 3
    assert not c.any()


@pytest.mark.parametrize("backing", ["anonymous_thp", "anonymous"])
def test_without_a_base_image_every_present_page_counts_and_it_says_so(backing: str) -> None:
    for make in _arenas(backing):
        arena = make()
        arena.allocate("field", "u1", (MIB,))
        arena.seal()
        found = arena.private_pages("field")
        assert not found.exact
        assert found.bytes == MIB


def test_private_pages_of_no_such_field_or_before_sealing_are_refused(make: MakeArena) -> None:
    arena = make()
    arena.allocate("field", "u1", (3,))
    with pytest.raises(BadRequestError, match="not sealed"):
        arena.private_pages()
    arena.seal()
    with pytest.raises(BadRequestError, match="no field 'other'"):
        arena.private_pages("other")


# -------------------------------------------------------------------------------------------------------- forks


def test_writes_of_a_child_and_of_its_parent_stay_apart(make: MakeArena) -> None:
    arena = make()
    array = arena.allocate("field", "i8", (MIB,))
    array[:] = 1
    arena.seal()

    def work() -> tuple[int, int]:
        array[:1000] = 2
        return forked(lambda: (array.__setitem__(slice(0, 500), 3), int(array.sum()))[1]), int(array.sum())

    assert forked(work) == (MIB + 500 + 1000, MIB + 1000)
    assert (array == 1).all()


def test_a_child_never_sees_what_its_parent_writes_later(make: MakeArena) -> None:
    arena = make()
    array = arena.allocate("field", "i8", (MIB,))
    array[:] = 1
    arena.seal()
    address = np.array([arena.extents["field"].address], np.uint64)
    seen = np.zeros_like(array)
    with held_child() as child:
        array[:] = 9
        memory.read_process(child, address, array.nbytes, seen.view(np.uint8))
    assert (seen == 1).all()
    assert (array == 9).all()


def test_a_fork_copies_the_page_tables_of_written_segments_only() -> None:
    for make in _arenas("memfd"):
        arena = make(segment_bytes=64 * MIB)
        array = arena.allocate("field", "u1", (256 * MIB,))
        array[::PAGE] = 1
        arena.seal()
        assert array[::PAGE].all()
        parent = status_kib("self", "VmPTE")
        with held_child() as child:
            unwritten = status_kib(child, "VmPTE")
        array[70 * MIB] = 2
        with held_child() as child:
            written = status_kib(child, "VmPTE")
        tables_of_segment = 64 * MIB // PAGE * 8 // 1024
        assert parent - unwritten >= 3 * tables_of_segment
        # A table is copied where it holds a private page; of the others of its segment it depends on the kernel.
        assert 0 < written - unwritten <= 2 * tables_of_segment


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


# ---------------------------------------------------------------------------------------------------- backings


def test_every_backing_is_reported_the_best_first_with_a_reason() -> None:
    assert tuple(backing.name for backing in probe()) == NAMES
    assert all(backing.reason for backing in probe())
    assert all(backing.improve for backing in probe() if not backing.available)
    assert Arena().backing == next(backing.name for backing in probe() if backing.available)


def test_an_arena_says_what_it_stands_on(make: MakeArena) -> None:
    arena = make(segment_bytes=2 * MIB)
    arena.allocate("field", "u1", (3 * MIB,))
    arena.seal()
    described = arena.describe()
    assert (described.backing, described.reason) == (arena.backing, arena.reason)
    assert (described.size_bytes, described.segments) == (4 * MIB, 2)


def test_a_backing_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(BadRequestError, match="huge_tmpfs, memfd, anonymous_thp, anonymous"):
        Arena(backing="paper")


@needs_filter
def test_where_huge_tmpfs_is_refused_memfd_is_next_and_the_refused_call_is_named() -> None:
    def work() -> tuple[str, str]:
        refuse("fsopen", errno.ENOSYS)
        probe.cache_clear()
        with pytest.raises(UnsupportedError) as caught:
            Arena(backing="huge_tmpfs")
        return Arena().backing, str(caught.value)

    backing, message = forked(work)
    assert backing == "memfd"
    assert "fsopen" in message


@needs_root
def test_an_ordinary_user_has_an_arena_with_a_base_image_too() -> None:
    def work() -> tuple[str, str, int, int]:
        become_nobody()
        probe.cache_clear()
        arena = Arena(segment_bytes=2 * MIB)
        array = arena.allocate("field", "u1", (5 * MIB,))
        array[:] = 1
        arena.seal()
        array[::MIB] = 2
        return arena.backing, arena.reason, arena.private_pages().count, int(array.sum())

    backing, reason, count, total = forked(work)
    if backing != "huge_tmpfs":
        pytest.skip(f"no huge-page tmpfs for ordinary users here: {backing}: {reason}")
    assert "user namespace" in reason
    assert (count, total) == (5, 5 * MIB + 5)
