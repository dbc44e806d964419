"""Folders that belong to the node: every node sees its own files, and the user's are never changed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from snapserv_client import Server
from snapserv_client.errors import BadRequestError, NodeDiedError

from snapserv.doctor.machine import diagnose
from snapserv.folders.probe import Probed

from ..conftest import ROOT, assert_settles
from .conftest import Serve, digest, layers_of, look


def test_a_branch_goes_on_bit_for_bit_as_the_uninterrupted_run(ledger: Server) -> None:
    main = ledger.branch("main")
    before = main.snapshot("before")
    main.step(20)
    wanted, seen = digest(main), look(main)
    (again,) = before.branch(1)
    again.step(8)
    middle = again.snapshot()
    again.step(12)
    assert digest(again) == wanted
    assert look(again) == seen
    (resumed,) = middle.branch(1)
    resumed.step(12)
    assert digest(resumed) == wanted
    main.restore(middle)
    main.step(12)
    assert digest(main) == wanted
    main.reset()
    main.step(20)
    assert digest(main) == wanted


def test_siblings_never_see_each_others_files(ledger: Server) -> None:
    main = ledger.branch("main")
    main.step(5)
    fork = main.snapshot("fork")
    before = look(main)
    siblings = fork.branch(4)
    for number, sibling in enumerate(siblings):
        sibling.step(3, amount=1000 * number)
    assert look(main) == before
    logs = {look(sibling)["log"] for sibling in siblings}
    assert len(logs) == 4
    for sibling in siblings:
        assert [row[0] for row in look(sibling)["entries"]] == list(range(1, 9))
    fork.branch(1, names=["fresh"])
    assert look(ledger.branch("fresh")) == before


def test_a_snapshots_files_never_change_whatever_its_branch_does(ledger: Server) -> None:
    main = ledger.branch("main")
    main.step(4)
    before = look(main)
    snapshot = main.snapshot()
    main.step(9)
    main.drop()
    (branch,) = snapshot.branch(1)
    assert look(branch) == before


def test_the_children_of_an_expansion_have_files_of_their_own_and_leave_none(
    ledger: Server, tmp_path: Path
) -> None:
    main = ledger.branch("main")
    main.step(5)
    before = main.snapshot()
    again = before.branch()
    again.step(4)
    wanted = digest(again)
    layers = layers_of(tmp_path / "temporary")
    outcomes = before.expand([{}] * 6, steps=4, read=["digest"])
    assert {bytes(outcome["digest"]) for outcome in outcomes} == {wanted}
    assert_settles(lambda: layers_of(tmp_path / "temporary"), layers)
    assert before.verify().ok
    for kept_as in ("branch", "snapshot"):
        (outcome,) = before.expand([{}], steps=4, keep="all", keep_as=kept_as)  # type: ignore[arg-type]
        node = outcome.node if kept_as == "branch" else outcome.node.branch()
        assert digest(node) == wanted
        again.restore(before)
        again.step(9)
        node.step(5)
        assert digest(node) == digest(again), kept_as


def test_what_on_snapshot_writes_is_in_the_snapshot_and_in_the_branch(ledger: Server) -> None:
    main = ledger.branch("main")
    for _ in range(4):
        main.step(1)
        snapshot = main.snapshot()
    wanted = "word-0 word-1 word-2 word-3 "
    assert snapshot.branch().call("words") == wanted
    assert main.call("words") == wanted


def test_a_beginning_is_replayed_in_the_folders_that_are_there(ledger: Server) -> None:
    main = ledger.branch("main")
    branch = main.snapshot().branch(rng=7)
    branch.step(5)
    assert branch.verify().ok


def test_trying_a_simulation_out_leaves_its_folders_as_they_are(tmp_path: Path, probed: Probed) -> None:
    if not probed.how:
        pytest.skip(probed.found)
    code = "from snapserv.doctor.simulation import examine; print(examine('tests.simulations.ledger:Jotter', {}))"
    environment = {**os.environ, "JOTTER": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "a tick" in ended.stdout
    assert os.listdir(tmp_path) == []


def test_a_branch_that_was_killed_comes_back_with_its_snapshots_files(ledger: Server) -> None:
    main = ledger.branch("main")
    main.step(3)
    before = look(main)
    snapshot = main.snapshot()
    main.step(1)
    os.kill(main.info().pid, signal.SIGKILL)
    with pytest.raises(NodeDiedError):
        main.step()
    main.restore(snapshot)
    assert look(main) == before


def test_a_rewind_in_place_is_refused_since_it_leaves_files_as_they_are(ledger: Server) -> None:
    with pytest.raises(BadRequestError, match="folders"):
        ledger.branch("main").mark()


def test_a_simulation_names_its_folders_itself(serve: Serve, tmp_path: Path, probed: Probed) -> None:
    if not probed.how:
        pytest.skip(probed.found)
    with serve("tests.simulations.ledger:Jotter", JOTTER=str(tmp_path)).connect() as client:
        main = client.branch("main")
        main.step(3)
        snapshot = main.snapshot()
        main.step(2)
        (branch,) = snapshot.branch(1)
        assert branch.step(1).outputs == {"number": 4}
        assert main.step(1).outputs == {"number": 6}
    assert os.listdir(tmp_path) == []


def test_doctor_says_how_folders_are_branched_here(probed: Probed) -> None:
    (finding,) = (finding for finding in diagnose().findings if finding.what == "branched folders")
    assert (finding.verdict, finding.found.partition(":")[0]) == (
        "ok" if probed.how == "overlay" else "weak",
        probed.found.partition(":")[0],
    )


def test_a_cell_without_folders_loads_nothing_of_this() -> None:
    unwanted = "{'snapserv.folders', 'snapserv.ext.mounts'}"
    code = f"import sys, snapserv.cell.loop; sys.exit(bool({unwanted} & {{*sys.modules}}))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_folder_that_is_none_is_said_at_setup(serve: Serve) -> None:
    with pytest.raises(AssertionError, match="no folder '/nonexistent'"):
        serve("tests.simulations.ledger:Jotter")
