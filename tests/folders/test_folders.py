"""Folders that belong to the node: every node sees its own files, and the user's are never changed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from snapserv_client import Branch, Server
from snapserv_client.errors import BadRequestError, NodeDiedError, OverBudgetError, SimulationError

from snapserv.diagnosis import diagnose
from snapserv.folder_probe import Probed
from snapserv.herd import ONE_THREAD
from snapserv.store import MOST_LAYERS

from ..conftest import ROOT, ServerProcess, as_nobody, assert_settles, start_server

Serve = Callable[..., ServerProcess]
COURSE = "".join(f"word-{number}\n" for number in range(1000))


@pytest.fixture(scope="session")
def probed() -> Probed:
    command = [sys.executable, "-m", "snapserv.folder_probe"]
    ended = subprocess.run(command, env={**os.environ, **ONE_THREAD}, capture_output=True, check=True, cwd=ROOT)
    return msgspec.json.decode(ended.stdout, type=Probed)


@pytest.fixture
def folder(tmp_path: Path, probed: Probed) -> Iterator[Path]:
    """A folder to branch; at the end it is as it was, and no mount can be seen from here."""
    if probed.how != "overlay":
        pytest.skip(f"no overlayfs: {probed.found}")
    made = tmp_path / "game"
    made.mkdir()
    (made / "course.txt").write_text(COURSE)
    yield made
    assert sorted(os.listdir(made)) == ["course.txt"], "the user's own folder was changed"
    assert (made / "course.txt").read_text() == COURSE
    assert str(made) not in Path("/proc/self/mountinfo").read_text()


@pytest.fixture
def ledger(serve: Serve, folder: Path, tmp_path: Path) -> Iterator[Server]:
    """A client of a server whose simulation keeps its state in files."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = serve_ledger(serve, folder, TMPDIR=str(temporary))
    with process.connect() as client:
        yield client
    assert process.end() == 0, process.log.read_text()
    assert os.listdir(temporary) == [], "layers were left behind"


def serve_ledger(serve: Serve, folder: Path, **options: Any) -> ServerProcess:
    return serve(
        "tests.simulations.ledger:Ledger",
        params={"folder": str(folder)},
        options=("--branch-dir", str(folder)),
        **options,
    )


def look(branch: Branch) -> dict[str, Any]:
    found: dict[str, Any] = branch.call("look")
    return found


def digest(branch: Branch) -> bytes:
    return bytes(branch.read("digest"))


def take_snapshots(branch: Branch, most: int) -> None:
    for _ in range(most):
        branch.snapshot()


def layers_of(temporary: Path) -> set[str]:
    return {path.name for path in temporary.glob("snapserv-folders-*/*/*")} - {"o"}


def test_what_is_rolled_back_leaves_no_file_and_no_layer(ledger: Server, tmp_path: Path) -> None:
    main = ledger.branch("main")
    plain = main.branch(name="plain")
    seen = look(main)
    began = len(layers_of(tmp_path / "temporary"))
    for step in range(1, 31):
        if step % 3 == 0:
            with pytest.raises(SimulationError, match="rolled back"):
                main.call("fill", "too much", atomic=True)  # which has made its file by then
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


def test_a_database_opened_in_a_later_generation_can_be_written_in_all_that_follow(ledger: Server) -> None:
    """SQLite refuses to write where the file's inode number is no longer that of the file that it opened."""
    main = ledger.branch("main")
    main.step(1)
    main.snapshot()
    main.call("open_late")
    branch = main
    for _ in range(2 * MOST_LAYERS + 10):
        branch.step(1)
        snapshot = branch.snapshot()
        (following,) = snapshot.branch(1)
        branch.drop()
        snapshot.drop()
        branch = following
    branch.step(1)


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
    code = "from snapserv.preflight import examine; print(examine('tests.simulations.ledger:Jotter', {}))"
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


def test_a_shared_mapping_is_refused_by_name_and_nothing_is_left_of_the_attempt(
    ledger: Server, tmp_path: Path
) -> None:
    main = ledger.branch("main")
    main.call("map_shared")
    layers = layers_of(tmp_path / "temporary")
    with pytest.raises(SimulationError, match=r"game/mapped is mapped.*journal_mode"):
        main.snapshot()
    assert layers_of(tmp_path / "temporary") == layers
    main.call("unmap")
    main.snapshot()


