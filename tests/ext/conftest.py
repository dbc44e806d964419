"""A file that is mapped privately, and the two ways to find which of its pages were written."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from snapserv.ext import memory

MIB = 1 << 20


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
