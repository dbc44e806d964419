"""Mappings, private pages and reading from outside, on the real kernel."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import mmap
import os
import pickle
import platform
import struct
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from snapserv.ext import memory
from snapserv.heap import use_huge_pages

MIB = 1 << 20
PAGE = memory.PAGE
PAGEMAP_SCAN = 0xC0606610
CALLS = {
    "x86_64": {"ioctl": 16, "process_vm_readv": 310, "fsopen": 430},
    "aarch64": {"ioctl": 29, "process_vm_readv": 270, "fsopen": 430},
}

T = TypeVar("T")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
needs_filter = pytest.mark.skipif(
    platform.machine() not in CALLS, reason="no system call numbers for this processor"
)


def _fork() -> int:
    with warnings.catch_warnings():
        # Python 3.12 warns of threads, and a test runner has some. The child runs no code that waits for them.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def forked(work: Callable[[], T]) -> T:
    """Return what ``work`` returns in a forked child, or raise what it raises."""
    reading, writing = os.pipe()
    child = _fork()
    if child == 0:
        try:
            os.close(reading)
            try:
                answer = pickle.dumps((True, work()))
            except BaseException as cause:  # noqa: BLE001 - raised again in the parent
                traceback.print_exc()  # where it happened: a pickled exception does not say
                answer = pickle.dumps((False, cause))
            with os.fdopen(writing, "wb") as out:
                out.write(answer)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer_of:
        answer = answer_of.read()
    _, status = os.waitpid(child, 0)
    assert answer, f"the child ended without an answer, wait status {status}"
    succeeded, result = pickle.loads(answer)
    if not succeeded:
        raise result
    return result  # type: ignore[no-any-return]


@contextlib.contextmanager
def held_child(work: Callable[[], object] = lambda: None) -> Iterator[int]:
    """Yield the pid of a forked child that has done ``work`` and now waits to be let go."""
    told, telling = os.pipe()
    waiting, letting_go = os.pipe()
    child = _fork()
    if child == 0:
        try:
            os.close(letting_go)
            work()
            os.write(telling, b"1")
            os.read(waiting, 1)
        finally:
            os._exit(0)
    os.close(telling)
    os.close(waiting)
    try:
        assert os.read(told, 1), "the child failed"
        yield child
    finally:
        os.close(letting_go)
        os.close(told)
        os.waitpid(child, 0)


def become_nobody() -> None:
    """Become an ordinary user, as one who logged in would be: a changed user is not dumpable (prctl(2))."""
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    pr_set_dumpable = 4
    assert ctypes.CDLL(None).prctl(pr_set_dumpable, 1, 0, 0, 0) == 0


def refuse(call: str, error: int, second_argument: int | None = None) -> None:
    """Make a system call fail in this process from now on, by a filter as containers have (seccomp(2))."""
    load, equal, answer = 0x20, 0x15, 0x06
    allow, fail = 0x7FFF0000, 0x00050000 | error
    number = CALLS[platform.machine()][call]
    if second_argument is None:
        steps = [(load, 0, 0, 0), (equal, 0, 1, number), (answer, 0, 0, fail), (answer, 0, 0, allow)]
    else:
        steps = [(load, 0, 0, 0), (equal, 0, 3, number), (load, 0, 0, 24), (equal, 0, 1, second_argument)]
        steps += [(answer, 0, 0, fail), (answer, 0, 0, allow)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    described = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(program)))
    pr_set_no_new_privs, pr_set_seccomp, mode_filter = 38, 22, 2
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(pr_set_no_new_privs, 1, 0, 0, 0) == 0
    assert libc.prctl(pr_set_seccomp, mode_filter, described, 0, 0) == 0, os.strerror(ctypes.get_errno())


def areas() -> list[tuple[int, int, str]]:
    """Return the start, the end and the permissions of every area of this process."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, permissions = line.split()[:2]
        start, end = span.split("-")
        found.append((int(start, 16), int(end, 16), permissions))
    return found


def mapped_within(start: int, end: int) -> bool:
    return any(low < end and high > start for low, high, _ in areas())


@pytest.fixture(params=["huge_tmpfs", "memfd"])
def base(request: pytest.FixtureRequest) -> tuple[memory.Reservation, np.ndarray[Any, Any]]:
    """8 MiB of a file, full of ones, mapped privately: the reservation and its bytes."""
    size = 8 * MIB
    if request.param == "memfd":
        descriptor = os.memfd_create("snapserv-test", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, size)
    else:
        try:
            descriptor = memory.open_huge_tmpfs(size)
        except OSError as cause:
            pytest.skip(f"no huge-page tmpfs: {cause}")
    reservation = memory.Reservation(size)
    data: np.ndarray[Any, Any] = np.frombuffer(memoryview(reservation), np.uint8)
    reservation.map_file(0, size, descriptor, shared=True)
    data[:] = 1
    reservation.map_file(0, size, descriptor, shared=False)
    os.close(descriptor)
    return reservation, data


