"""The mechanism ``mprotect``: faults that are ours and those that are not, and what happens when areas run out."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from snapserv.ext import memory
from snapserv.mechanisms.mprotect import Mprotect, MprotectRegion

from ..conftest import ROOT
from ..processes import forked

PAGE = memory.PAGE


def made(pages: int) -> MprotectRegion:
    region = Mprotect.make(pages * PAGE)
    assert isinstance(region, MprotectRegion)
    return region


def test_only_the_first_write_to_a_page_after_a_snapshot_is_a_fault() -> None:
    def work() -> None:
        with made(100) as region:
            region.touch(np.arange(100) * PAGE)
            assert region.counts == (0, 0), "nothing is protected before there is a snapshot"
            with region.snapshot(), region.snapshot():
                for _ in range(3):
                    region.touch(np.arange(0, 100, 10) * PAGE)
                assert region.counts == (10, 0)
                with region.snapshot():
                    region.touch(np.arange(0, 100, 10) * PAGE)
                    assert region.counts == (20, 0)
            region.touch(np.arange(100) * PAGE)
            assert region.counts == (20, 0), "and nothing once the last one is closed"

    forked(work)


def test_when_no_area_is_left_every_page_is_copied_and_nothing_is_lost() -> None:
    limit = int(Path("/proc/sys/vm/max_map_count").read_text())
    pages = limit + 4000
    if pages * PAGE > 1 << 30:
        pytest.skip(f"vm.max_map_count is {limit:,}: reaching it takes too much memory")

    def work() -> None:
        with made(pages) as region:
            array = region.array
            array[::PAGE] = np.arange(pages) % 251
            before = array.copy()
            with region.snapshot() as snapshot:
                array[:: 2 * PAGE] += 1  # every other page: each an area of its own
                faults, whole = region.counts
                assert whole == 1
                assert faults < pages / 2, "once there was no area left, the rest was copied at once"
                assert snapshot.read(0, pages * PAGE) == before.tobytes()
                assert (array[:: 2 * PAGE] == before[:: 2 * PAGE] + 1).all()
                assert np.array_equal(array[PAGE :: 2 * PAGE], before[PAGE :: 2 * PAGE])
            del array

    forked(work)


@pytest.mark.parametrize("handler", ["", "import faulthandler; faulthandler.enable(); "])
def test_a_fault_that_is_not_ours_ends_the_process_as_ever(handler: str) -> None:
    code = (
        f"{handler}from snapserv.mechanisms.mprotect import Mprotect\n"
        "r = Mprotect.make(1 << 20); s = r.snapshot(); r.write(0, b'x')\n"
        "import ctypes; ctypes.string_at(8)"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGSEGV
    assert ("Fatal Python error" in ended.stderr) is bool(handler), "the handler that was there before is asked"
