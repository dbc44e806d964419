"""Long runs: new base images for segments, and whole copies before dense ticks."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from snapserv_client.sync import Node

from snapserv.ext import memory
from snapserv.memory.arena import Arena
from snapserv.memory.rebasing import LEARN_AGAIN_AFTER, Rebaser
from snapserv.outside.bases import bases_of

from ..conftest import ServerProcess
from ..processes import forked

PAGE = memory.PAGE
MIB = 1 << 20
Serve = Callable[..., ServerProcess]

if not Arena().rebasable and Arena().backing.startswith("anonymous"):
    pytest.skip("this machine's arenas stand on no files", allow_module_level=True)


def made(segments: int = 2) -> tuple[Arena, np.ndarray[Any, Any]]:
    """Return a sealed arena with small segments, and its one field, full of ones."""
    arena = Arena(segment_bytes=4 * MIB)
    field = arena.allocate("field", np.uint8, (segments * 4 * MIB,))
    field[:] = 1
    arena.seal()
    return arena, field


def work_off(rebaser: Rebaser) -> int:
    """Do all pieces of work; return how many they were."""
    pieces = 0
    while rebaser.pending:
        rebaser.advance()
        pieces += 1
    return pieces


def test_a_segment_that_is_mostly_private_gets_a_new_base_when_its_clones_have_cost_as_much() -> None:
    def work() -> None:
        arena, field = made()
        rebaser = Rebaser(arena)
        old = [bases_of(0).at(segment.address) for segment in arena.segments]
        field[: 4 * MIB : PAGE] = 2  # the first segment whole
        field[4 * MIB] = 3  # and one page of the second
        content = field.copy()
        rebaser.cloned(1_000_000)
        rebaser.cloned(1_500_000)
        assert not rebaser.pending, "half a millisecond is less than a re-base takes"
        rebaser.cloned(2_000_000)
        assert rebaser.pending
        work_off(rebaser)
        new = [bases_of(0).at(segment.address) for segment in arena.segments]
        assert new[0] not in (None, old[0])
        assert new[1] == old[1]
        assert arena.private_pages().count == 1
        assert np.array_equal(field, content)
        field[7] = 9
        assert arena.private_pages().count == 2
        rebaser.cloned(100_000_000)
        work_off(rebaser)
        assert [bases_of(0).at(segment.address) for segment in arena.segments] == new, "none is mostly private"

    forked(work)


def test_who_was_cloned_before_keeps_its_bytes_and_who_is_cloned_after_has_the_new_base() -> None:
    def work() -> None:
        arena, field = made(1)
        rebaser = Rebaser(arena)
        field[::PAGE] = 2
        reading, writing = os.pipe()

        def child(wait_for: int) -> int:
            pid = os.fork()
            if pid == 0:
                os.close(writing)
                os.read(wait_for, 1)  # until the parent has gone on
                os._exit(int(field.max()) * 10 + int(field[PAGE]))
            return pid

        before = child(reading)
        rebaser.cloned(1)
        rebaser.cloned(100_000_000)
        rebaser.advance()
        during = os.fork()
        if during == 0:
            # The image in the making is the parent's: nothing of it is mapped here, and it is forgotten.
            rebaser.thawed()
            fine = not rebaser.pending and rebaser.first_tick and field.max() == 2
            os._exit(0 if fine else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(during, 0)[1]) == 0
        work_off(rebaser)
        after = child(reading)
        assert bases_of(before).at(arena.segments[0].address) != bases_of(0).at(arena.segments[0].address)
        assert bases_of(after).at(arena.segments[0].address) == bases_of(0).at(arena.segments[0].address)
        field[:] = 7
        os.close(writing)
        for pid in (before, after):
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 22

    forked(work)


def test_a_base_that_cannot_be_had_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        arena, field = made(1)
        field[::PAGE] = 2
        rebaser = Rebaser(arena)
        old = [bases_of(0).at(segment.address) for segment in arena.segments]

        def none_left(size: int) -> int:
            raise OSError(28, "no space left")

        arena.open_image = none_left  # type: ignore[method-assign]
        rebaser.cloned(1)
        rebaser.cloned(100_000_000)
        work_off(rebaser)
        assert [bases_of(0).at(segment.address) for segment in arena.segments] == old
        assert field.sum() == field.size + field.size // PAGE

    forked(work)


def test_a_dense_tick_is_recognised_and_spared_its_faults() -> None:
    def work() -> None:
        arena, field = made()
        rebaser = Rebaser(arena)

        def first_tick(dense: bool) -> int:
            assert rebaser.first_tick
            rebaser.first_tick = False
            before = rebaser.before_first_tick()
            if dense:
                field[: 4 * MIB] += 1
            field[4 * MIB] += 1
            faults = memory.count_faults() - before
            rebaser.after_first_tick(before)
            return faults

        def clone() -> int:
            pid = os.fork()
            if pid == 0:
                signal.pause()
            rebaser.cloned(1)
            return pid

        pids = []
        assert not rebaser.watching
        rebaser.suspect(0.0001)
        assert not rebaser.watching, "too short a tick to have written much"
        rebaser.suspect(0.5)
        assert rebaser.watching
        assert first_tick(dense=True) > 900
        assert rebaser.watching
        assert not arena.segments[0].detached
        pids.append(clone())
        assert first_tick(dense=True) < 100
        assert [segment.detached for segment in arena.segments] == [True, False]
        assert bases_of(0).at(arena.segments[0].address) is None
        assert field[0] == 3
        assert field[4 * MIB] == 3
        # When the simulation changes its ways, that is noticed: now and then a first tick is let have its faults.
        for _ in range(LEARN_AGAIN_AFTER + 1):
            pids.append(clone())
            first_tick(dense=False)
        pids.append(clone())
        address = arena.segments[0].address
        assert arena.sample(arena.segments[0]).exclusive == 0
        before = rebaser.before_first_tick()
        assert arena.sample(arena.segments[0]).exclusive == 0, "not copied any more"
        rebaser.after_first_tick(before)
        for pid in pids:
            content = np.empty(1, np.uint8)
            memory.read_process(pid, np.array([address], np.uint64), 1, content)
            assert content[0] in (2, 3)
            os.kill(pid, 9)
            os.waitpid(pid, 0)

    forked(work)


def test_a_sparse_tick_after_a_clone_that_has_ended_is_not_taken_for_a_dense_one() -> None:
    def work() -> None:
        arena, field = made()
        rebaser = Rebaser(arena)
        field[:] = 2
        if (pid := os.fork()) == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        rebaser.cloned(1)
        before = rebaser.before_first_tick()
        field[:: 4 * PAGE] = 3
        unrelated = np.ones(2 * MIB, np.uint8)  # faults that are not the arena's
        assert unrelated.all()
        rebaser.after_first_tick(before)
        rebaser.cloned(1)
        rebaser.before_first_tick()
        assert not any(segment.detached for segment in arena.segments)

    forked(work)


def test_a_long_run_on_a_server_keeps_every_snapshot_and_every_comparison_right(serve: Serve) -> None:
    process = serve("tests.simulations.memory:Scribble", params={"pages": 16384})
    with process.connect() as client:
        main = client.branch("main")
        early = main.snapshot("early")
        first = base(main)
        main.step(64)  # every page, in random order
        assert base(main) == first
        aged = main.snapshot("aged")
        for _ in range(400):
            if base(main) != first:
                break
            main.snapshot().drop()
        else:
            raise AssertionError("no segment got a new base in 400 snapshots")
        late = main.snapshot("late")
        assert base(late) == base(main)
        assert base(early) == base(aged) == first

        # Contents are the same in all that should be, whatever base they stand on.
        expected = main.read("memory")
        assert np.array_equal(aged.read("memory"), expected)
        assert np.array_equal(late.read("memory"), expected)
        assert not np.array_equal(early.read("memory"), expected)
        assert aged.diff(late).same
        assert late.diff(main).same
        assert main.diff(early).fields[0].changed == 16384

        main.step(1)
        changed = main.diff(late)
        assert changed.fields[0].changed == 256
        assert changed.compared_bytes < 64 * MIB, "both stand on the new base: only private pages are compared"
        assert main.diff(aged).fields[0].changed == 256

        sizes = {node.name: node.private_bytes or 0 for node in client.tree(sizes=True).nodes}
        assert sizes["main"] < 16 * MIB, "its base is shared with late"
        late.drop()
        sizes = {node.name: node.private_bytes or 0 for node in client.tree(sizes=True).nodes}
        assert sizes["main"] >= 64 * MIB, "nobody shares its base any more"

        branch = aged.branch()
        main.restore(early)
        assert main.diff(early).same
        branch.step(1)
        assert branch.diff(aged).fields[0].changed == 256


def base(node: Node) -> tuple[str, str]:
    """Return the file (device, inode) that the only segment of a node stands on: it is as long as a segment."""
    for line in Path(f"/proc/{node.info().pid}/maps").read_text().splitlines():
        extent, permissions, _, device, inode = line.split(maxsplit=5)[:5]
        start, end = (int(part, 16) for part in extent.split("-"))
        if permissions == "rw-p" and inode != "0" and end - start == 64 * MIB:
            return device, inode
    raise AssertionError("no segment")


def test_the_inspector_tells_base_images_apart(serve: Serve) -> None:
    process = serve("tests.simulations.memory:Scribble", params={"pages": 16384})
    with process.connect() as client:
        main = client.branch("main")
        early = main.snapshot("early")
        first = base(main)
        main.step(64)
        while base(main) == first:
            main.snapshot().drop()
        late = main.snapshot("late")
        found = main.pages("early", fields=["memory"])
        assert found.result.same == 0, "no physical page is in both"
        assert found.result.different == 16384
        assert found.counts.base == 16384
        main.step(1)
        found = main.pages(late, fields=["memory"])
        assert (found.result.same, found.result.different) == (16384 - 256, 256)
        assert (found.counts.base, found.counts.private) == (16384 - 256, 256)
        assert early.pages(fields=["memory"]).counts.base == 16384
