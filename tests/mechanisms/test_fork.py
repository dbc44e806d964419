"""The mechanism ``fork``: what it says of itself, and that no process of it is left, however it ends."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from snapserv.errors import BadRequestError, NodeDiedError, OverBudgetError, UnsupportedError
from snapserv.ext import memory
from snapserv.mechanisms.fork import WRITE_BYTES, Fork, ForkRegion, ForkSnapshot
from snapserv.mechanisms.registry import MECHANISMS

from ..conftest import ROOT, assert_settles
from ..processes import forked
from ..refuse import REFUSE

PAGE = memory.PAGE
SIZE = 64 * PAGE

pytestmark = pytest.mark.skipif(bool(Fork.why_not()), reason=Fork.why_not())


@pytest.fixture
def region() -> Iterator[ForkRegion]:
    """A region; at the end no child and no descriptor may be left."""
    descriptors = len(os.listdir("/proc/self/fd"))
    before = children()
    with Fork.make(SIZE) as made:
        assert isinstance(made, ForkRegion)
        yield made
    assert children() == before
    assert len(os.listdir("/proc/self/fd")) == descriptors


def children() -> set[int]:
    found = set()
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(FileNotFoundError):
            found |= {int(pid) for pid in Path(f"/proc/self/task/{task}/children").read_text().split()}
    return found


def taken(region: ForkRegion) -> ForkSnapshot:
    snapshot = region.snapshot()
    assert isinstance(snapshot, ForkSnapshot)
    return snapshot


def test_it_is_the_second_of_all() -> None:
    assert list(MECHANISMS)[:2] == ["copy", "fork"]
    assert Fork.capability().available


def test_all_processes_are_children_of_whoever_made_the_region(region: ForkRegion) -> None:
    with taken(region) as snapshot, snapshot.copy() as copy, taken(copy) as deeper:
        pids = {thing.place.pid for thing in (region, snapshot, copy, deeper)}
        assert len(pids) == 4
        assert pids <= children()
        assert {thing.place.address for thing in (region, snapshot, copy, deeper)} == {region.place.address}


def test_a_snapshot_says_how_long_its_clone_took(region: ForkRegion) -> None:
    with taken(region) as snapshot:
        assert 0 < snapshot.clone_us < 1e6
        assert 0 < snapshot.held_up_us < 1e6


def test_the_process_that_uses_it_may_have_threads(region: ForkRegion) -> None:
    wrong: list[object] = []

    def use(number: int) -> None:
        for _ in range(5):
            region.write(number * PAGE, bytes([number]) * PAGE)
            with taken(region) as snapshot:
                if snapshot.read(number * PAGE, PAGE) != bytes([number]) * PAGE:
                    wrong.append(number)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("backing", ["huge_tmpfs", "memfd", "anonymous"])
def test_its_memory_stands_on_what_was_asked_for(backing: str) -> None:
    try:
        region = Fork.make(SIZE, backing=backing)
    except UnsupportedError as error:
        pytest.skip(str(error))
    with region, region.snapshot() as snapshot:
        assert isinstance(region, ForkRegion)
        assert region.backing == backing
        region.write(0, b"after")
        assert snapshot.read(0, 5) == bytes(5)


def test_a_backing_that_is_none_is_refused_and_leaves_no_process() -> None:
    before = children()
    with pytest.raises(BadRequestError, match="marble"):
        Fork.make(SIZE, backing="marble")
    assert children() == before


def test_more_is_written_than_one_request_carries() -> None:
    data = np.random.default_rng(3).integers(0, 256, 2 * WRITE_BYTES + 77, np.uint8).tobytes()
    with Fork.make(len(data)) as region:
        region.write(0, data)
        assert region.read(0, len(data)) == data


def test_an_offset_outside_is_a_typed_error_and_the_region_lives_on(region: ForkRegion) -> None:
    with pytest.raises(BadRequestError):
        region.touch(np.array([SIZE + PAGE]))
    assert region.touch(np.array([0, PAGE])) > 0
    assert region.read(PAGE, 1) == b"\1"


@pytest.mark.parametrize("spare", range(4))
def test_where_descriptors_run_out_it_is_a_typed_error_and_nothing_is_left(spare: int) -> None:
    def work() -> None:  # in a process of its own: what else a test runner opens would meet the limit too
        with Fork.make(SIZE) as region:
            before = len(os.listdir("/proc/self/fd")), children()
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            highest = max(int(name) for name in os.listdir("/proc/self/fd"))
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 10, hard))
            filler = []
            with contextlib.suppress(OSError):
                while True:
                    filler.append(os.open("/dev/null", os.O_RDONLY))
            for _ in range(spare):
                os.close(filler.pop())
            try:
                if spare < 2:
                    with pytest.raises(OverBudgetError):
                        region.snapshot()
                else:
                    region.snapshot().close()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                for descriptor in filler:
                    os.close(descriptor)
            assert (len(os.listdir("/proc/self/fd")), children()) == before
            with region.snapshot() as snapshot:
                assert snapshot.read(0, 1) == b"\0"

    forked(work)


def test_a_holder_that_is_killed_is_a_typed_error_and_its_snapshots_live_on(region: ForkRegion) -> None:
    region.write(0, b"kept")
    with taken(region) as snapshot:
        os.kill(region.place.pid, signal.SIGKILL)
        for use in (lambda: region.write(0, b"x"), lambda: region.read(0, 1), region.snapshot):
            with pytest.raises(NodeDiedError, match="SIGKILL"):
                use()
        assert region.place.pid not in children()
        assert snapshot.read(0, 4) == b"kept"
        region.restore(snapshot)
        region.write(0, b"more")
        assert snapshot.read(0, 4) == b"kept"


def test_a_holder_that_was_killed_is_reaped_by_close_alone() -> None:
    before = children()
    region = Fork.make(SIZE)
    os.kill(region.place.pid, signal.SIGKILL)
    region.close()
    assert children() == before


def test_a_snapshot_that_is_killed_is_a_typed_error_and_the_region_lives_on(region: ForkRegion) -> None:
    with taken(region) as snapshot:
        os.kill(snapshot.place.pid, signal.SIGKILL)
        with pytest.raises(NodeDiedError):
            snapshot.copy()
        with pytest.raises(NodeDiedError):
            region.restore(snapshot)
        region.write(0, b"fine")
        assert region.read(0, 4) == b"fine"


def test_nobody_lives_longer_than_the_process_that_made_them() -> None:
    text = (
        "import os, sys\nfrom snapserv.mechanisms.fork import Fork\n"
        "region = Fork.make(4096)\nsnapshot = region.snapshot()\ncopy = snapshot.copy()\n"
        "print(*(thing.place.pid for thing in (region, snapshot, copy)), flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    ran = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, timeout=60, check=False)
    pids = [int(word) for word in ran.stdout.split()]
    assert len(pids) == 3
    assert_settles(lambda: [pid for pid in pids if alive(pid)], [])


def alive(pid: int) -> bool:
    """Return whether a process is there and no zombie, which is its new parent's affair."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_where_siblings_cannot_be_cloned_it_says_so() -> None:
    text = "from snapserv.mechanisms.fork import Fork; print(Fork.why_not())"
    command = [*REFUSE, "clone3", "--", sys.executable, "-c", text]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert "clone3 is refused" in ran.stdout
