"""An arena and what runs out: too large a field, a kernel that refuses half way, no address space."""

from __future__ import annotations

import os
import resource

import pytest

from snapserv.errors import OverBudgetError, UnsupportedError
from snapserv.ext import memory
from snapserv.memory.arena import PAGE, Arena

from ..processes import forked
from .conftest import MakeArena, _arenas, descriptors, status_kib, within

MIB = 1 << 20


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
