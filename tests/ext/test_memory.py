"""Address space and huge-page tmpfs files, on the real kernel."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from snapserv.ext import memory

from ..processes import areas, become_nobody, forked, needs_filter, needs_root, refuse
from .conftest import both_scans

MIB = 1 << 20
PAGE = memory.PAGE


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
