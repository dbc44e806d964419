"""What an arena may stand on: which backings there are, and which is taken where one is refused."""

from __future__ import annotations

import errno

import pytest

from snapserv.errors import BadRequestError, UnsupportedError
from snapserv.memory.arena import Arena
from snapserv.memory.backings import NAMES, probe

from ..processes import become_nobody, forked, needs_filter, needs_root, refuse
from .conftest import MakeArena

MIB = 1 << 20


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
