"""What every mechanism must do. Each case runs in a process of its own: ``python -m tests.conformance NAME CASE``.

A case gets a mechanism and asserts. Afterwards nothing may be left: no descriptor, no area, no child, no memory.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from snapserv.errors import BadRequestError, OverBudgetError, SnapservError, UnsupportedError
from snapserv.ext import memory
from snapserv.mechanisms.base import Mechanism, Region
from snapserv.mechanisms.registry import MECHANISMS, VARIANTS
from snapserv.outside.pages import DIFFERENT, SAME, compare, numbers_are_told

PAGE = memory.PAGE
SIZE = 64 * PAGE
Case = Callable[[type[Mechanism]], None]
CASES: dict[str, Case] = {}
TESTED: dict[str, type[Mechanism]] = {**MECHANISMS, **VARIANTS}


def case(function: Case) -> Case:
    """Add a case, by the name of its function."""
    CASES[function.__name__] = function
    return function


def pattern(size: int, seed: int) -> bytes:
    """Return bytes that differ from page to page and from seed to seed."""
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8).tobytes()


@contextlib.contextmanager
def made(mechanism: type[Mechanism], size: int = SIZE, seed: int | None = 1):  # type: ignore[no-untyped-def]
    """Give a region full of a pattern, closed at the end."""
    with mechanism.make(size) as region:
        if seed is not None:
            region.write(0, pattern(size, seed))
        yield region


def whole(thing: Region) -> bytes:
    """Return all bytes of a region or snapshot."""
    return thing.read(0, thing.size)


# ------------------------------------------------------------------------------------------------- isolation


@case
def a_new_region_is_all_zero(mechanism: type[Mechanism]) -> None:
    with mechanism.make(SIZE) as region:
        assert whole(region) == bytes(SIZE)


@case
def a_snapshot_keeps_its_bytes_whatever_the_region_does(mechanism: type[Mechanism]) -> None:
    with made(mechanism) as region, region.snapshot() as snapshot:
        region.write(3 * PAGE + 5, b"changed")
        region.write(0, bytes(PAGE))
        assert whole(snapshot) == pattern(SIZE, 1)
        region.write(0, pattern(SIZE, 2))
        assert whole(snapshot) == pattern(SIZE, 1)
        assert whole(region) == pattern(SIZE, 2)


@case
def many_snapshots_each_keep_their_own_instant(mechanism: type[Mechanism]) -> None:
    with made(mechanism) as region, contextlib.ExitStack() as stack:
        expected, kept = bytearray(pattern(SIZE, 1)), []
        rng = np.random.default_rng(7)
        for number in range(20):
            kept.append((stack.enter_context(region.snapshot()), bytes(expected)))
            for page in rng.integers(0, SIZE // PAGE, 5):
                data = pattern(64, number)
                region.write(int(page) * PAGE + number, data)
                expected[int(page) * PAGE + number : int(page) * PAGE + number + 64] = data
        assert whole(region) == bytes(expected)
        for snapshot, content in kept:
            assert whole(snapshot) == content


@case
def snapshots_may_be_closed_in_any_order(mechanism: type[Mechanism]) -> None:
    with made(mechanism) as region:
        snapshots = []
        for number in range(6):
            region.write(number * PAGE, bytes([number]) * PAGE)
            snapshots.append((region.snapshot(), whole(region)))
        for index in (2, 0, 5, 3, 1, 4):
            snapshot, content = snapshots[index]
            assert whole(snapshot) == content
            snapshot.close()
            snapshot.close()
            region.write(index * PAGE, b"after")


@case
def a_snapshot_outlives_its_region(mechanism: type[Mechanism]) -> None:
    with made(mechanism) as region:
        snapshot = region.snapshot()
        region.write(0, b"later")
    with snapshot:
        assert whole(snapshot) == pattern(SIZE, 1)


@case
def contents_are_of_one_instant_under_a_writing_thread(mechanism: type[Mechanism]) -> None:
    """A thread counts up in every page, in order: in a snapshot, pages never rise, and differ by one at most."""
    if not mechanism.writers:
        return
    done = threading.Event()

    def write(counters: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        while not done.is_set():
            for index in range(len(counters)):
                counters[index] += 1

    def per_page(content: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
        return np.frombuffer(content, np.int64)[:: PAGE // 8]

    with mechanism.make(SIZE) as region:
        writer = threading.Thread(target=write, args=(per_page(region.array),))
        writer.start()
        try:
            highest = 0
            for _ in range(100):
                with region.snapshot() as snapshot:
                    seen = per_page(whole(snapshot))
                    assert (np.diff(seen) <= 0).all()
                    assert seen[0] - seen[-1] <= 1
                    assert np.array_equal(per_page(whole(snapshot)), seen)
                    highest = int(seen[0])
            assert highest > 0
        finally:
            done.set()
            writer.join()
            del writer


@case
def sharing_is_proven_by_page_numbers(mechanism: type[Mechanism]) -> None:
    """Pages that nobody has written since are the same physical pages where that is claimed, and only there."""
    if not numbers_are_told():
        return
    with made(mechanism) as region, region.snapshot() as snapshot:
        for thing in (region, snapshot):
            whole(thing)  # so that every page is there
        region.touch(np.arange(0, SIZE, 8 * PAGE))
        a, b = region.place, snapshot.place
        found = compare(SIZE, (a.pid, a.address), (b.pid, b.address), base=mechanism.on_a_base).same
        assert found is not None
        assert (found[::8] == DIFFERENT).all(), "what was written is not shared"
        others = np.delete(found, np.arange(0, len(found), 8))
        assert (others == (SAME if mechanism.shares_pages else DIFFERENT)).all()


# --------------------------------------------------------------------------------------------------- restore


@case
def restore_puts_every_byte_back(mechanism: type[Mechanism]) -> None:
    with made(mechanism) as region, region.snapshot() as first:
        region.write(PAGE, b"one")
        with region.snapshot() as second:
            region.write(0, bytes(SIZE))
            region.restore(second)
            assert region.read(PAGE, 3) == b"one"
            region.restore(first)
            assert whole(region) == pattern(SIZE, 1)
            region.write(7, b"two")
            assert second.read(PAGE, 3) == b"one"
            assert whole(first) == pattern(SIZE, 1)
            region.restore(second)
            assert region.read(PAGE, 3) == b"one"


@case
def restore_refuses_what_is_not_its_own(mechanism: type[Mechanism]) -> None:
    with made(mechanism) as region, made(mechanism, seed=2) as other, other.snapshot() as foreign:
        refused(BadRequestError, lambda: region.restore(foreign))
        assert whole(region) == pattern(SIZE, 1)
        snapshot = region.snapshot()
        snapshot.close()
        refused(BadRequestError, lambda: region.restore(snapshot))


# ------------------------------------------------------------------------------------------- copies of copies


@case
def copies_of_copies_to_any_depth(mechanism: type[Mechanism]) -> None:
    with made(mechanism) as region, contextlib.ExitStack() as stack:
        if not mechanism.copies_of_copies:
            with region.snapshot() as snapshot:
                refused(UnsupportedError, snapshot.copy)
            return
        line, current, content = [], region, bytearray(whole(region))
        for depth in range(6):
            snapshot = stack.enter_context(current.snapshot())
            line.append((snapshot, bytes(content)))
            current = stack.enter_context(snapshot.copy())
            assert whole(current) == bytes(content)
            current.write(depth * PAGE, bytes([depth]) * PAGE)
            content[depth * PAGE : (depth + 1) * PAGE] = bytes([depth]) * PAGE
        assert whole(current) == bytes(content)
        assert whole(region) == pattern(SIZE, 1)
        for snapshot, expected in line:
            assert whole(snapshot) == expected


@case
def siblings_do_not_see_each_other(mechanism: type[Mechanism]) -> None:
    if not mechanism.copies_of_copies:
        return
    with made(mechanism) as region, region.snapshot() as snapshot, contextlib.ExitStack() as stack:
        siblings = [stack.enter_context(snapshot.copy()) for _ in range(4)]
        for number, sibling in enumerate(siblings):
            sibling.write(number, bytes([number]) * 100)
        for number, sibling in enumerate(siblings):
            expected = bytearray(pattern(SIZE, 1))
            expected[number : number + 100] = bytes([number]) * 100
            assert whole(sibling) == bytes(expected)
        assert whole(snapshot) == pattern(SIZE, 1)


# ----------------------------------------------------------------------------------------------------- sizes


@case
def odd_sizes_and_one_page(mechanism: type[Mechanism]) -> None:
    for size in (1, 100, PAGE - 1, PAGE, PAGE + 1, 5 * PAGE + 123):
        with made(mechanism, size) as region, region.snapshot() as snapshot:
            assert region.size == snapshot.size == size
            region.write(size - 1, b"\0")
            assert whole(snapshot) == pattern(size, 1)
            region.restore(snapshot)
            assert whole(region) == pattern(size, 1)
            refused(BadRequestError, lambda region=region, size=size: region.read(size, 1))
            refused(BadRequestError, lambda region=region: region.write(-1, b"x"))


@case
def sizes_that_cannot_be_are_refused(mechanism: type[Mechanism]) -> None:
    refused(BadRequestError, lambda: mechanism.make(0))
    refused(BadRequestError, lambda: mechanism.make(-5))
    refused(OverBudgetError, lambda: mechanism.make(1 << 46))


@case
def what_is_closed_is_closed(mechanism: type[Mechanism]) -> None:
    region = mechanism.make(SIZE)
    snapshot = region.snapshot()
    region.close()
    region.close()
    refused(BadRequestError, lambda: region.read(0, 1))
    refused(BadRequestError, lambda: region.write(0, b"x"))
    refused(BadRequestError, region.snapshot)
    snapshot.close()
    refused(BadRequestError, lambda: snapshot.read(0, 1))


# -------------------------------------------------------------------------------------------------- nothing left


@case
def a_hundred_rounds_leave_nothing_behind(mechanism: type[Mechanism]) -> None:
    with made(mechanism, 256 * PAGE) as region:

        def round_() -> None:
            with region.snapshot() as snapshot:
                region.touch(np.arange(0, 256, 3) * PAGE)
                region.restore(snapshot)

        for _ in range(5):
            round_()
        before = holdings()
        for _ in range(100):
            round_()
        assert holdings() == before


# ------------------------------------------------------------------------------------------------------ helpers


def refused(kind: type[SnapservError], action: Callable[[], object]) -> None:
    """Assert that an action raises an error of a kind."""
    try:
        action()
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was expected")


def holdings() -> dict[str, int]:
    """Return what this process holds that a forgotten close would leave behind."""
    gc.collect()
    children = Path("/proc/thread-self/children").read_text().split()
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "children": len(children),
        "areas": sum(1 for line in Path("/proc/self/maps").read_text().splitlines() if "[heap]" not in line),
    }


def main() -> None:
    """Run one case and check that nothing is left."""
    mechanism = TESTED[sys.argv[1]]
    run = CASES[sys.argv[2]]
    with made(mechanism) as region, region.snapshot():
        pass  # what is imported and opened once, is now
    before = holdings()
    run(mechanism)
    after = holdings()
    until = time.monotonic() + 5
    while after["threads"] > before["threads"] and time.monotonic() < until:
        time.sleep(0.01)  # Python joins a thread a moment before the kernel has ended it
        after = holdings()
    # The allocator of Python and that of C may keep an area or two.
    assert after["areas"] <= before["areas"] + 4, (before, after)
    assert {**after, "areas": 0} == {**before, "areas": 0}, (before, after)


if __name__ == "__main__":
    main()
