"""Layers: how many stand on each other, who removes them, and what happens where they cannot be written."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from snapserv_client import Server
from snapserv_client.errors import OverBudgetError, SimulationError

from snapserv.folders.store import MOST_LAYERS
from snapserv.nodes.process_table import ONE_THREAD

from ..conftest import ROOT, assert_settles, start_server
from .conftest import Serve, digest, layers_of, look, serve_ledger, take_snapshots


def test_what_is_rolled_back_leaves_no_file_and_no_layer(ledger: Server, tmp_path: Path) -> None:
    main = ledger.branch("main")
    plain = main.branch(name="plain")
    seen = look(main)
    began = len(layers_of(tmp_path / "temporary"))
    for step in range(1, 31):
        if step % 3 == 0:
            with pytest.raises(SimulationError, match="rolled back"):
                main.call("fill", -1, atomic=True)  # which has made its file by then
            assert look(main) == seen
        if step % 10 == 0:
            pid = main.info().pid
            os.kill(pid, signal.SIGKILL)
            assert_settles(lambda: main.info().state, "dead")
            main.restore("kept")
            assert look(main) == seen
        main.step(atomic=True)
        seen = look(main)
        if step % 10 == 9:
            main.snapshot("kept")
        if step % 10 == 0:
            ledger.node("kept").drop()
    plain.step(30)
    assert digest(main) == digest(plain)
    assert look(plain) == seen
    assert_settles(lambda: len(layers_of(tmp_path / "temporary")) <= began + 20, True)


def test_a_chain_of_100_generations_stays_correct_and_its_stack_short(ledger: Server, tmp_path: Path) -> None:
    main = ledger.branch("main")
    start = main.snapshot("start")
    main.step(100)
    wanted = digest(main)
    (branch,) = start.branch(1)
    for _ in range(100):
        branch.step(1)
        snapshot = branch.snapshot()
        (following,) = snapshot.branch(1)
        branch.drop()
        snapshot.drop()
        branch = following
        (mount,) = branch.call("mounts")
        assert mount.partition("lowerdir=")[2].partition(",")[0].count(":") <= MOST_LAYERS
    assert digest(branch) == wanted
    # Its stack, and what the root, main and its start stand on; and the first of files that have been open since.
    assert_settles(lambda: len(layers_of(tmp_path / "temporary")) <= MOST_LAYERS + 10, True)


def test_100_snapshots_of_one_branch_stay_correct_and_can_all_be_branched(ledger: Server) -> None:
    main = ledger.branch("main")
    start = main.snapshot()
    digests, taken = [], []
    for tick in range(60):
        main.step(1)
        if tick == 10:
            main.call("open_late")
            start = main.snapshot("late")
        taken.append(main.snapshot())
        digests.append(digest(main))
    for tick in (0, 9, 24, 25, 26, 49, 59):
        first, second = taken[tick].branch(2)
        assert digest(first) == digests[tick]
        if tick < 58:
            first.step(1)
            second.step(1)
            assert digest(first) == digests[tick + 1]
        assert look(first) == look(second)
    (again,) = start.branch(1)
    again.step(49)
    assert digest(again) == digests[59]


def test_drops_remove_the_layers_that_nobody_stands_on(ledger: Server, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    main = ledger.branch("main")
    assert_settles(lambda: len(layers_of(temporary)), 2)  # the root's and main's
    first = main.snapshot("first")
    branches = first.branch(3)
    assert_settles(lambda: len(layers_of(temporary)), 6)
    for branch in branches:
        branch.call("fill", 4)
        branch.restore(first)
    assert_settles(lambda: len(layers_of(temporary)), 6)
    for branch in branches:
        branch.drop()
    assert_settles(lambda: len(layers_of(temporary)), 3)
    main.reset()
    first.drop()
    assert_settles(lambda: len(layers_of(temporary)), 2)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_done_to_a_folder_is_there_after_generations_and_merges(
    seed: int, folder: Path, tmp_path: Path
) -> None:
    """Against a plain folder to which the same was done: see `tests.folders.changes`."""
    plain = tmp_path / "plain"
    shutil.copytree(folder, plain)
    command = [
        sys.executable,
        "-m",
        "tests.folders.changes",
        str(seed),
        str(folder),
        str(plain),
        str(tmp_path / "st" / "s"),
    ]
    ended = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **ONE_THREAD}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_a_full_disk_is_over_budget_and_the_branch_goes_on(serve: Serve, folder: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small tmpfs")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "small", small], check=True)
    try:
        process = serve_ledger(serve, folder, TMPDIR=str(small))
        with process.connect() as client:
            main = client.branch("main")
            main.step(3)
            before = look(main)
            main.call("fill", 3)
            main.snapshot()
            with pytest.raises(SimulationError, match="No space left"):
                main.call("fill", 3)
            main.clear()
            main.call("fill", 0)
            (branch,) = main.snapshot().branch(1)
            with pytest.raises(OverBudgetError, match="No space left"):
                take_snapshots(branch, 3000)
            assert look(main)["entries"] == before["entries"]
        assert process.end() == 0
        assert os.listdir(small) == []
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_server_that_was_killed_leaves_layers_that_the_next_one_removes(
    serve: Serve, folder: Path, tmp_path: Path
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    killed = start_server(
        tmp_path,
        "tests.simulations.ledger:Ledger",
        params={"folder": str(folder)},
        options=("--branch-dir", str(folder)),
        TMPDIR=str(temporary),
    )
    with killed.connect() as client:
        main = client.branch("main")
        main.step(2)
        main.snapshot()
        pids = [node.pid for node in client.tree().nodes]
    assert layers_of(temporary)
    killed.end(signal.SIGKILL)
    for pid in pids:
        assert_settles(lambda pid=pid: os.path.exists(f"/proc/{pid}"), False)
    following = serve("tests.simulations.walk:Walk", TMPDIR=str(temporary))
    assert_settles(lambda: layers_of(temporary), set())
    assert following.end() == 0
    assert os.listdir(temporary) == []


def test_a_store_in_use_is_not_swept_away(ledger: Server, serve: Serve, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    before = layers_of(temporary)
    other = serve("tests.simulations.walk:Walk", TMPDIR=str(temporary))
    assert other.end() == 0
    assert layers_of(temporary) == before
    ledger.branch("main").step(2)
