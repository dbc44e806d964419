"""Snapshots that last: saved, killed with everything, and gone on with."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from snapserv_client import Branch, Server
from snapserv_client.errors import (
    MachineDiffersError,
    NameTakenError,
    NotFoundError,
    NotPortableError,
    StoreDamagedError,
    StoreUnavailableError,
    UnsupportedError,
)
from snapserv_client.store import open_store

from ..conftest import assert_settles, session_processes
from .lives import Lives

WALK = "tests.simulations.walk:Walk"
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "walk": (WALK, {}),
    "simpy": ("simpy:snapserv.examples.machine_shop:Shop", {}),
    "lander": ("gym:LunarLander-v3", {"action": 0}),
    "cart-pole": ("gym:CartPole-v1", {"action": 1}),
    "generators": ("object:tests.simulations.drawing:Holder", {}),
    "gray-scott": ("snapserv.examples.gray_scott:GrayScott", {}),
}


@pytest.fixture
def lives(tmp_path: Path, short_path: Path) -> Iterator[Lives]:
    found = Lives(short_path)
    yield found
    found.close()


def ticks(branch: Branch, count: int, **inputs: Any) -> list[str]:
    """Return what each tick puts out; an episode that is over begins again."""
    found = []
    for _ in range(count):
        outputs = branch.step(1, **inputs).outputs
        found.append(repr(outputs))
        if outputs.get("terminated"):
            found.append(repr(branch.call("reset")))
    return found


@pytest.mark.parametrize("name", KINDS)
def test_what_was_saved_goes_on_after_everything_was_killed(lives: Lives, name: str) -> None:
    target, inputs = KINDS[name]
    with lives.begin(target) as server:
        main = server.branch("main")
        ticks(main, 10, **inputs)
        first = main.snapshot("first")
        ticks(main, 5, **inputs)
        second = main.snapshot("second")
        second.tag("dear")
        wanted = {node: ticks(server.snapshot(node).branch(), 50, **inputs) for node in ("first", "second")}
        first.save()  # it may have been saved by itself
        second.save()
        assert second.info().durable
        assert [each.new for each in second.save().saved] == [False]
    lives.kill_all()
    lives.drop_caches()
    # Whatever the shell had set is gone as well.
    with lives.begin(PYTHONHASHSEED="", HOME="/nowhere") as server:
        assert {node.name for node in server.tree() if node.durable} == {"root", "first", "second"}
        assert server.node("dear").name == "second"
        for node in ("second", "first"):
            assert ticks(server.snapshot(node).branch(), 50, **inputs) == wanted[node]
        main = server.branch("main")
        assert main.info().step == 15
        assert main.verify().ok
        main.reset()
        assert ticks(main, 15, **inputs)[-1] == ticks(server.snapshot("root").branch(), 15, **inputs)[-1]


def test_named_snapshots_are_saved_by_themselves_and_others_are_not(lives: Lives) -> None:
    with lives.begin(WALK) as server:
        main = server.branch("main")
        main.step()
        named, unnamed = main.snapshot("named"), main.snapshot()
        assert_settles(lambda: named.info().durable, True)
        unnamed.tag("now-it-is")
        assert_settles(lambda: unnamed.info().durable, True)
        other = main.snapshot()
        main.snapshot("last")
        assert_settles(lambda: server.node("last").info().durable, True)
        assert not other.info().durable
        named.drop()
        assert_settles(lambda: sorted(each.name for each in server.stored()), ["last", "root", unnamed.name])
        kept = main.snapshot("kept")
        kept.save()
        kept.drop()
        assert "kept" in [each.name for each in server.stored()]
    store = open_store(lives.store)
    assert store.field(store.node("last"), "position").shape == (1000,)
    assert [node.name for node in store.lineage(store.node("last"))][-1] == "root"


def test_a_server_that_ends_as_it_should_loses_no_step(lives: Lives) -> None:
    with lives.begin(WALK) as server:
        server.branch("main").step(7)
        server.snapshot("root").branch(name="side").step(3)
    lives.end()
    with lives.begin() as server:
        assert {node.name: node.step for node in server.tree() if node.kind == "branch"} == {"main": 7, "side": 3}
    lives.end()
    assert "steps_missing" not in lives.log


def test_steps_that_were_not_saved_are_named(lives: Lives) -> None:
    with lives.begin(WALK) as server:
        main = server.branch("main")
        main.step(4)
        main.save("saved")
        main.step(6)
        assert_settles(
            lambda: [live.step for each in open_store(lives.store).sessions() for live in each.live], [10]
        )
    lives.kill_all()
    with lives.begin() as server:
        assert server.branch("main").info().step == 4
    assert '"steps": 6' in lives.log


def test_a_stored_node_is_read_in_the_store_and_stays_stored(lives: Lives) -> None:
    with lives.begin(WALK) as server:
        main = server.branch("main")
        main.step(3)
        wanted = main.read("position")
        main.save("saved")
        main.step()
        assert_settles(lambda: server.node("saved").info().durable, True)
    lives.kill_all()
    with lives.begin() as server:
        root = server.snapshot("root")
        assert root.info().state == "stored"
        assert root.read("count") == 0
        np.testing.assert_array_equal(root.read("position", slice(10, 500, 7)), np.zeros(70))
        assert root.info().state == "stored"
        assert root.info().pid == 0
        np.testing.assert_array_equal(server.snapshot("saved").read("position"), wanted)
        assert root.diff("saved").same is False
        assert root.info().state == "idle"


def test_a_snapshot_whose_process_is_killed_comes_back(lives: Lives) -> None:
    with lives.begin(WALK) as server:
        main = server.branch("main")
        main.step(3)
        saved = main.snapshot("saved")
        wanted = ticks(saved.branch(), 5)
        saved.save()
        os.kill(saved.info().pid, signal.SIGKILL)
        assert_settles(lambda: saved.info().state, "stored")
        assert ticks(saved.branch(), 5) == wanted


def test_nodes_are_loaded_into_a_server_that_runs(lives: Lives) -> None:
    with lives.begin(WALK) as server:
        main = server.branch("main")
        main.step(3)
        first = main.snapshot("first")
        first.save()
        main.step(2)
        wanted = ticks(main.snapshot("second").branch(), 5)
        uid = server.snapshot("second").save().saved[0].uid
    lives.end()
    with lives.begin(WALK, params={"cols": 10}) as server:
        with pytest.raises(NameTakenError):
            server.load(uid)
        loaded = server.load(uid, "old")
        assert (loaded.name, loaded.info().state) == ("old/second", "stored")
        assert ticks(loaded.branch(), 5) == wanted
        assert [entry.name for entry in loaded.log()] == ["old/root", "old/first", "old/second"]
        assert server.load(uid).id == loaded.id  # it is here already
        with pytest.raises(NotFoundError):
            server.load("nothing")


def test_what_is_taken_up_is_written_again_only_where_it_changes(lives: Lives) -> None:
    def written() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in (lives.store / "nodes").rglob("*") if path.is_file()}

    with lives.begin(WALK) as server:
        main = server.branch("main")
        for name in ("one", "two", "three"):
            main.step()
            main.snapshot(name).save()
    lives.end()
    before = written()
    with lives.begin() as server:
        server.snapshot("root").branch().save("new")  # what was due before it has been written by then
        two = server.snapshot("two")
        two.tag("dear")
        assert_settles(lambda: open_store(lives.store).node("two").tags, ["dear"])
        assert {uid for uid, when in before.items() if written()[uid] != when} == {
            open_store(lives.store).node("two").uid
        }


def test_more_snapshots_than_memory_holds(lives: Lives) -> None:
    with lives.begin(WALK, options=("--durable", "all", "--memory", "60MiB")) as server:
        main = server.branch("main")
        names, wanted = [], {}
        for _ in range(60):
            main.step()
            names.append(main.snapshot().name)
            wanted[names[-1]] = repr(main.read("position").sum())
        states = {node.name: node.state for node in server.tree()}
        assert [states[name] for name in names].count("stored") > 10
        assert set(names) <= set(states)
        assert server.stats().memory.evictions == 0
        for name in names[::7]:
            branch = server.snapshot(name).branch()
            assert repr(branch.read("position").sum()) == wanted[name]
            branch.drop()


def test_what_cannot_last_is_refused_and_the_server_goes_on(lives: Lives) -> None:
    with lives.begin("tests.simulations.lasting:Holding", params={"what": "pipe"}) as server:
        main = server.branch("main")
        snapshot = main.snapshot("held")
        with pytest.raises(NotPortableError) as caught:
            snapshot.save()
        assert caught.value.details["held"][0]["why"] == "open_pipe"
        assert server.stored() == []
        snapshot.branch().step()


def test_temporary_files_are_each_nodes_own_after_it_has_come_back(lives: Lives) -> None:
    with lives.begin("tests.simulations.scratch:Scratch") as server:
        main = server.branch("main")
        main.step()
        main.save("saved")
    lives.kill_all()
    with lives.begin() as server:
        one, other = server.snapshot("saved").branch(2)
        one.call("write", "file", "one")
        other.call("write", "file", "other")
        assert (one.call("read", "file"), other.call("read", "file")) == ("one", "other")
        assert server.branch("main").call("read", "file") is None
        snapshot = one.snapshot("with-files")
        assert snapshot.branch().call("read", "file") == "one"
        snapshot.save()
    lives.kill_all()
    with lives.begin() as server:
        assert server.snapshot("with-files").branch().call("read", "file") == "one"
        assert server.snapshot("saved").branch().call("read", "file") is None


def test_a_file_that_has_changed_is_named(lives: Lives, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    with lives.begin("tests.simulations.lasting:Rich", params={"folder": str(folder)}) as server:
        server.branch("main").save("saved")
    lives.end()
    (folder / "data").unlink()
    with lives.begin(WALK) as server:
        loaded = server.load("saved", "rich")
        with pytest.raises(MachineDiffersError, match="data"):
            loaded.branch()
        assert server.branch("main").step().step == 1


def test_a_store_that_is_damaged_says_so_and_what_is_whole_goes_on(lives: Lives) -> None:
    with lives.begin(WALK) as server:
        main = server.branch("main")
        main.step()
        main.save("one")
        main.step()
        main.save("two")
    lives.end()
    store = open_store(lives.store)
    two = store.node("two")
    lost = next(
        pack for pack in store.image(two.image).packs if pack not in store.image(store.node("one").image).packs
    )
    (found,) = lives.store.rglob(lost.sha256.hex()) if lost else ()
    found.unlink()
    with lives.begin(WALK) as server:
        with pytest.raises(StoreDamagedError):
            server.load("two", "old").branch()
        assert server.load("one").branch().step().step == 2


def test_without_a_store_nothing_lasts_and_that_is_said(server: Server) -> None:
    with pytest.raises(UnsupportedError, match="no store"):
        server.branch("main").save()
    with pytest.raises(UnsupportedError, match="no store"):
        server.stored()


def test_a_killed_archiver_is_an_error_and_then_there_is_another(lives: Lives) -> None:
    with lives.begin(WALK, options=("--durable", "none")) as server:
        main = server.branch("main")
        main.save("one")
        assert lives.process is not None
        archivers = [pid for pid in session_processes(lives.process.pid) if b"snapserv.archiver" in _command(pid)]
        for pid in archivers:
            os.kill(pid, signal.SIGKILL)
        main.step()
        snapshot = main.snapshot("two")
        deadline = time.monotonic() + 30
        while True:
            try:
                snapshot.save()
                break
            except StoreUnavailableError:
                assert time.monotonic() < deadline
        assert snapshot.info().durable


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_process_has_the_descriptors_that_it_had_and_no_others(lives: Lives) -> None:
    with lives.begin(WALK) as server:
        main = server.branch("main")
        main.save("saved")
        before = _open_files(main.info().pid)
    lives.end()
    with lives.begin() as server:
        assert _open_files(server.branch("main").info().pid) == before
        assert lives.process is not None
        archivers = [pid for pid in session_processes(lives.process.pid) if b"snapserv.archiver" in _command(pid)]
        assert archivers
        assert not [pid for pid in archivers if "pipe:" in _open_files(pid).values()]  # nor what said it is ready


def _open_files(pid: int | None) -> dict[int, str]:
    """Return what a process has open, but for sockets and the standard ones: the kind of each, by its number."""
    links = {int(name): os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
    kinds = {number: re.sub(r"[\d\[].*|-[0-9a-f]{16}\b.*", "", link) for number, link in links.items()}
    return {number: kind for number, kind in kinds.items() if number > 2 and kind != "socket:"}
