"""What is in branched folders and in temporary files lasts with the snapshot, and so do databases that are open."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from snapserv_client import Branch
from snapserv_client.errors import StoreDamagedError
from snapserv_client.trust import TRUSTED_VARIABLE

from snapserv.folders import numbers

from ..conftest import as_nobody, start_server
from .lives import Lives

COURSE = "".join(f"word-{number}\n" for number in range(1000))
LEDGER = "tests.simulations.ledger:Ledger"
KEEPING = "tests.simulations.keeping_files:KeepingFiles"


@pytest.fixture
def lives(tmp_path: Path, short_path: Path) -> Iterator[Lives]:
    found = Lives(short_path)
    yield found
    found.close()
    for kind in ("layers", "tmp"):
        left = list((short_path / "temporary").glob(f"snapserv-{kind}-*/*"))
        assert left == [], f"{kind} were left behind"


@pytest.fixture
def begin(lives: Lives, short_path: Path) -> Callable[..., Any]:
    """Start a server whose layers and temporary files are in a folder of this test's."""
    (short_path / "temporary").mkdir()

    def start(*targets: str, **how: Any) -> Any:
        return lives.begin(*targets, TMPDIR=str(short_path / "temporary"), **how)

    return start


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "game"
    made.mkdir()
    (made / "course.txt").write_text(COURSE)
    return made


def ticks(branch: Branch, count: int) -> list[str]:
    return [repr(branch.step(1).outputs) for _ in range(count)]


@pytest.mark.parametrize("how", ["overlay", "copies"])
def test_files_of_a_branched_folder_go_on_with_an_open_database(
    lives: Lives, begin: Callable[..., Any], folder: Path, how: str
) -> None:
    """The user's own folder is another one by then: what was branched of it is in the store."""
    if how == "overlay" and numbers.how() is None:
        pytest.skip("this kernel mounts no EROFS image from a file: databases are opened again in on_branch")
    params = {"folder": str(folder), "reconnect": how == "copies"}
    options = ("--branch-dir", str(folder))
    with begin(LEDGER, params=params, options=options, SNAPSERV_FOLDERS=how) as server:
        main = server.branch("main")
        main.step(4)
        first = main.snapshot("first")
        main.step(3)
        second = main.snapshot("second")
        wanted = {name: ticks(server.snapshot(name).branch(), 50) for name in ("first", "second")}
        held = second.branch().call("look")
        first.save()
        second.save()
    lives.kill_all()
    (folder / "course.txt").write_text("another course\n")
    (folder / "stranger").write_text("was not there")
    for _ in range(2):
        with begin(SNAPSERV_FOLDERS=how) as server:
            assert server.snapshot("second").branch().call("look") == held
            for name in ("second", "first"):
                assert ticks(server.snapshot(name).branch(), 50) == wanted[name]
            assert server.branch("main").verify().ok
        lives.kill_all()
    assert sorted(path.name for path in folder.iterdir()) == ["course.txt", "stranger"]
    with begin(SNAPSERV_FOLDERS=how):
        pass
    lives.end()


@pytest.mark.parametrize("early", [False, True])
def test_temporary_files_go_on(lives: Lives, begin: Callable[..., Any], early: bool) -> None:
    with begin(KEEPING, params={"early": early}) as server:
        main = server.branch("main")
        main.step(4)
        first = main.snapshot("first")
        main.step(3)
        main.snapshot("second").save()
        first.save()
        wanted = {name: ticks(server.snapshot(name).branch(), 50) for name in ("first", "second")}
    lives.kill_all()
    with begin() as server:
        for name in ("second", "first"):
            assert ticks(server.snapshot(name).branch(), 50) == wanted[name]
    lives.end()


def test_eight_lives_are_as_one(lives: Lives, begin: Callable[..., Any], folder: Path) -> None:
    if numbers.how() is None:
        pytest.skip("this kernel mounts no EROFS image from a file")
    options = ("--branch-dir", str(folder))
    with begin(LEDGER, params={"folder": str(folder)}, options=options) as server:
        wanted = ticks(server.snapshot("root").branch(name="whole"), 40)
        server.node("whole").drop()
        got = ticks(server.branch("main"), 5)
        server.branch("main").save("life-0")
    for life in range(1, 8):
        lives.kill_all()
        with begin() as server:
            branch = server.snapshot(f"life-{life - 1}").branch()
            got += ticks(branch, 5)
            branch.save(f"life-{life}")
    assert got == wanted
    lives.end()


