"""Pages that two processes share are known by their numbers, however far apart they lie."""

from __future__ import annotations

import mmap
import os
import signal

import numpy as np
import pytest

from snapserv.images.neighbours import GAP, PAGE, Neighbours

COUNT = 4096


@pytest.mark.parametrize("apart", [1, 3, GAP, GAP + 1, 5 * GAP])
def test_pages_are_shared_until_one_writes_to_them(apart: int) -> None:
    area = mmap.mmap(-1, COUNT * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pages = np.frombuffer(area, np.uint8).reshape(COUNT, PAGE)
    pages[:, 0] = np.arange(COUNT) % 251
    written = np.random.default_rng(apart).random(COUNT) < 0.3
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        pages[written, 1] = 1
        os.write(told, b".")
        signal.pause()
    try:
        os.read(ready, 1)
        at = np.arange(0, COUNT, apart)
        addresses = (pages.ctypes.data + at * PAGE).astype(np.uint64)
        with Neighbours(pid, os.getpid()) as neighbours:
            shared = neighbours.share(addresses)
            assert neighbours.share(addresses[:0]).tolist() == []
        if not shared.any():
            pytest.skip("the kernel does not tell which pages are which")
        assert shared.tolist() == (~written[at]).tolist()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ready)
        os.close(told)
