"""The mechanism ``uffd``: no areas, writes by the kernel, no privileges; and what ``uffd_async`` copies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from snapserv.ext import memory, tracker
from snapserv.mechanisms.uffd import Uffd, UffdAsync, UffdAsyncRegion, UffdRegion

from ..conftest import ROOT
from ..processes import forked

PAGE = memory.PAGE
sync = pytest.mark.skipif(bool(Uffd.why_not()), reason=Uffd.why_not())
asynchronous = pytest.mark.skipif(bool(UffdAsync.why_not()), reason=UffdAsync.why_not())


def areas() -> int:
    return Path("/proc/self/maps").read_text().count("\n")


@sync
def test_each_page_is_told_of_once_and_nothing_is_split() -> None:
    def work() -> None:
        region = Uffd.make(1000 * PAGE)
        assert isinstance(region, UffdRegion)
        with region:
            region.touch(np.arange(1000) * PAGE)
            assert region.counts == (0, 0), "nothing is protected before there is a snapshot"
            with region.snapshot(), region.snapshot():
                before = areas()
                for _ in range(3):
                    region.touch(np.arange(0, 1000, 2) * PAGE)
                assert region.counts == (500, 0)
                assert areas() == before
            region.touch(np.arange(1000) * PAGE)
            assert region.counts == (500, 0), "and nothing once the last one is closed"

    forked(work)


@sync
def test_what_the_kernel_writes_waits_for_the_copy_too() -> None:
    _, user_only = opened()
    if user_only:
        pytest.skip("only writes in user mode are seen here")

    def work() -> None:
        with Uffd.make(4 * PAGE) as region, region.snapshot() as snapshot:
            ours, theirs = os.pipe()
            os.write(theirs, b"by the kernel")
            assert os.readv(ours, [memoryview(region.array)[PAGE:]]) == 13  # type: ignore[arg-type]
            assert region.read(PAGE, 13) == b"by the kernel"
            assert snapshot.read(PAGE, 13) == bytes(13)
            os.close(ours)
            os.close(theirs)

    forked(work)


@pytest.mark.parametrize("name", ["uffd", "uffd_async"])
def test_it_needs_no_privileges(name: str) -> None:
    """As nobody, and with vm.unprivileged_userfaultfd as it is: at 0, what user mode writes is seen."""
    if os.geteuid() != 0:
        pytest.skip("only root can become nobody, and the others are that already")
    code = (
        "import ctypes, os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: as after execve, /proc/self is its own\n"
        "from snapserv.mechanisms.registry import MECHANISMS, VARIANTS\n"
        f"m = {{**MECHANISMS, **VARIANTS}}[{name!r}]\n"
        "if m.why_not(): print(m.why_not()); sys.exit(9)\n"
        "r = m.make(1 << 20); r.write(5, b'before'); s = r.snapshot(); r.write(5, b'after!')\n"
        "assert s.read(5, 6) == b'before' and r.read(5, 6) == b'after!'\n"
        "r.restore(s); assert r.read(5, 6) == b'before'; s.close(); r.close()"
    )
    code = (
        "import snapserv.mechanisms.registry, snapserv_client\n" + code
    )  # while root may read where this project lies
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode == 9:
        pytest.skip(ended.stdout)
    assert ended.returncode == 0, ended.stderr


@asynchronous
def test_a_snapshot_copies_what_was_written_since_the_last_and_shares_the_rest() -> None:
    def work() -> None:
        region = UffdAsync.make(1000 * PAGE)
        assert isinstance(region, UffdAsyncRegion)
        with region:
            region.touch(np.arange(1000) * PAGE)
            first, rng = region.snapshot(), np.random.default_rng(3)
            for _ in range(20):
                written = np.unique(rng.integers(0, 1000, 30))
                region.touch(written * PAGE)
                second = region.snapshot()
                assert np.array_equal(np.flatnonzero(first.table.slots != second.table.slots), written)
                assert second.read(0, 1000 * PAGE) == region.array.tobytes()
                first.close()
                first = second
            first.close()

    forked(work)


@asynchronous
def test_restored_pages_are_not_copied_again() -> None:
    def work() -> None:
        region = UffdAsync.make(100 * PAGE)
        assert isinstance(region, UffdAsyncRegion)
        with region:
            first = region.snapshot()
            region.touch(np.arange(0, 100, 3) * PAGE)
            region.snapshot().close()
            region.touch(np.arange(0, 100, 5) * PAGE)
            region.restore(first)
            second = region.snapshot()
            assert np.array_equal(first.table.slots, second.table.slots)
            first.close()
            second.close()

    forked(work)


def opened() -> tuple[int, bool]:
    descriptor, user_only = tracker.open_userfault(asynchronous=False)
    os.close(descriptor)
    return descriptor, user_only
