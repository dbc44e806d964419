"""A sealed arena: what it still holds, which of its pages are private, and what forks of it share."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snapserv.errors import BadRequestError
from snapserv.ext import memory
from snapserv.memory.arena import PAGE

from ..processes import forked, held_child
from .conftest import MakeArena, _arenas, descriptors, fill, status_kib, within

MIB = 1 << 20


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
