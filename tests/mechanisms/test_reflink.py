"""The mechanism ``reflink``: what it shares, by page numbers and by disk blocks, and that nothing of it is left."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from snapserv.errors import UnsupportedError
from snapserv.ext import memory
from snapserv.mechanisms.reflink import FOLDER_VARIABLE, Reflink, ReflinkRegion, ReflinkXfs
from snapserv.outside.pages import SAME, compare, numbers_are_told

from ..conftest import ROOT, assert_settles, one_at_a_time
from ..processes import forked

PAGE = memory.PAGE
SIZE = 1024 * PAGE

both = pytest.mark.parametrize("mechanism", [Reflink, ReflinkXfs], ids=["btrfs", "xfs"])


@pytest.fixture(autouse=True)
def _can(request: pytest.FixtureRequest) -> None:
    params = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    if why_not := params.get("mechanism", Reflink).why_not():
        pytest.skip(why_not)


def loops() -> set[str]:
    """Return the loop devices that have a file of ours: one without a name."""
    found = set()
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            if "(deleted)" in path.read_text():
                found.add(path.parts[3])
        except OSError:
            continue
    return found


@both
def test_reflinked_files_share_disk_blocks_and_no_page_cache(mechanism: type[Reflink]) -> None:
    if not numbers_are_told():
        pytest.skip("page numbers are root's")

    def work() -> None:
        region = mechanism.make(SIZE)
        assert isinstance(region, ReflinkRegion)
        region.write(0, np.random.default_rng(1).bytes(SIZE))
        before = region.volume_bytes()
        snapshots = [region.snapshot() for _ in range(20)]
        assert region.volume_bytes() - before < SIZE, "twenty copies take less disk than one"
        for snapshot in snapshots:
            assert snapshot.read(0, SIZE) == region.read(0, SIZE)
            found = compare(SIZE, (0, region.place.address), (0, snapshot.place.address), base=False).same
            assert found is not None
            assert not (found == SAME).any(), "each file has pages of its own"
        for each in (*snapshots, region):
            each.close()

    forked(work)


@both
def test_nothing_is_left_of_a_killed_process(mechanism: type[Reflink]) -> None:
    with one_at_a_time("reflink"):
        before, mounts = loops(), Path("/proc/mounts").read_text()
        code = (
            f"from snapserv.mechanisms.reflink import {mechanism.__name__} as M\n"
            "r = M.make(1 << 22); r.write(0, b'x' * 100); s = r.snapshot(); s.read(0, 1)\n"
            "print('on', flush=True); input()"
        )
        victim = subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert victim.stdout is not None
        assert victim.stdout.readline() == "on\n"
        assert Path("/proc/mounts").read_text() == mounts, "no path leads to it"
        assert len(loops() - before) >= 1
        victim.kill()
        victim.communicate()
        assert_settles(lambda: loops() <= before, True)


def test_a_folder_that_cannot_share_blocks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, "/dev/shm")  # a tmpfs
    with Reflink.make(PAGE) as region, pytest.raises(UnsupportedError, match="share blocks"):
        region.snapshot()
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(UnsupportedError):
        Reflink.make(PAGE)
