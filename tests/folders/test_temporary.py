"""Temporary files belong to the node, those of setup and those of a tick, and cost nothing if there are none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from snapserv_client import Branch, Server, SnapservWarning, local
from snapserv_client.errors import BadRequestError, NotBranchableError

from snapserv.folders.probe import Probed

from ..conftest import ROOT, ServerProcess, assert_settles, start_server
from .conftest import Serve

SCRATCH = "tests.simulations.scratch:Scratch"


@pytest.fixture
def temporary(tmp_path: Path, probed: Probed) -> Iterator[Path]:
    """Where a server has its folders; nothing is there in the end."""
    if not probed.how:
        pytest.skip(probed.found)
    made = tmp_path / "temporary"
    made.mkdir()
    yield made
    assert os.listdir(made) == []


@pytest.fixture
def start(serve: Serve, temporary: Path) -> Iterator[Any]:
    """Serve it; return a client. The servers end before what they have left is looked at."""
    started: list[tuple[ServerProcess, Server]] = []

    def start(what: str = "", *, target: str = SCRATCH, **options: Any) -> Server:
        process = serve(target, params={"what": what}, TMPDIR=str(temporary), **options)
        started.append((process, process.connect()))
        return started[-1][1]

    yield start
    for process, client in started:
        client.close()
        assert process.end() == 0, process.log.read_text()


def places_of(branch: Branch) -> str:
    """Return where a branch's temporary files go, of which everybody is told the same."""
    (place,) = set(branch.call("places").values())
    return str(place)


def own_files(temporary: Path) -> set[str]:
    return {path.name for path in temporary.glob("snapserv-tmp-*/*/*/**/*")}


def test_where_nothing_is_written_nothing_is_mounted_and_no_namespace_made(start: Any, temporary: Path) -> None:
    main = start().branch("main")
    main.step(3)
    (branch,) = main.snapshot().branch(1)
    branch.step(3)
    again = branch.snapshot().branch()
    plain = os.readlink("/proc/self/ns/mnt")
    for each in (main, branch, again):
        assert each.call("standing") == {"namespace": plain, "mounts": 0, "loaded": [], "mode": "0o700"}
        assert os.readlink(f"/proc/{each.info().pid}/ns/mnt") == plain
    assert len({places_of(each) for each in (main, branch, again)}) == 3
    assert not list(temporary.glob("snapserv-layers-*"))


def test_folders_in_which_nothing_was_written_are_used_again(start: Any, temporary: Path) -> None:
    main = start().branch("main")
    snapshot = main.snapshot()
    for _ in range(20):
        branch = snapshot.branch()
        branch.step(1)
        branch.drop()
    assert len(list(temporary.glob("snapserv-tmp-*/*/0*"))) <= 3
    branch = snapshot.branch()
    branch.call("write", "left", "x")
    branch.drop()
    assert_settles(lambda: own_files(temporary), set())
    assert snapshot.branch().call("read", "left") is None


@pytest.mark.parametrize("when", ["setup", "later"])
def test_levels_that_c_has_named_branch(when: str, start: Any) -> None:
    main = start("levels" if when == "setup" else "").branch("main")
    before = main.snapshot()
    if when == "later":
        main.step(1)
        main.call("make_levels")
    main.call("play", "common")
    fork = main.snapshot()
    a, b = fork.branch(2)
    for branch, word in ((a, "a"), (b, "b"), (main, "main")):
        wanted = {"level": f"level 0\ncommon\n{word}\n", "nameless": f"0 common {word} "}
        assert branch.call("play", word) == wanted
        assert branch.call("look") == wanted
    assert a.snapshot().branch().call("look") == a.call("look")
    assert fork.branch().call("look") == {"level": "level 0\ncommon\n", "nameless": "0 common "}
    main.restore(before)
    if when == "setup":
        assert main.call("look") == {"level": "level 0\n", "nameless": "0 "}
    else:
        assert main.call("read", "level") is None


@pytest.mark.parametrize("when", ["setup", "later"])
def test_a_branch_that_lets_go_of_its_folder_leaves_its_siblings_theirs(
    when: str, start: Any, temporary: Path
) -> None:
    main = start("folder" if when == "setup" else "").branch("main")
    if when == "later":
        main.call("make_folder")
    main.step(1)
    snapshot = main.snapshot()
    a, b = snapshot.branch(2)
    a.call("let_go")
    assert a.step(1).outputs == {"count": 2}
    assert b.step(1).outputs == {"log": "1 2 "}
    assert main.step(1).outputs == {"log": "1 2 "}
    assert snapshot.branch().step(1).outputs == {"log": "1 2 "}
    assert a.snapshot().branch().step(1).outputs == {"count": 3}


