"""What one mechanism takes at one size, in a process of its own: ``python -m snapserv.mechanisms.measure``.

Every figure is measured, none is computed from another. What cannot be had (a hundred copies of 1 GiB) says why.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from snapserv.errors import OverBudgetError, RequestTimeoutError, SnapservError
from snapserv.ext import memory
from snapserv.outside.pages import SAME, compare, numbers_are_told

from .base import Mechanism, Memory, Region, Snapshot
from .ksm import Ksm, KsmRegion
from .reflink import ReflinkRegion
from .registry import MECHANISMS, VARIANTS
from .remap import RemapRegion

PAGE = memory.PAGE
ROUNDS = 15
LONG_S = 8.0
"""A measurement is cut short after this time, but for its first round."""
SAMPLED_PAGES = 2000
CHUNK_BYTES = 8 << 20
COUNTS = (1, 10, 100)
MERGED_WITHIN_S = 120.0
COUNTERS = ("AnonPages", "Cached", "PageTables", "KernelStack", "Slab")  # Cached has what is shared, too


def measure(mechanism: type[Mechanism], size: int, fractions: list[float]) -> dict[str, Any]:
    """Return the figures of a mechanism for regions of ``size`` bytes.

    Args:
        mechanism: Which.
        size: In bytes.
        fractions: Parts of the pages that are written between two snapshots, each measured by itself.
    """
    rng = np.random.default_rng(0)
    pages = -(-size // PAGE)
    result: dict[str, Any] = {
        "mechanism": mechanism.name,
        "bytes": size,
        "copies_of_copies": mechanism.copies_of_copies,
    }
    with mechanism.make(size) as region:
        _fill(region)
        result["snapshots"] = [_snapshots(region, rng, pages, fraction) for fraction in fractions]
        result["first_write_us"], result["second_write_us"] = _writes(region, rng, pages)
        result["read_gib_per_s"] = _bandwidth(region)
        result["pause_ms"] = _pause(mechanism, region, pages)
        result["copy"] = _copy(mechanism, region, rng, pages)
        if isinstance(region, RemapRegion):
            result["calls"] = _calls(region, rng, pages)
    with mechanism.make(size) as region:
        _fill(region)
        with region.snapshot() as snapshot:
            result["shared"] = _shared(mechanism, region, snapshot)
    if mechanism is Ksm:
        result["merged"] = _merged(mechanism, size, rng, pages)
    result["memory"] = [_memory(mechanism, size, pages, count) for count in COUNTS]
    return result


def _fill(region: Region) -> None:
    """Write something else into every page: equal ones would be merged, where pages are."""
    words = np.random.default_rng(2).integers(0, 1 << 62, CHUNK_BYTES // 8)
    for offset in range(0, region.size, CHUNK_BYTES):
        region.write(offset, (words + offset).tobytes()[: region.size - offset])


def _merged(mechanism: type[Mechanism], size: int, rng: np.random.Generator, pages: int) -> dict[str, Any]:
    """Return what ksmd does for a region and its first snapshot: in what time, at what price, and what it saves."""
    with mechanism.make(size) as region:
        _fill(region)
        assert isinstance(region, KsmRegion)
        with region.snapshot() as snapshot:
            try:
                merged = region.wait_merged(MERGED_WITHIN_S)
            except RequestTimeoutError as error:
                return {"why_not": str(error)}
            shared = _shared(mechanism, region, snapshot)
            first = _first_write(region, rng, pages)
    return {
        "shared": shared,
        "seconds": merged.seconds,
        "ksmd_cpu_s": merged.ksmd_cpu_s,
        "saved_bytes": merged.saved_bytes,
        "first_write_us": first,
    }


def _snapshots(region: Region, rng: np.random.Generator, pages: int, fraction: float) -> dict[str, Any]:
    """Return the time of a snapshot, with so many pages written between two of them."""
    dirty = max(1, round(pages * fraction))
    times: list[float] = []
    before = _areas()
    most_areas = 0
    began = time.perf_counter()
    while len(times) < ROUNDS and (not times or time.perf_counter() - began < LONG_S):
        region.touch(np.sort(rng.choice(pages, dirty, replace=False)) * PAGE)
        start = time.perf_counter()
        snapshot = region.snapshot()
        times.append(time.perf_counter() - start)
        region.touch(np.sort(rng.choice(pages, dirty, replace=False)) * PAGE)
        most_areas = max(most_areas, _areas() - before)
        snapshot.close()
    return {
        "fraction": fraction,
        "dirty_pages": dirty,
        "rounds": len(times),
        "p50_ms": float(np.median(times)) * 1e3,
        "areas": most_areas,
    }


def _writes(region: Region, rng: np.random.Generator, pages: int) -> tuple[float, float]:
    """Return microseconds a page: of the first write after a snapshot, and of the next one."""
    first, second = [], []
    for _ in range(5):
        chosen = np.sort(rng.choice(pages, min(pages, SAMPLED_PAGES), replace=False)) * PAGE
        with region.snapshot():
            first.append(region.touch(chosen) / len(chosen))
            second.append(region.touch(chosen) / len(chosen))
    return float(np.median(first)) * 1e6, float(np.median(second)) * 1e6


def _first_write(region: Region, rng: np.random.Generator, pages: int) -> float:
    """Return microseconds a page, with the snapshots that are open."""
    chosen = np.sort(rng.choice(pages, min(pages, SAMPLED_PAGES), replace=False)) * PAGE
    return region.touch(chosen) / len(chosen) * 1e6


def _copy(mechanism: type[Mechanism], region: Region, rng: np.random.Generator, pages: int) -> dict[str, Any]:
    """Return milliseconds that a writable copy of a snapshot takes, a tenth of the pages written before it."""
    if not mechanism.copies_of_copies:
        return {"ms": None, "why_not": "no copies of copies"}
    times = []
    with region.snapshot():
        region.touch(np.sort(rng.choice(pages, max(1, pages // 10), replace=False)) * PAGE)
        with region.snapshot() as snapshot:
            for _ in range(5):
                began = time.perf_counter()
                try:
                    copy = snapshot.copy()
                except OverBudgetError as error:
                    return {"ms": None, "why_not": str(error)}
                times.append(time.perf_counter() - began)
                copy.close()
    return {"ms": float(np.median(times)) * 1e3, "why_not": ""}


def _shared(mechanism: type[Mechanism], region: Region, snapshot: Snapshot) -> float | None:
    """Return what part of the pages is one physical page for both, once both were read; None where nobody tells."""
    if not numbers_are_told():
        return None
    for thing in (region, snapshot):
        _read_all(thing)
    a, b = region.place, snapshot.place
    found = compare(region.size, (a.pid, a.address), (b.pid, b.address), base=mechanism.on_a_base).same
    return None if found is None else float((found == SAME).mean())


def _calls(region: RemapRegion, rng: np.random.Generator, pages: int) -> dict[str, float | None]:
    """Return the system calls that map or protect: of a snapshot, of a first write, of a copy of the snapshot."""

    def calls(act: Callable[[], object]) -> int:
        before = region.pool.counts["calls"]
        act()
        return region.pool.counts["calls"] - before

    written = np.sort(rng.choice(pages, max(1, pages // 10), replace=False)) * PAGE
    with contextlib.ExitStack() as kept:
        snapshot = calls(lambda: kept.enter_context(region.snapshot()))
        write = calls(lambda: region.touch(written)) / len(written)
        second = kept.enter_context(region.snapshot())
        try:
            copy = calls(lambda: kept.enter_context(second.copy()))
        except OverBudgetError:
            copy = None
        return {"snapshot": snapshot, "first_write": write, "copy": copy}


def _bandwidth(region: Region) -> float:
    """Return GiB a second at which a snapshot is read, most of its pages shared with the region."""
    with region.snapshot() as snapshot:
        _read_all(snapshot)
        began = time.perf_counter()
        _read_all(snapshot)
        return region.size / (time.perf_counter() - began) / (1 << 30)


def _read_all(thing: Memory) -> None:
    for offset in range(0, thing.size, CHUNK_BYTES):
        thing.read(offset, min(CHUNK_BYTES, thing.size - offset))


def _pause(mechanism: type[Mechanism], region: Region, pages: int) -> float:
    """Return for how many milliseconds a snapshot holds a writer up, at most: the longest gap between its writes.

    Where the mechanism lets another thread write, that is a thread that writes page after page. Elsewhere it is who
    takes the snapshot, and the gap is as long as that takes.
    """
    gaps = []
    for _ in range(3):
        if mechanism.writers and region.array is not None:
            gaps.append(_gap_of_a_thread(region, pages))
        else:
            began = time.perf_counter()
            region.snapshot().close()
            gaps.append(time.perf_counter() - began)
    return float(np.median(gaps)) * 1e3


def _gap_of_a_thread(region: Region, pages: int) -> float:
    array, done, longest = region.array, threading.Event(), 0.0
    assert array is not None

    def write() -> None:
        nonlocal longest
        page, last = 0, time.perf_counter()
        while not done.is_set():
            array[page * PAGE] ^= 1
            page = (page + 1) % pages
            now = time.perf_counter()
            longest, last = max(longest, now - last), now

    writer = threading.Thread(target=write)
    writer.start()
    try:
        time.sleep(0.05)
        longest = 0.0
        with region.snapshot():
            time.sleep(0.05)
            return longest
    finally:
        done.set()
        writer.join()


def _memory(mechanism: type[Mechanism], size: int, pages: int, count: int) -> dict[str, Any]:
    """Return the memory that so many snapshots take, one page in a thousand written between two of them.

    And what the first write to a page costs then, in microseconds.

    By the machine's own counters (proc_meminfo(5)), which see page tables and page cache, and everybody else: the
    figures of small regions are only as good as the machine is idle.
    """
    rng = np.random.default_rng(1)
    with mechanism.make(size) as region, contextlib.ExitStack() as kept:
        _fill(region)
        before, disk = _used(), _disk(region)
        try:
            for _ in range(count):
                kept.enter_context(region.snapshot())
                region.touch(rng.integers(0, pages, max(1, pages // 1000)) * PAGE)
        except OverBudgetError as error:
            return {"snapshots": count, "bytes": None, "why_not": str(error)}
        found = {"snapshots": count, "bytes": _used() - before, "why_not": ""}
        if disk is not None:
            found["disk_bytes"] = (_disk(region) or 0) - disk
        return {**found, "first_write_us": _first_write(region, rng, pages)}


def _used() -> int:
    counters = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return sum(int(size) * 1024 for name, size, *_ in counters if name.rstrip(":") in COUNTERS)


def _disk(region: Region) -> int | None:
    """Return how much of the disk is taken that the region lies on, once all of it is written there."""
    return region.volume_bytes() if isinstance(region, ReflinkRegion) else None


def _areas() -> int:
    return Path("/proc/self/maps").read_text().count("\n")


def main() -> None:
    """Measure what the arguments say (name, bytes, fractions) and print it as one line of JSON."""
    name, size, *fractions = sys.argv[1:]
    try:
        found = measure({**MECHANISMS, **VARIANTS}[name], int(size), [float(fraction) for fraction in fractions])
    except SnapservError as error:
        found = {"mechanism": name, "bytes": int(size), "error": error.to_wire()}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
