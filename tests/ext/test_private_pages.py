"""Which pages of a process are its own: two scans that agree, here and from outside."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snapserv.ext import memory

from ..processes import fork, forked, held_child, needs_filter, refuse
from .conftest import both_scans

MIB = 1 << 20
PAGE = memory.PAGE
PAGEMAP_SCAN = 0xC0606610


def test_pages_of_the_file_are_not_private_however_they_are_mapped(
    base: tuple[memory.Reservation, np.ndarray[Any, Any]],
) -> None:
    reservation, data = base
    assert both_scans(0, reservation.address, reservation.address + reservation.size) == []
    assert int(data[::PAGE].sum()) == reservation.size // PAGE
    assert both_scans(0, reservation.address, reservation.address + reservation.size) == []


def test_exactly_the_pages_that_were_written_are_private(
    base: tuple[memory.Reservation, np.ndarray[Any, Any]],
) -> None:
    reservation, data = base
    start = reservation.address
    written = sorted(np.random.default_rng(1).choice(reservation.size // PAGE, 300, replace=False).tolist())
    for page in written:
        data[page * PAGE + 77] = 2
    found = both_scans(0, start, start + reservation.size)
    assert [page for low, high in found for page in range((low - start) // PAGE, (high - start) // PAGE)] == written
    assert all(a[1] < b[0] for a, b in itertools.pairwise(found)), "ranges that touch are one range"


def test_a_page_that_was_written_with_the_bytes_it_had_is_private_all_the_same(
    base: tuple[memory.Reservation, np.ndarray[Any, Any]],
) -> None:
    reservation, data = base
    data[5 * PAGE] = data[5 * PAGE]
    start = reservation.address
    assert both_scans(0, start, start + reservation.size) == [[start + 5 * PAGE, start + 6 * PAGE]]


@pytest.mark.parametrize("count", [511, 512, 513, 700, 1024, 2047, 2048, 2049, 5000])
def test_a_scan_finds_each_range_once_however_many_calls_of_the_kernel_it_takes(count: int) -> None:
    size = 64 * MIB
    reservation = memory.Reservation(size)
    reservation.map_anonymous(0, size, huge=False)
    data = np.frombuffer(memoryview(reservation), np.uint8)
    data[: count * 2 * PAGE : 2 * PAGE] = 1
    start = reservation.address
    expected = [[start + 2 * page * PAGE, start + (2 * page + 1) * PAGE] for page in range(count)]
    assert both_scans(0, start, start + size) == expected


def test_private_huge_pages_and_untouched_memory_are_told_apart() -> None:
    reservation = memory.Reservation(8 * MIB)
    reservation.map_anonymous(0, 8 * MIB, huge=True)
    reservation.populate(2 * MIB, 2 * MIB)
    start = reservation.address
    assert both_scans(0, start, start + 8 * MIB) == [[start + 2 * MIB, start + 4 * MIB]]


def test_the_zero_page_is_no_file_page_for_either_scan() -> None:
    reservation = memory.Reservation(2 * MIB)
    reservation.map_anonymous(0, 2 * MIB, huge=False)
    data = np.frombuffer(memoryview(reservation), np.uint8)
    assert data[3 * PAGE] == 0
    start = reservation.address
    assert both_scans(0, start, start + 2 * MIB) == [[start + 3 * PAGE, start + 4 * PAGE]]


@pytest.mark.skipif(
    len(Path("/proc/swaps").read_text().splitlines()) < 2, reason="this machine has no swap to put a page in"
)
def test_a_private_page_that_was_swapped_out_is_still_private(
    base: tuple[memory.Reservation, np.ndarray[Any, Any]],
) -> None:
    reservation, data = base
    data[:PAGE] = 3
    madv_pageout = 21
    libc = ctypes.CDLL(None, use_errno=True)
    libc.madvise(ctypes.c_void_p(reservation.address), ctypes.c_size_t(PAGE), madv_pageout)
    with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        (entry,) = struct.unpack("Q", os.pread(pagemap.fileno(), 8, reservation.address // PAGE * 8))
    if not entry >> 62 & 1:
        pytest.skip("the kernel did not swap the page out")
    start = reservation.address
    assert both_scans(0, start, start + reservation.size) == [[start, start + PAGE]]


def test_the_private_pages_of_another_process_are_its_own(
    base: tuple[memory.Reservation, np.ndarray[Any, Any]],
) -> None:
    reservation, data = base
    start, end = reservation.address, reservation.address + reservation.size
    data[0] = 9

    def write() -> None:
        data[7 * PAGE] = 9

    with held_child(write) as child:
        expected = [[start, start + PAGE], [start + 7 * PAGE, start + 8 * PAGE]]
        assert both_scans(child, start, end) == expected
        assert both_scans(0, start, end) == expected[:1]


@pytest.mark.parametrize("scan", [memory.scan_private, memory.scan_private_pagemap])
def test_a_scan_of_a_process_that_ended_says_so_whether_it_was_reaped_or_not(
    scan: Callable[[int, int, int], Any], base: tuple[memory.Reservation, np.ndarray[Any, Any]]
) -> None:
    reservation, data = base
    data[:] = 5
    start, end = reservation.address, reservation.address + reservation.size
    child = fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ProcessLookupError):
        scan(child, start, end)
    os.waitpid(child, 0)
    with pytest.raises(ProcessLookupError):
        scan(child, start, end)


@needs_filter
@pytest.mark.parametrize("error", [errno.ENOTTY, errno.EPERM])
def test_a_kernel_without_the_scan_call_gives_the_same_pages(
    error: int, base: tuple[memory.Reservation, np.ndarray[Any, Any]]
) -> None:
    reservation, data = base
    data[[3 * PAGE, 4 * PAGE, 9 * PAGE]] = 2
    start, end = reservation.address, reservation.address + reservation.size

    def work() -> tuple[int, list[list[int]]]:
        refuse("ioctl", error, PAGEMAP_SCAN)
        with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
            refused = ctypes.CDLL(None, use_errno=True).ioctl(pagemap.fileno(), ctypes.c_ulong(PAGEMAP_SCAN), None)
        return refused, memory.scan_private(0, start, end).tolist()

    expected = [[start + 3 * PAGE, start + 5 * PAGE], [start + 9 * PAGE, start + 10 * PAGE]]
    assert memory.scan_private(0, start, end).tolist() == expected
    assert forked(work) == (-1, expected)