def test_siblings_that_write_for_the_first_time_at_once_are_parted(start: Any) -> None:
    main = start().branch("main")
    siblings = main.snapshot().branch(4)
    for number, each in enumerate(siblings):
        each.call("write", "level.1", str(number))
    kept = [each.snapshot() for each in siblings]
    for number, (each, snapshot) in enumerate(zip(siblings, kept, strict=True)):
        each.call("write", "level.1", " more")
        assert each.call("read", "level.1") == f"{number} more"
        assert snapshot.branch().call("read", "level.1") == str(number)
    assert main.call("read", "level.1") is None


def test_a_branch_that_works_there_does_not_share_it(start: Any) -> None:
    main = start().branch("main")
    main.call("work_there")
    (branch,) = main.snapshot().branch(1)
    branch.call("write_beside", "x", "1")
    assert (branch.call("read", "x"), main.call("read", "x")) == ("1", None)


@pytest.mark.parametrize("when", ["setup", "later"])
def test_replaying_expanding_and_atomic_steps_have_files_of_their_own(when: str, start: Any) -> None:
    main = start("folder" if when == "setup" else "").branch("main")
    if when == "later":
        main.call("make_folder")
    main.step(2)
    snapshot = main.snapshot()
    outcomes = snapshot.expand([{}] * 12, steps=2)
    assert [outcome.outputs for outcome in outcomes] == [{"log": "1 2 3 4 "}] * 12
    (kept,) = snapshot.expand([{}], steps=1, keep="all")
    assert kept.node.step(1).outputs == {"log": "1 2 3 4 "}
    assert main.step(1, atomic=True).outputs == {"log": "1 2 3 "}
    assert main.step(1).outputs == {"log": "1 2 3 4 "}
    assert main.verify().ok
    assert kept.node.verify().ok


def test_children_that_write_are_not_taken_back_in_place(start: Any) -> None:
    snapshot = start().branch("main").snapshot()
    sequences: list[Any] = [[{}]] * 40
    assert {outcome.outputs["count"] for outcome in snapshot.expand(sequences)} == {1}
    branch = snapshot.branch()
    branch.call("write", "x", "1")
    written = branch.snapshot()
    assert {outcome.outputs["count"] for outcome in written.expand(sequences)} == {1}
    assert written.branch().call("read", "x") == "1"


def test_a_rewind_is_refused_where_files_would_stay_as_they_are(start: Any) -> None:
    main = start().branch("main")
    main.mark()
    main.step(1)
    main.rewind()
    main.call("write", "x", "1")
    with pytest.raises(BadRequestError, match="temporary files"):
        main.rewind()
    with pytest.raises(BadRequestError, match="temporary files"):
        main.mark()
    main.call("clear")
    main.rewind()
    assert main.info().step == 0


def test_what_comes_to_setups_folder_by_a_path_that_was_kept_is_refused_by_name(start: Any) -> None:
    main = start().branch("main")
    main.call("write", "stray", "1", kept=True)
    with pytest.warns(SnapservWarning, match="temporary files") as told:
        main.step(1)
    assert told[0].message.details["held"][0]["kind"] == "temporary_files"  # type: ignore[union-attr]
    with pytest.raises(NotBranchableError, match="stray") as refused:
        main.snapshot()
    assert "$TMPDIR" in refused.value.hint


def test_a_simulation_names_the_folder_to_have_it_branched_from_the_beginning(start: Any) -> None:
    main = start(target="tests.simulations.scratch:Named").branch("main")
    a, b = main.snapshot().branch(2)
    a.call("write", "x", "a", kept=True)
    b.call("write", "x", "b", kept=True)
    assert [each.call("read", "x") for each in (a, b, main)] == ["a", "b", None]
    assert a.snapshot().branch().call("read", "x") == "a"


def test_whoever_means_it_shares_them(start: Any) -> None:
    main = start(target="tests.simulations.scratch:Shared").branch("main")
    main.call("write", "x", "1")
    branch = main.snapshot().branch()
    branch.call("write", "x", "2")
    assert main.call("read", "x") == "12"


def test_a_later_layer_goes_with_the_last_node_that_stands_on_it(start: Any, temporary: Path) -> None:
    client = start()
    main = client.branch("main")
    branch = main.snapshot().branch()
    branch.call("write", "x", "1")
    snapshot = branch.snapshot()
    branch.drop()
    (other,) = snapshot.branch(1)
    assert other.call("read", "x") == "1"
    snapshot.drop()
    other.drop()
    assert_settles(lambda: list(temporary.glob("snapserv-layers-*/*")), [])
    assert_settles(lambda: own_files(temporary), set())


