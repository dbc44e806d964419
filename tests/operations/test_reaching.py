"""Nodes that no image brings back, reached again by what was done to them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from snapserv_client import Branch, Server
from snapserv_client.errors import (
    MachineDiffersError,
    NotPortableError,
    RecordingMismatchError,
    RequestTimeoutError,
)
from snapserv_client.protocol import BeginAction, CallAction, StepAction, WriteAction
from snapserv_client.store import open_store

from snapserv.store.writing import StoreWriter

from ..conftest import assert_settles
from .lives import Lives

WALK = "tests.simulations.walk:Walk"
LOOPING = "tests.simulations.replaying:Looping"


@pytest.fixture
def lives(tmp_path: Path, short_path: Path) -> Iterator[Lives]:
    found = Lives(short_path)
    yield found
    found.close()


def ticks(branch: Branch, count: int) -> list[str]:
    return [repr((branch.step(1).outputs, branch.read("position").tolist())) for _ in range(count)]


def do_all_kinds(main: Branch) -> None:
    """Do something of each kind that a history knows, equal things in a row among them."""
    main.step(20)
    for push in (0.5, 0.5, -1.0):
        main.step(3, push=push)
    main.write("position", [100.0, -100.0])
    main.write("wind", 2.5, region=1)
    assert main.call("blow", np.array([0.25, 0.5, 0.75])) == 4.0
    main.step(5)


def of_another_machine(store: Path) -> None:
    """Have the images of a store be of a machine whose processor can what this one cannot."""
    writer = StoreWriter(store)
    for node in writer.store.nodes():
        image = writer.store.image(node.image)
        machine = msgspec.structs.replace(image.machine, cpu=[*image.machine.cpu, "teleports"])
        with writer.saving() as saving:
            sha256 = saving.put_image(msgspec.structs.replace(image, machine=machine))
            saving.put_node(msgspec.structs.replace(node, image=sha256))


def nothing_was_loaded(server: Server, stored: Path) -> None:
    assert list(server.hello.trees if server.hello else []) == ["default"]
    assert {node.tree for node in server.tree()} == {"default"}
    assert len(open_store(stored).nodes()) > 1


def test_what_no_image_holds_goes_on_bit_for_bit_after_everything_was_killed(lives: Lives) -> None:
    with lives.begin(LOOPING, params={"seed": 5, "drift": 0.125}, options=("--durable", "none")) as server:
        main = server.branch("main")
        do_all_kinds(main)
        seeded = main.snapshot().branch(name="seeded", rng=77)
        seeded.step(4)
        snapshot = seeded.snapshot("far")
        with pytest.raises(NotPortableError, match="save --replay") as caught:
            snapshot.save()
        assert "open_kernel_object" in [held["why"] for held in caught.value.details["held"]]
        assert server.stored() == []
        (saved,) = snapshot.save(replay=True).saved
        assert (saved.new, saved.replay) == (True, True)
        info = snapshot.info()
        assert (info.durable, info.recorded) == (True, True)
        assert {each.name: each.replay for each in server.stored()} == {"root": True, "far": True}
        wanted = ticks(snapshot.branch(), 50)
    lives.kill_all()
    store = open_store(lives.store)
    done = store.actions(store.node("far"))
    assert {type(each) for each in done} == {BeginAction, CallAction, StepAction, WriteAction}
    with pytest.raises(NotPortableError, match="recording alone"):
        store.field(store.node("far"), "position")
    with lives.begin(WALK) as server:
        with pytest.raises(NotPortableError, match="--replay"):
            server.load("far", "old")
        nothing_was_loaded(server, lives.store)
        loaded = server.load("far", "old", replay=True)
        assert (loaded.name, loaded.info().state, loaded.info().recorded) == ("old/far", "idle", True)
        assert ticks(loaded.branch(), 50) == wanted
        assert loaded.branch().verify().ok
        assert server.load("far", replay=True).id == loaded.id  # it is here already
        loaded.branch(name="on").step(3)
        again = server.branch("old/on").save("further", replay=True)
        assert [each.replay for each in again.saved] == [True]
        # Its ancestor is on the way: what is left is done from there.
        wanted = ticks(server.snapshot("old/further").branch(), 20)
    lives.end()
    with lives.begin(WALK) as server:
        assert ticks(server.load("further", "old", replay=True).branch(), 20) == wanted
        assert [entry.name for entry in server.node("old/further").log()] == ["old/root", "old/far", "old/further"]
    assert '"step": 38, "to": 41' in lives.log.replace("\\", "")


def test_a_server_goes_on_by_replay(lives: Lives) -> None:
    with lives.begin(LOOPING, options=("--replay",)) as server:
        main = server.branch("main")
        main.step(10)
        main.snapshot("ten")
        assert_settles(lambda: server.node("ten").info().recorded, True)
        main.step(7)
        wanted = ticks(server.snapshot("ten").branch(name="other"), 12)
        server.branch("other").drop()
    lives.end()  # which saves the seven steps as well
    with pytest.raises(AssertionError, match="load it with --replay"):
        lives.begin()
    with lives.begin(options=("--replay",)) as server:
        assert server.branch("main").info().step == 17
        assert ticks(server.snapshot("ten").branch(), 12) == wanted
        assert server.branch("main").verify().ok
        server.branch("main").step(5)
        sessions = open_store(lives.store).sessions
        assert_settles(lambda: [each.step for each in sessions()[0].live if each.name == "main"], [22])
    lives.kill_all()
    with lives.begin(options=("--replay",)) as server:
        assert server.branch("main").info().step == 17
    assert "steps_missing" in lives.log


def test_an_image_of_another_machine_is_replayed_with_and_without_the_trees_root(lives: Lives) -> None:
    with lives.begin(WALK, params={"cols": 10}) as server:
        main = server.branch("main")
        main.step(30)
        main.save("thirty")
        main.step(5)
        main.save("more")
        before = main.read("position")
        wanted = [repr(main.step().outputs) for _ in range(50)]
    lives.end()
    of_another_machine(lives.store)
    with lives.begin(WALK) as server:
        with pytest.raises(MachineDiffersError, match=r"teleports.*--replay"):
            server.load("more", "old")
        loaded = server.load("more", "old", replay=True)
        branch = loaded.branch()
        assert [repr(branch.step().outputs) for _ in range(50)] == wanted
        assert [entry.name for entry in loaded.log()] == ["old/root", "old/thirty", "old/more"]
        np.testing.assert_array_equal(loaded.read("position"), before)
        branch.save("new")
        assert server.node("old/new").info().recorded is False
        wanted = [repr(branch.step().outputs) for _ in range(5)]
    lives.end()
    with lives.begin(WALK) as server:
        branch = server.load("new", "old", replay=True).branch()
        assert [repr(branch.step().outputs) for _ in range(5)] == wanted


def test_a_recording_that_leads_elsewhere_is_refused_and_nothing_is_left(lives: Lives, tmp_path: Path) -> None:
    weather, code = tmp_path / "weather", tmp_path / "sim.py"
    weather.write_text("0.5")
    source = Path(__file__).parents[1].joinpath("simulations", "replaying.py").read_text()
    code.write_text(source)
    with lives.begin(f"{code}:Looping", params={"weather": str(weather)}) as server:
        main = server.branch("main")
        main.step(10)
        main.save("ten", replay=True)
    lives.end()
    with lives.begin(WALK) as server:
        assert lives.process is not None
        weather.write_text("0.25")
        with pytest.raises(RecordingMismatchError) as caught:
            server.load("ten", "old", replay=True)
        before = _children(lives.process.pid)
        assert caught.value.details["differs"] == ["end.position"]
        nothing_was_loaded(server, lives.store)
        weather.unlink()
        with pytest.raises(RecordingMismatchError, match="did not come to its end") as caught:
            server.load("ten", "old", replay=True)
        assert caught.value.details["code"] == "simulation_error"
        weather.write_text("0.5")
        code.write_text(source.replace("seed: int = 0", "seed: int = 12"))  # Python looks at lengths
        with pytest.raises(RecordingMismatchError) as caught:
            server.load("ten", "old", replay=True)
        assert caught.value.details["differs"] == ["source", "params.seed"]
        nothing_was_loaded(server, lives.store)
        assert_settles(lambda: _children(lives.process.pid) == before if lives.process else None, True)
        code.write_text(source)
        assert server.load("ten", "old", replay=True).info().step == 10


def test_a_node_that_lasts_by_replay_alone_keeps_its_process(lives: Lives) -> None:
    with lives.begin(LOOPING, options=("--replay", "--memory", "60MiB")) as server:
        main = server.branch("main")
        names = []
        for number in range(12):
            main.step()
            names.append(main.snapshot(f"s{number}").name)
        assert_settles(lambda: all(server.node(name).info().recorded for name in names), True)
        assert [server.node(name).info().state for name in names] == ["idle"] * 12
        killed = server.snapshot("s3")
        wanted = killed.read("position")
        os.kill(killed.info().pid, signal.SIGKILL)
        assert_settles(lambda: killed.info().state, "dead")
        with pytest.raises(NotPortableError, match="--replay"):
            server.load("s3")
        assert server.load("s3", replay=True).id == killed.id
        assert (killed.info().state, killed.info().death) == ("idle", None)
        np.testing.assert_array_equal(killed.read("position"), wanted)


def test_a_replay_begins_at_an_image_where_there_is_one(lives: Lives, tmp_path: Path) -> None:
    weather = tmp_path / "weather"
    weather.write_text("0.5")
    params = {"weather": str(weather), "late": True}
    with lives.begin(LOOPING, params=params, options=("--durable", "none")) as server:
        main = server.branch("main")
        main.write("position", [1.0, 2.0])
        main.save("written")
        main.step(10)
        main.save("far", replay=True)
        assert {each.name: each.replay for each in server.stored()} == {
            "root": False,
            "written": False,
            "far": True,
        }
        wanted = ticks(server.snapshot("far").branch(), 10)
    lives.end()
    stored = {node.name: node for node in open_store(lives.store).nodes()}
    with lives.begin(WALK, options=("--durable", "none")) as server:
        weather.write_text("0.25")
        with pytest.raises(RecordingMismatchError):
            server.load("far", "old", replay=True)
        nothing_was_loaded(server, lives.store)
        assert {node.name: node for node in open_store(lives.store).nodes()} == stored
        weather.write_text("0.5")
        loaded = server.load("far", "old", replay=True)
        assert [entry.name for entry in loaded.log()] == ["old/root", "old/written", "old/far"]
        assert [entry.recorded for entry in loaded.log()] == [False, False, True]
        assert ticks(loaded.branch(), 10) == wanted
        assert server.load("written").branch().read("position").tolist() == [1.0, 2.0]


def test_what_cannot_be_told_apart_is_not_saved_by_replay(lives: Lives) -> None:
    with lives.begin("tests.simulations.lasting:Holding", params={"what": "pipe"}) as server:
        main = server.branch("main")
        main.step(3)
        with pytest.raises(NotPortableError, match="nothing would tell"):
            main.save("silent", replay=True)


def test_a_replay_that_gets_on_no_more_is_given_up(lives: Lives, tmp_path: Path) -> None:
    wait = tmp_path / "wait"
    wait.write_text("0")
    with lives.begin("tests.simulations.replaying:Waiting", params={"place": str(wait)}) as server:
        main = server.branch("main")
        main.step(3)
        main.save("three", replay=True)
    lives.end()
    wait.write_text("30")
    with lives.begin(WALK, options=("--stalled-after", "0.5")) as server:
        began = time.monotonic()
        with pytest.raises(RequestTimeoutError, match="action 0"):
            server.load("three", "old", replay=True)
        assert time.monotonic() - began < 20
        nothing_was_loaded(server, lives.store)
        wait.write_text("0.3")
        seen: list[tuple[int, int]] = []
        server.load("three", "old", replay=True, progress=lambda done, total: seen.append((done, total)))
        assert seen
        assert {total for _, total in seen} == {3}


def test_long_histories_are_kept_in_pieces_that_descendants_share(lives: Lives) -> None:
    with lives.begin(LOOPING, options=("--durable", "none")) as server:
        main = server.branch("main")
        for push in range(3_000):
            main.step(1, push=push / 3_000, left="x" * 100)
        main.save("first", replay=True)
        main.step(1)
        main.save("second", replay=True)
        first, second = (_node(lives, name).recorded for name in ("first", "second"))
        assert first is not None
        assert second is not None
        assert len(first.pieces) == 2
        assert first.pieces[0] == second.pieces[0]
        assert second.count == first.count + 1
        position = main.read("position")
    lives.end()
    with lives.begin(WALK) as server:
        np.testing.assert_array_equal(server.load("second", "old", replay=True).read("position"), position)


def _node(lives: Lives, name: str) -> Any:
    return open_store(lives.store).node(name)


def _children(pid: int) -> int:
    found = (Path(task, "children").read_text().split() for task in Path(f"/proc/{pid}/task").iterdir())
    return sum(map(len, found))
