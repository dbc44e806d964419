"""Folders where overlayfs or root's rights are missing: copies, namespaces, and what to do about it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest
from snapserv_client.trust import TRUSTED_VARIABLE

from snapserv.folders.probe import Probed
from snapserv.nodes.process_table import ONE_THREAD

from ..conftest import ROOT, as_nobody, assert_settles, start_server
from .conftest import COURSE, Serve, digest, layers_of, look, serve_ledger


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
def test_an_ordinary_user_branches_folders_too(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a user namespace, whose memory and files the server outside can still read and remove."""
    monkeypatch.setenv(TRUSTED_VARIABLE, "65534")
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
            [*nobody, sys.executable, "-m", "snapserv.folders.probe"],
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