def both_scans(pid: int, start: int, end: int) -> list[list[int]]:
    """Return what the two ways to find private pages agree on."""
    ranges = memory.scan_private(pid, start, end)
    assert ranges.dtype == np.uint64
    assert ranges.shape[1:] == (2,)
    assert ranges.tolist() == memory.scan_private_pagemap(pid, start, end).tolist()
    return ranges.tolist()  # type: ignore[no-any-return]


# --------------------------------------------------------------------------------------------- address space


def test_a_reservation_starts_at_a_huge_page_and_nothing_can_touch_it() -> None:
    reservation = memory.Reservation(6 * MIB)
    assert reservation.address % memory.HUGE_PAGE == 0
    start, end = reservation.address, reservation.address + reservation.size
    assert {mode for low, high, mode in areas() if low < end and high > start} == {"---p"}


def test_a_view_keeps_the_address_space_until_it_is_gone_too() -> None:
    reservation = memory.Reservation(2 * MIB)
    reservation.map_anonymous(0, 2 * MIB, huge=False)
    start, end = reservation.address, reservation.address + reservation.size
    view = np.frombuffer(memoryview(reservation)[:8], np.uint64)
    del reservation
    view[0] = 7
    assert view[0] == 7
    del view
    assert (start, end) not in [(low, high) for low, high, _ in areas()]


def test_nothing_is_mapped_beyond_a_reservation() -> None:
    reservation = memory.Reservation(4 * MIB)
    before = areas()
    for offset, size in ((0, 6 * MIB), (4 * MIB, PAGE), (2 * MIB, 1 << 63), ((1 << 64) - PAGE, 2 * PAGE)):
        with pytest.raises(ValueError, match="not within"):
            reservation.map_anonymous(offset, size, huge=False)
        with pytest.raises(ValueError, match="not within"):
            reservation.blank(offset, size)
    assert areas() == before


def test_blanking_gives_the_pages_back_and_keeps_the_address_space() -> None:
    reservation = memory.Reservation(4 * MIB)
    reservation.map_anonymous(0, 4 * MIB, huge=False)
    reservation.populate(0, 4 * MIB)
    reservation.blank(0, 4 * MIB)
    start = reservation.address
    assert {mode for low, high, mode in areas() if low < start + 4 * MIB and high > start} == {"---p"}
    assert both_scans(0, start, start + 4 * MIB) == []


def test_more_address_space_than_there_is_raises_the_kernels_error() -> None:
    with pytest.raises(OSError, match="allocate memory") as caught:
        memory.Reservation(1 << 60)
    assert caught.value.errno == errno.ENOMEM


# ------------------------------------------------------------------------------------------- huge-page tmpfs


def open_huge(size: int) -> int:
    try:
        return memory.open_huge_tmpfs(size)
    except OSError as cause:
        pytest.skip(f"no huge-page tmpfs: {cause}")


def test_a_huge_tmpfs_file_has_no_name_and_no_mount_and_is_closed_on_exec() -> None:
    mounts = Path("/proc/self/mountinfo").read_text()
    descriptor = open_huge(4 * MIB)
    try:
        status = os.fstat(descriptor)
        assert status.st_size == 4 * MIB
        assert status.st_nlink == 0
        assert not os.get_inheritable(descriptor)
        assert Path("/proc/self/mountinfo").read_text() == mounts
    finally:
        os.close(descriptor)


def test_a_huge_tmpfs_file_takes_its_size_and_refuses_a_page_more() -> None:
    descriptor = open_huge(4 * MIB)
    try:
        os.posix_fallocate(descriptor, 0, 4 * MIB)
        with pytest.raises(OSError, match="space") as caught:
            os.posix_fallocate(descriptor, 4 * MIB, PAGE)
        assert caught.value.errno == errno.ENOSPC
    finally:
        os.close(descriptor)


@needs_root
def test_an_ordinary_user_gets_a_huge_tmpfs_file_and_leaves_no_process_behind() -> None:
    def work() -> tuple[str, int, bool]:
        become_nobody()
        try:
            descriptor = memory.open_huge_tmpfs(2 * MIB)
        except OSError as cause:
            return str(cause), 0, True
        with pytest.raises(ChildProcessError):  # nobody is left to wait for
            os.waitpid(-1, os.WNOHANG)
        os.posix_fallocate(descriptor, 0, 2 * MIB)
        return "", os.fstat(descriptor).st_size, os.get_inheritable(descriptor)

    refused, size, inheritable = forked(work)
    if refused:
        pytest.skip(f"no huge-page tmpfs for ordinary users: {refused}")
    assert size == 2 * MIB
    assert not inheritable


@needs_filter
def test_a_refused_huge_tmpfs_names_the_step_that_was_refused() -> None:
    def work() -> tuple[int | None, str]:
        refuse("fsopen", errno.ENOSYS)
        with pytest.raises(OSError, match="not implemented") as caught:
            memory.open_huge_tmpfs(2 * MIB)
        return caught.value.errno, caught.value.filename

    assert forked(work) == (errno.ENOSYS, "fsopen")


# --------------------------------------------------------------------------------------------- private pages


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
    child = _fork()
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


# ------------------------------------------------------------------------------------------- other processes


