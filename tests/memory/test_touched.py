"""Segments of which reads map no more pages than they touch: when, for how long, and that nobody can tell."""

from __future__ import annotations

import errno
import os
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from snapserv_client import Server
from snapserv_client.errors import BadRequestError

from snapserv.ext import fork, memory, touched
from snapserv.memory.arena import Arena
from snapserv.memory.rebasing import Rebaser
from snapserv.memory.touched import MODES, ONE_IN, VARIABLE, mode
from snapserv.outside.bases import bases_of

from ..conftest import ServerProcess, assert_settles, session_processes
from ..operations.lives import Lives
from ..processes import forked, needs_filter, refuse

PAGE = memory.PAGE
MIB = 1 << 20
SEGMENT = 4 * MIB
MUCH_NS = 10**10
"""A clone that takes so long is worth a look."""
Serve = Callable[..., ServerProcess]


def why_not() -> str:
    """Return why segments cannot be registered here; empty where they can."""
    if not Arena().rebasable and Arena().backing.startswith("anonymous"):
        return "this machine's arenas stand on no files"
    try:
        touched.count_entries(0, PAGE)
        touched.Registration().close()
    except OSError as cause:
        return f"userfaultfd or PAGEMAP_SCAN: {cause.strerror}"
    return ""


if why_not():
    pytest.skip(why_not(), allow_module_level=True)


@pytest.fixture(autouse=True)
def _adaptive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