def test_open_files_stay_as_many_over_generations(ledger: Server) -> None:
    main = ledger.branch("main")
    main.step(1)
    counts = []
    for _ in range(5):
        snapshot = main.snapshot()
        (branch,) = snapshot.branch(1)
        counts.append((main.call("descriptors"), branch.call("descriptors")))
        main.restore(snapshot)
    assert len(set(counts)) == 1


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
    code = "import sys, snapserv.cell; sys.exit(bool({'snapserv.folders', 'snapserv.ext.mounts'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


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


def test_a_folder_that_is_none_is_said_at_setup(serve: Serve) -> None:
    with pytest.raises(AssertionError, match="no folder '/nonexistent'"):
        serve("tests.simulations.ledger:Jotter")


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


def test_without_overlayfs_each_node_has_a_copy(serve: Serve, folder: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = serve(
        "tests.simulations.ledger:Jotter", JOTTER=str(folder), TMPDIR=str(temporary), SNAPSERV_FOLDERS="copies"
    )
    with process.connect() as client:
        main = client.branch("main")
        for _ in range(30):
            main.step(1)
            snapshot = main.snapshot()
            (branch,) = snapshot.branch(1)
            snapshot.drop()
            main.drop()
            main = branch
        assert main.step(1).outputs == {"number": 31}
        assert_settles(lambda: len(layers_of(temporary)), 2)
    assert process.end() == 0
    assert os.listdir(temporary) == []


def test_with_copies_the_run_that_is_snapshotted_goes_on_with_its_open_database(serve: Serve, folder: Path) -> None:
    process = serve(
        "tests.simulations.ledger:Ledger",
        params={"folder": str(folder), "reconnect": True},
        options=("--branch-dir", str(folder)),
        SNAPSERV_FOLDERS="copies",
    )
    with process.connect() as client:
        main = client.branch("main")
        main.step(3)
        snapshot = main.snapshot()
        before = look(main)
        main.step(5)
        assert len(look(main)["entries"]) == 8
        (branch,) = snapshot.branch(1)
        assert look(branch) == before


@pytest.mark.parametrize("how", ["overlay", "copies"])
def test_an_ordinary_user_branches_folders_too(how: str) -> None:
    """In a user namespace, whose memory and files the server outside can still read and remove."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can become nobody, by setpriv, and the others are that already")
    with tempfile.TemporaryDirectory() as work:
        nobody = as_nobody()
        game = Path(work) / "game"
        game.mkdir()
        (game / "course.txt").write_text(COURSE)
        for path in (work, game, game / "course.txt"):
            os.chown(path, 65534, 65534)
        environment = {**os.environ, **ONE_THREAD, "TMPDIR": work, "SNAPSERV_FOLDERS": how, "HOME": work}
        tried = subprocess.run(
            [*nobody, sys.executable, "-m", "snapserv.folder_probe"],
            capture_output=True,
            check=False,
            cwd=ROOT,
            env=environment,
        )
        assert tried.returncode == 0, tried.stderr
        probed = msgspec.json.decode(tried.stdout, type=Probed)
        if not probed.how:
            pytest.skip(probed.found)
        process = start_server(
            Path(work),
            "tests.simulations.ledger:Ledger",
            params={"folder": str(game), "reconnect": True},
            options=("--branch-dir", str(game)),
            prefix=nobody,
            TMPDIR=work,
            SNAPSERV_FOLDERS=how,
            HOME=work,
        )
        try:
            with process.connect() as client:
                main = client.branch("main")
                start = main.snapshot()
                main.step(40)
                wanted = digest(main)
                (branch,) = start.branch(1)
                for _ in range(40):
                    branch.step(1)
                    snapshot = branch.snapshot()
                    (following,) = snapshot.branch(1)
                    branch.drop()
                    snapshot.drop()
                    branch = following
                assert digest(branch) == wanted
                main.restore(start)
                for _ in range(40):
                    main.step(1)
                    main.snapshot()
                assert digest(main) == wanted
        finally:
            status = process.end()
        assert status == 0, process.log.read_text()
        assert sorted(os.listdir(work)) == ["game", "server.log"]
        assert os.listdir(game) == ["course.txt"]


def test_where_mounts_are_refused_it_says_what_to_do(folder: Path, serve: Serve) -> None:
    limit = Path("/proc/sys/user/max_mnt_namespaces")
    if os.geteuid() != 0 or not limit.exists():
        pytest.skip("only root can refuse itself mount namespaces")
    # In a user namespace of its own, whose limits concern nobody else.
    refuse = 'echo 0 > /proc/sys/user/max_mnt_namespaces && exec "$0" "$@"'
    with pytest.raises(AssertionError, match=r"no mount namespace.*user\.max_user_namespaces"):
        serve_ledger(serve, folder, prefix=("unshare", "--user", "--map-root-user", "sh", "-c", refuse))