@pytest.mark.parametrize("when", ["setup", "later"])
def test_nodes_of_a_killed_server_keep_their_files(
    when: str, serve: Serve, temporary: Path, tmp_path: Path
) -> None:
    socket = tmp_path / "s"
    socket.mkdir(mode=0o700)
    options: dict[str, Any] = {
        "options": ("--orphan-grace", "60"),
        "params": {"what": "folder" if when == "setup" else ""},
        "TMPDIR": str(temporary),
    }
    killed = start_server(socket, SCRATCH, **options)
    with killed.connect() as client:
        main = client.branch("main")
        fresh = main.snapshot().branch(name="fresh")
        if when == "later":
            main.call("make_folder")
            fresh.call("write", "x", "fresh")
        main.step(1)
        main.snapshot("kept").branch(name="other")
    killed.end(signal.SIGKILL)
    # A server that has nothing to do with it removes what was left, and nothing of this is.
    assert serve("tests.simulations.walk:Walk", TMPDIR=str(temporary)).end() == 0
    following = start_server(socket, SCRATCH, **options)
    with following.connect() as client:
        assert client.branch("main").step(1).outputs == {"log": "1 2 "}
        assert client.branch("other").step(1).outputs == {"log": "1 2 "}
        assert client.snapshot("kept").branch().step(1).outputs == {"log": "1 2 "}
        assert client.branch("main").snapshot().branch().step(1).outputs == {"log": "1 2 3 "}
        fresh = client.branch("fresh")
        fresh.call("write", "y", "1")
        assert fresh.snapshot().branch().call("read", "y") == "1"
        assert client.snapshot("root").branch().call("read", "y") is None
    assert following.end() == 0, following.log.read_text()


def test_where_mounts_are_refused_only_what_would_be_shared_is(serve: Serve, temporary: Path) -> None:
    limit = Path("/proc/sys/user/max_mnt_namespaces")
    if os.geteuid() != 0 or not limit.exists():
        pytest.skip("only root can refuse itself mount namespaces")
    refuse = 'echo 0 > /proc/sys/user/max_mnt_namespaces && exec "$0" "$@"'
    prefix = ("unshare", "--user", "--map-root-user", "sh", "-c", refuse)
    process = serve(SCRATCH, prefix=prefix, TMPDIR=str(temporary))
    with process.connect() as client:
        main = client.branch("main")
        main.step(2)
        a, b = main.snapshot().branch(2)
        a.call("write", "x", "a")
        assert b.call("read", "x") is None
        with pytest.raises(NotBranchableError, match=r"temporary files \(x\)"):
            a.snapshot()
        a.call("clear")
        a.snapshot()
    assert process.end() == 0
    with pytest.raises(AssertionError, match="not_branchable"):
        serve(SCRATCH, params={"what": "folder"}, prefix=prefix, TMPDIR=str(temporary))
    process = serve(
        SCRATCH,
        params={"what": "folder"},
        prefix=prefix,
        options=("--allow", "temporary_files"),
        TMPDIR=str(temporary),
    )
    assert process.end() == 0


def test_a_private_server_branches_folders_that_it_is_told(tmp_path: Path, probed: Probed) -> None:
    if not probed.how:
        pytest.skip(probed.found)
    with local(SCRATCH, branch_dirs=[tmp_path, "$TMPDIR"]) as client:
        main = client.branch("main")
        branch = main.snapshot().branch()
        branch.call("write", f"{tmp_path}/x", "1")  # an absolute path
        branch.call("write", "y", "1", kept=True)
        assert (branch.call("read", f"{tmp_path}/x"), main.call("read", f"{tmp_path}/x")) == ("1", None)
        assert (branch.call("read", "y"), main.call("read", "y")) == ("1", None)
    assert os.listdir(tmp_path) == []


def test_trying_a_simulation_out_says_what_becomes_of_its_temporary_files(temporary: Path) -> None:
    for arguments, wanted in (
        (["Scratch"], "ok"),
        (["Scratch", "--param", 'what="folder"', "--branch-dir", "$TMPDIR"], "ok"),
        (["Strays"], "missing"),
    ):
        command = [
            sys.executable,
            "-m",
            "snapserv",
            "doctor",
            "--json",
            f"tests.simulations.scratch:{arguments[0]}",
        ]
        ended = subprocess.run(
            [*command, *arguments[1:]],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(temporary)},
            capture_output=True,
            text=True,
            check=False,
        )
        (found,) = (each for each in json.loads(ended.stdout)["findings"] if each["what"] == "temporary files")
        assert found["verdict"] == wanted, (found, ended.stderr)
        assert os.listdir(temporary) == []