def test_snapshots_with_files_give_their_processes_up_and_come_back(
    lives: Lives, begin: Callable[..., Any]
) -> None:
    options = ("--durable", "all", "--memory", "60MiB")
    with begin(KEEPING, params={"early": True}, options=options) as server:
        main = server.branch("main")
        wanted = {}
        for _ in range(30):
            main.step()
            name = main.snapshot().name
            wanted[name] = ticks(server.snapshot(name).branch(name="probe"), 3)
            server.node("probe").drop()
        assert [node.state for node in server.tree()].count("stored") > 3
        for name in list(wanted)[::4]:
            assert ticks(server.snapshot(name).branch(name="probe"), 3) == wanted[name]
            server.node("probe").drop()
    lives.end()


def test_the_next_server_takes_over_what_came_out_of_a_store(
    lives: Lives, begin: Callable[..., Any], folder: Path
) -> None:
    options = ("--branch-dir", str(folder))
    with begin(LEDGER, params={"folder": str(folder), "reconnect": True}, options=options) as server:
        server.branch("main").step(3)
        server.branch("main").save("kept")
        wanted = ticks(server.snapshot("kept").branch(), 20)
    lives.kill_all()
    with begin(options=("--orphan-grace", "20")) as server:
        branch = server.snapshot("kept").branch(name="going")
        assert ticks(branch, 10) == wanted[:10]
    lives.kill_server()
    with lives.rise() as server:
        assert ticks(server.branch("going"), 10) == wanted[10:]
        assert ticks(server.snapshot("kept").branch(), 20) == wanted
        going = server.branch("going").snapshot("later")
        assert going.branch().call("look") == server.branch("going").call("look")
    lives.end()


def test_a_layer_that_is_damaged_is_named_and_nothing_is_left(
    lives: Lives, begin: Callable[..., Any], folder: Path
) -> None:
    options = ("--branch-dir", str(folder))
    with begin(LEDGER, params={"folder": str(folder), "reconnect": True}, options=options) as server:
        server.branch("main").step(3)
        server.branch("main").save("kept")
    lives.kill_all()
    for layer in (lives.store / "layers").rglob("*"):
        if layer.is_file():
            data = bytearray(layer.read_bytes())
            data[len(data) // 2] ^= 1
            layer.chmod(0o600)
            layer.write_bytes(data)
    with begin("tests.simulations.walk:Walk") as server:
        loaded = server.load("kept", "old")
        with pytest.raises(StoreDamagedError, match="layers/"):
            loaded.branch()
        assert server.branch("main").step().step == 1
    lives.end()


@pytest.mark.parametrize("how", ["overlay", "copies"])
def test_an_ordinary_users_folders_go_on_too(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a user namespace, which what brings a process back makes anew."""
    monkeypatch.setenv(TRUSTED_VARIABLE, "65534")
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can become nobody, by setpriv, and the others are that already")
    with tempfile.TemporaryDirectory() as work:
        game = Path(work) / "game"
        game.mkdir()
        (game / "course.txt").write_text(COURSE)
        for path in (work, game, game / "course.txt"):
            os.chown(path, 65534, 65534)
        nobody, environment = as_nobody(), {"TMPDIR": work, "HOME": work, "SNAPSERV_FOLDERS": how}
        store = ("--store", f"{work}/store")
        options = (*store, "--branch-dir", str(game))
        params = {"folder": str(game), "reconnect": True}
        process = start_server(Path(work), LEDGER, params=params, options=options, prefix=nobody, **environment)
        with process.connect() as server:
            server.branch("main").step(3)
            server.branch("main").save("kept")
            wanted = ticks(server.snapshot("kept").branch(), 20)
        assert process.end() == 0, process.log.read_text()
        (game / "course.txt").write_text("another course")
        process = start_server(Path(work), options=store, prefix=nobody, **environment)
        with process.connect() as server:
            assert ticks(server.snapshot("kept").branch(), 20) == wanted
            again = server.snapshot("root").branch()
            again.step(3)
            assert again.snapshot().branch().call("look")["entries"] != []
        assert process.end() == 0, process.log.read_text()
        assert sorted(os.listdir(work)) == ["game", "server.log", "store"]
