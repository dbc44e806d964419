"""The mechanism ``remap``: what is shared, what it costs in system calls, and what happens when areas run out."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest

from snapserv.errors import OverBudgetError
from snapserv.ext import guards, memory
from snapserv.mechanisms.remap import Remap, RemapFilePages, RemapRegion

from ..processes import forked

PAGE = memory.PAGE
LIMIT = int(Path("/proc/sys/vm/max_map_count").read_text())
BOTH = pytest.mark.parametrize("mechanism", [Remap, RemapFilePages])
few_areas = pytest.mark.skipif(
    LIMIT * PAGE > 1 << 30, reason=f"vm.max_map_count is {LIMIT:,}: reaching it takes too much memory"
)


def made(mechanism: type[Remap], pages: int) -> RemapRegion:
    region = mechanism.make(pages * PAGE)
    assert isinstance(region, RemapRegion)
    region.array[::PAGE] = np.arange(pages) % 251
    return region


def areas() -> int:
    return Path("/proc/self/maps").read_text().count("\n")


def rise(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {name: after[name] - before[name] for name in before}


@BOTH
def test_a_page_is_there_once_however_many_copies_of_copies_share_it(mechanism: type[Remap]) -> None:
    def work() -> None:
        with made(mechanism, 100) as region, region.snapshot() as first, first.copy() as copy:
            assert region.pool.counts["slots"] == 100
            with copy.snapshot() as second, second.copy() as copy_of_copy:
                copy_of_copy.write(5 * PAGE, b"x")
                copy_of_copy.write(5 * PAGE, b"y")
                assert region.pool.counts["slots"] == 101
                assert (first.read(5 * PAGE, 1), second.read(5 * PAGE, 1)) == (b"\5", b"\5")
                assert copy_of_copy.read(5 * PAGE, 1) == b"y"
            assert region.pool.counts["slots"] == 100, "nobody has the page any more"

    forked(work)


@pytest.mark.parametrize(("mechanism", "a_write", "a_copy"), [(Remap, 1, 1), (RemapFilePages, 2, 2)])
def test_system_calls(mechanism: type[Remap], a_write: int, a_copy: int) -> None:
    def work() -> None:
        with made(mechanism, 100) as region:

            def calls(act):  # type: ignore[no-untyped-def]
                before = region.pool.counts
                result = act()
                return rise(before, region.pool.counts)["calls"], result

            count, snapshot = calls(region.snapshot)
            assert count == 1, "a snapshot is one call, whatever the size"
            assert calls(lambda: region.touch(np.arange(0, 100, 10) * PAGE))[0] == 10 * a_write
            assert calls(lambda: region.touch(np.arange(0, 100, 10) * PAGE))[0] == 0
            count, copy = calls(snapshot.copy)
            assert count == a_copy, "its pages follow one another"
            with region.snapshot() as scattered:
                count, other = calls(scattered.copy)
                assert count == a_copy - 1 + 20, "ten runs of what was written, and ten in between"
                other.close()
            copy.close()
            assert calls(lambda: region.restore(snapshot))[0] == 10 * a_write
            snapshot.close()

    forked(work)


@few_areas
@BOTH
def test_a_region_without_areas_left_is_copied_and_goes_on(mechanism: type[Remap]) -> None:
    def work() -> None:
        pages = LIMIT + 4000
        with made(mechanism, pages) as region, region.snapshot() as snapshot:
            array, before, noticed = region.array, region.array.copy(), region.pool.counts["faults"]
            array[:: 2 * PAGE] += 1  # every other page: each an area of its own
            counts = region.pool.counts
            assert counts["whole"] == 1
            assert counts["faults"] - noticed < pages / 2, "once there was no area left, all of it became its own"
            assert snapshot.read(0, pages * PAGE) == before.tobytes()
            assert (array[:: 2 * PAGE] == before[:: 2 * PAGE] + 1).all()
            assert np.array_equal(array[PAGE :: 2 * PAGE], before[PAGE :: 2 * PAGE])
            assert areas() < LIMIT / 10
            region.restore(snapshot)
            assert np.array_equal(array, before)
            del array

    forked(work)


@few_areas
@BOTH
def test_a_copy_that_no_areas_are_left_for_is_refused_and_nothing_is_lost(mechanism: type[Remap]) -> None:
    def work() -> None:
        pages = LIMIT + 4000
        with made(mechanism, pages) as region:
            with region.snapshot():
                region.touch(np.arange(0, int(LIMIT * 0.7), 2) * PAGE)
            content = region.array.copy()
            with region.snapshot() as scattered:
                for _ in range(2):  # the first time Python itself may map something
                    before = areas(), region.pool.counts["slots"]
                    with pytest.raises(OverBudgetError, match="no area"):
                        scattered.copy()
                assert (areas(), region.pool.counts["slots"]) == before
                assert scattered.read(0, pages * PAGE) == content.tobytes()
                assert np.array_equal(region.array, content)
                region.write(0, b"on")

    forked(work)


def test_a_pool_that_is_full_says_so() -> None:
    def work() -> None:
        pool = guards.PagePool(10)
        kept = pool.zeros(8)
        with pytest.raises(OSError, match="allocate"):
            pool.zeros(3)
        assert pool.counts["slots"] == 8
        kept.drop()
        assert pool.counts["slots"] == 0
        assert len(pool.zeros(8).slots) == 8

    forked(work)


def test_pages_that_nobody_has_go_back_to_the_machine() -> None:
    def work() -> None:
        with made(Remap, 2000) as region:
            with region.snapshot():
                region.touch(np.arange(2000) * PAGE)
                assert pages_of_pool() == 4000
            assert pages_of_pool() == 2000

    forked(work)


def pages_of_pool() -> int:
    """Return how much memory the pool's file has, as the file system counts it."""
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            if "snapserv-pool" in os.readlink(f"/proc/self/fd/{descriptor}"):
                return os.fstat(int(descriptor)).st_blocks * 512 // PAGE
    raise AssertionError("no pool")
