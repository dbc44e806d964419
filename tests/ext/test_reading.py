"""Reading another process: every piece in order, and a typed answer where it cannot be."""

from __future__ import annotations

import errno
import os
from typing import Any

import numpy as np
import pytest

from snapserv.ext import memory

from ..processes import become_nobody, forked, held_child, needs_filter, needs_root, refuse

MIB = 1 << 20
PAGE = memory.PAGE


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