def read(pid: int, addresses: list[int], each: int) -> bytes:
    into = np.zeros(each * len(addresses), np.uint8)
    memory.read_process(pid, np.array(addresses, np.uint64), each, into)
    return into.tobytes()


def address_of(array: np.ndarray[Any, Any]) -> int:
    return int(array.__array_interface__["data"][0])


@pytest.mark.parametrize(("count", "each"), [(1, 1), (1023, 8), (1024, 8), (1025, 8), (5000, 3), (3, 5 * MIB)])
def test_reading_another_process_gathers_every_piece_in_order(count: int, each: int) -> None:
    data = np.random.default_rng(2).integers(0, 256, 16 * MIB, np.uint8)
    kept = data.copy()
    offsets = np.random.default_rng(3).integers(0, data.size - each, count)

    def change() -> None:
        data[:] = 255 - data

    with held_child(change) as child:
        got = read(child, (offsets + address_of(data)).tolist(), each)
    assert got == b"".join((255 - kept[offset : offset + each]).tobytes() for offset in offsets)
    assert np.array_equal(data, kept)


def test_reading_nothing_reads_nothing() -> None:
    assert read(os.getpid(), [], 8) == b""
    assert read(os.getpid(), [1 << 40], 0) == b""


def test_reading_an_address_that_is_not_mapped_is_a_fault_and_no_crash() -> None:
    data = np.zeros(8, np.uint8)
    for addresses in ([PAGE], [address_of(data), PAGE]):  # the first pages are never mapped
        with pytest.raises(OSError, match="Bad address") as caught:
            read(os.getpid(), addresses, 8)
        assert caught.value.errno == errno.EFAULT


def test_reading_into_room_of_another_size_is_refused() -> None:
    data = np.zeros(8, np.uint8)
    with pytest.raises(ValueError, match="size"):
        memory.read_process(os.getpid(), np.array([address_of(data)], np.uint64), 8, np.zeros(9, np.uint8))


def test_reading_a_process_that_ended_says_so() -> None:
    data = np.zeros(8, np.uint8)
    with held_child() as child:
        pass
    with pytest.raises(ProcessLookupError):
        read(child, [address_of(data)], 8)


@needs_root
def test_reading_a_process_of_somebody_else_is_a_matter_of_permission() -> None:
    data = np.zeros(8, np.uint8)
    parent = os.getpid()

    def work() -> None:
        become_nobody()
        read(parent, [address_of(data)], 8)

    with pytest.raises(PermissionError):
        forked(work)


@needs_filter
@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM])
def test_where_the_call_is_refused_the_same_bytes_come_through_the_memory_file(error: int) -> None:
    data = np.arange(5000, dtype=np.uint64)
    addresses = [address_of(data) + 8 * index for index in range(0, 5000, 2)]
    parent = os.getpid()
    with held_child() as ended:
        pass

    def work() -> tuple[bytes, list[int | None]]:
        refuse("process_vm_readv", error)
        errors = []
        for pid, address in ((parent, PAGE), (ended, address_of(data))):  # the first pages are never mapped
            try:
                read(pid, [address], 8)
            except OSError as cause:
                errors.append(cause.errno)
        return read(parent, addresses, 8), errors

    assert forked(work) == (data[::2].tobytes(), [errno.EFAULT, errno.ESRCH])


def test_a_full_heap_becomes_huge_pages_and_a_sparse_one_is_left_alone() -> None:
    def work() -> tuple[int, int, bool, bool]:
        full, sparse, left_alone = (mmap.mmap(-1, 16 * MIB, mmap.MAP_PRIVATE) for _ in range(3))
        for area in (full, left_alone):
            area.madvise(mmap.MADV_NOHUGEPAGE)
            area.write(bytes(range(256)) * (16 * MIB // 256))
            area.madvise(mmap.MADV_HUGEPAGE)
        sparse[:: 8 * PAGE] = bytes(len(sparse) // (8 * PAGE))
        sparse_bytes = _resident(sparse)
        start = np.frombuffer(left_alone, np.uint8).ctypes.data
        made = use_huge_pages(range(start, start + 16 * MIB))
        same = full[:] == left_alone[:] == bytes(range(256)) * (16 * MIB // 256)
        return made, _huge(left_alone), same, _resident(sparse) == sparse_bytes

    made, elsewhere, same, sparse_is_sparse = forked(work)
    if not made:
        pytest.skip("this kernel has no MADV_COLLAPSE, or no free huge page")
    assert made >= 14 * MIB
    assert elsewhere == 0
    assert same
    assert sparse_is_sparse


def _huge(area: mmap.mmap) -> int:
    return _of_area(area, "AnonHugePages")


def _resident(area: mmap.mmap) -> int:
    return _of_area(area, "Rss")


def _of_area(area: mmap.mmap, counter: str) -> int:
    """Return a counter of smaps, in KiB, of the mapping that ``area`` lies in."""
    address = np.frombuffer(area, np.uint8).ctypes.data
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split()[0]
        if "-" in first:
            start, end = (int(part, 16) for part in first.split("-"))
            inside = start <= address < end
        elif inside and first == f"{counter}:":
            return int(line.split()[1])
    raise AssertionError("no such mapping")