class Line:
    """A small arena whose pages are read, changed and written all over it, and a copy of what it should be."""

    def __init__(self, segments: int = 4) -> None:
        self.arena = Arena(segment_bytes=SEGMENT)
        self.field = self.arena.allocate("field", np.uint8, (segments * SEGMENT // PAGE, PAGE))
        self.field[:] = np.arange(len(self.field))[:, None] % 251
        self.arena.seal()
        self.expected = self.field.copy()
        self.random = np.random.default_rng(3)
        self.rebaser = Rebaser(self.arena)
        self.touched = self.rebaser.touched

    def scatter(self, pages: int = 40) -> None:
        """Change pages, one after the other: each is read in a block that has been split."""
        for page in self.random.integers(0, len(self.field), pages):
            for rows in (self.field, self.expected):
                rows[page, 5] = (int(rows[page, 4000]) + int(rows[page, 5]) + 1) % 251

    def read_all(self) -> None:
        assert int(self.field[:, 5].sum()) == int(self.expected[:, 5].sum())

    def clone(self, clone_ns: int = MUCH_NS) -> None:
        """Go on as a cell does that was cloned, and do all that is to be done."""
        self.rebaser.cloned(clone_ns)
        while self.rebaser.pending:
            self.rebaser.advance()

    def settle(self) -> None:
        """Go on until all segments are registered."""
        self.clone(1)
        for _ in range(4):
            self.scatter()
            self.clone()
        assert len(self.touched.registered) == len(self.arena.segments)

    def entries(self) -> tuple[int, int]:
        first, last = self.arena.segments[0], self.arena.segments[-1]
        return touched.count_entries(first.address, last.address + last.size_bytes)

    def check(self) -> None:
        assert np.array_equal(self.field, self.expected)


def watched(pid: int | str = "self") -> int:
    """Return how many areas of a process are registered with a userfaultfd, as smaps has it."""
    lines = Path(f"/proc/{pid}/smaps").read_text().splitlines()
    return sum("uw" in line.split() for line in lines if line.startswith("VmFlags"))


def userfaults(pid: int | str = "self") -> int:
    """Return how many descriptors of userfaultfd a process has."""
    folder = Path(f"/proc/{pid}/fd")
    return sum("userfaultfd" in os.readlink(each) for each in folder.iterdir() if each.is_symlink())


# ----------------------------------------------------------------------------------------------- entries themselves


def test_entries_are_counted_and_those_of_files_dropped_and_nothing_else_changes() -> None:
    def work() -> None:
        line = Line()
        assert line.entries() == (0, 0), "what is mapped in huge pages, or not at all, has none"
        line.scatter()
        private, mapped = line.entries()
        assert private == line.arena.private_pages().count
        assert mapped > 512
        start = line.arena.segments[0].address
        assert touched.count_entries(start, start + 4 * SEGMENT, 2)[0] <= 2 * private
        assert touched.drop_mapped(start, start + 4 * SEGMENT) == mapped
        assert line.entries() == (private, 0)
        line.check()
        assert touched.drop_mapped(start, start + PAGE) in (0, 1)

    forked(work)


def test_reads_of_what_is_registered_map_what_they_touch() -> None:
    def work() -> None:
        line = Line()
        start, end = line.arena.segments[0].address, line.arena.segments[0].address + SEGMENT
        found = touched.Registration()
        found.add(start, end)
        assert found.is_open
        assert found.descriptor > 20
        assert watched() == 1
        line.field[0, 0] = 1
        for page in (3, 5, 8):
            assert line.field[page, 0] == page
        assert touched.count_entries(start, end) == (1, 3)
        assert memory.scan_private(0, start, end).tolist() == [[start, start + PAGE]]
        assert memory.scan_private_pagemap(0, start, end).tolist() == [[start, start + PAGE]]
        found.remove(start, end)
        assert watched() == 0
        os.close(found.descriptor)
        assert not found.is_open
        reading, _ = os.pipe()
        os.dup2(reading, found.descriptor)
        assert not found.is_open, "its number is somebody else's now"
        found.close()
        os.fstat(reading)

    forked(work)


# -------------------------------------------------------------------------------------------------------- the rules


def test_segments_are_tried_then_follow_and_keep_their_content() -> None:
    def work() -> None:
        line = Line(2 * ONE_IN)
        before = sorted(os.listdir("/proc/self/fd"))
        line.clone(1)
        line.scatter(400)
        line.clone(1)
        assert line.touched.registered == [], "a clone that takes as long as the shortest is no reason"
        line.scatter(400)
        line.clone()
        assert len(line.touched.registered) == 2, "one in eight is tried"
        line.scatter(400)
        line.clone(1)
        assert len(line.touched.registered) == 2 * ONE_IN
        assert watched() == 2 * ONE_IN
        assert len(line.touched.descriptors) == userfaults() == 1
        line.scatter(400)
        private, mapped = line.entries()
        assert private == line.arena.private_pages().count
        assert mapped < private, "most of what is read is written"
        line.check()
        line.touched.hold_off()
        assert watched() == 0
        assert sorted(os.listdir("/proc/self/fd")) == before
        line.scatter(400)
        line.clone()
        assert line.touched.registered == []
        line.check()

    forked(work)


def test_they_are_given_back_when_they_are_read_as_a_whole_and_left_alone_for_long() -> None:
    def work() -> None:
        line = Line()
        before = sorted(os.listdir("/proc/self/fd"))
        line.settle()
        line.read_all()
        line.clone(1)
        assert line.touched.registered == []
        assert line.touched.descriptors == ()
        assert watched() == 0
        assert sorted(os.listdir("/proc/self/fd")) == before
        for _ in range(ONE_IN - 2):
            line.scatter()
            line.clone()
            assert line.touched.registered == []
        line.check()

    forked(work)


def test_a_segment_that_is_read_as_a_whole_is_given_back_alone() -> None:
    def work() -> None:
        line = Line()
        line.settle()
        rows = SEGMENT // PAGE
        line.field[rows : 2 * rows, 5].sum()
        line.clone(1)
        line.clone()  # dear again, so that entries are counted
        assert len(line.touched.registered) == 3
        assert line.arena.segments[1] not in line.touched.registered
        assert watched() == 3
        line.check()

    forked(work)


def test_where_the_first_are_read_as_a_whole_the_others_do_not_follow() -> None:
    def work() -> None:
        line = Line(2 * ONE_IN)
        line.clone(1)
        line.scatter(400)
        line.clone()
        assert len(line.touched.registered) == 2
        line.read_all()
        line.scatter(400)
        line.clone(1)
        assert line.touched.registered == []
        assert userfaults() == 0
        line.check()

    forked(work)


def test_faults_that_take_more_than_clones_are_spared_use_the_credit_up() -> None:
    def work() -> None:
        line = Line()
        line.settle()
        for _ in range(40):  # much is written, and what is read is written: entries never come back
            for page in line.random.permutation(len(line.field))[:1500]:
                for rows in (line.field, line.expected):
                    rows[page, 9] = (int(rows[page, 9]) + 1) % 251
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)
            other = np.ones(8 * MIB, np.uint8)  # faults, whoever has them
            assert other.all()
            line.clone(1)
            if not line.touched.registered:
                break
        assert line.touched.registered == []
        assert userfaults() == 0
        line.check()

    forked(work)


def test_a_clone_has_no_registration_until_it_ticks_and_then_one_of_its_own() -> None:
    def work() -> None:
        line = Line()
        line.settle()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for _ in range(2):  # as a branch of a branch that has not ticked
                    line.rebaser.thawed()
                    assert userfaults() == watched() == 0
                    assert line.touched.descriptors == ()
                line.rebaser.begin_tick()
                assert userfaults() == 1
                assert watched() == len(line.touched.registered) == len(line.arena.segments)
                private, mapped = line.entries()
                line.scatter()
                assert line.entries()[1] <= mapped + 40
                assert line.entries()[0] >= private
                line.check()
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert watched() == len(line.arena.segments), "and this one has kept its own"
        line.check()

    forked(work)


def test_new_base_images_and_whole_copies_know_of_it() -> None:
    def work() -> None:
        line = Line()
        line.settle()
        old = [bases_of(0).at(segment.address) for segment in line.arena.segments]
        rows = SEGMENT // PAGE
        for field in (line.field, line.expected):
            field[:rows] += 1
        line.clone()
        line.clone()
        new = [bases_of(0).at(segment.address) for segment in line.arena.segments]
        assert [a != b for a, b in zip(old, new, strict=True)] == [True, False, False, False]
        assert line.arena.segments[0] in line.touched.registered
        assert watched() == len(line.touched.registered)
        line.scatter()
        line.check()
        line.touched.hold_off()
        assert watched() == 0

    forked(work)


def test_marks_go_back_over_registered_segments() -> None:
    def work() -> None:
        line = Line()
        line.settle()
        line.scatter()
        mark, expected = line.arena.mark(), line.expected.copy()
        for _ in range(3):
            line.scatter(200)
            line.clone()
            line.arena.rewind(mark)
            line.expected[:] = expected
            line.check()
        line.scatter(5)
        line.check()

    forked(work)


def test_threads_have_it_wait_for_the_next_clone() -> None:
    def work() -> None:
        line = Line()
        line.clone(1)
        line.scatter(400)
        ending = threading.Event()
        thread = threading.Thread(target=ending.wait)
        thread.start()
        line.clone()
        assert line.touched.registered == []
        assert not line.rebaser.pending
        ending.set()
        thread.join()
        assert_settles(fork.count_threads, 1)
        line.clone(1)
        assert line.touched.registered
        line.check()

    forked(work)


def test_a_descriptor_that_somebody_has_closed_is_made_anew_or_missed_by_nobody() -> None:
    def work() -> None:
        line = Line()
        line.settle()
        os.close(line.touched.descriptors[0])
        assert watched() == 0
        assert line.touched.descriptors == ()
        line.scatter()
        line.clone(1)
        assert line.touched.registered == []
        line.scatter(400)
        line.clone()
        line.check()

    forked(work)


@needs_filter
@pytest.mark.parametrize(("call", "error"), [("userfaultfd", errno.EPERM), ("userfaultfd", errno.ENOSYS)])
def test_where_it_is_forbidden_everything_is_as_it_would_be_without(call: str, error: int) -> None:
    def work() -> None:
        line = Line()
        refuse(call, error)
        line.clone(1)
        for _ in range(4):
            line.scatter(100)
            line.clone()
        assert line.touched.registered == []
        assert line.touched.descriptors == ()
        assert not line.rebaser.pending
        line.check()

    forked(work)


def test_the_environment_turns_it_off_and_an_unknown_word_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> None:
        line = Line()
        line.clone(1)
        for _ in range(4):
            line.scatter(100)
            line.clone()
        assert line.touched.registered == []
        line.check()

    monkeypatch.setenv(VARIABLE, "never")
    forked(never)
    monkeypatch.setenv(VARIABLE, "sometimes")
    with pytest.raises(BadRequestError, match="sometimes"):
        mode()


# ------------------------------------------------------------------------------------------------------ on a server


def life(server: Server) -> Iterator[Any]:
    """Do what can be done with a branch; yield what comes of it."""
    main = server.branch("main")
    yield main.step(3).outputs
    early = main.snapshot("early")
    for _ in range(3):
        yield main.step(1).outputs
        main.snapshot().drop()
    main.mark()
    yield main.step(2).outputs
    yield main.rewind().step
    yield main.step(1).outputs
    late = main.snapshot("late")
    yield [branch.step(2, dense=True).outputs for branch in (early.branch(), late.branch(name="other"))]
    yield [outcome.outputs for outcome in late.expand([{"pages": 50}, {"dense": True}] * 6, steps=2)]
    for one, other in ((main, late), (late, early), (server.branch("other"), main)):
        found = one.diff(other)
        yield found.same, [(field.name, field.changed) for field in found.fields]
    counts = main.pages(late, fields=["memory"])
    yield counts.counts.private, counts.result.same, counts.result.different
    yield zlib.crc32(np.ascontiguousarray(main.read("memory")).data)
    main.restore(early)
    yield main.step(2, dense=True).outputs


def live_and_frozen(server: Server) -> tuple[list[int], list[int]]:
    nodes = server.tree().nodes
    pids = {node.pid: node.kind for node in nodes if node.pid}
    return [pid for pid, kind in pids.items() if kind == "branch"], [
        pid for pid, kind in pids.items() if kind != "branch"
    ]


def test_nobody_can_tell_whatever_is_done(serve: Serve) -> None:
    told: dict[str, list[Any]] = {}
    for how in MODES:
        process = serve("tests.simulations.scattering:Scatters", **{VARIABLE: how})
        with process.connect() as server:
            told[how] = list(life(server))
            live, frozen = live_and_frozen(server)
            assert live
            assert frozen
            assert all(userfaults(pid) == watched(pid) == 0 for pid in frozen)
            if how == "always":
                assert any(watched(pid) for pid in live)
            if how == "never":
                assert not any(userfaults(pid) for pid in session_processes(process.pid))
    assert told["always"] == told["never"] == told["adaptive"]


def test_what_is_saved_goes_on_where_the_registration_was(short_path: Path) -> None:
    lives = Lives(short_path)
    try:
        with lives.begin("tests.simulations.scattering:Scatters", **{VARIABLE: "always"}) as server:
            main = server.branch("main")
            main.step(3)
            saved = main.save("saved").saved[0]
            assert saved.name == "saved"
            wanted = [main.step(1, dense=True).outputs for _ in range(3)]
        lives.end()
        with lives.begin(**{VARIABLE: "always"}) as server:
            branch = server.snapshot("saved").branch()
            assert [branch.step(1, dense=True).outputs for _ in range(3)] == wanted
            pid = branch.info().pid
            assert pid is not None
            assert watched(pid) == 1
            branch.save("again")
    finally:
        lives.close()
