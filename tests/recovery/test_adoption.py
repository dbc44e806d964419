"""A server that is killed outright loses nothing: its nodes wait, and the next server goes on with them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from snapserv_client.errors import BadRequestError, NodeDiedError
from snapserv_client.trust import TRUSTED_VARIABLE

from ..conftest import as_nobody, assert_settles
from .conftest import Phoenix, comm, zombie


def test_every_node_is_taken_in_with_its_name_lineage_pin_and_state(phoenix: Callable[..., Phoenix]) -> None:
    server = phoenix()
    with server.connect() as client:
        main = client.branch("main")
        main.step(5)
        first = main.snapshot("first")
        first.pin()
        first.tag("tagged")
        east, _ = first.branch(2, names=["east", "west"], rng="split")
        east.step(3)
        other = client.create(name="other", cols=10)
        other.step(2)
        before = client.tree()
        states = {node.name: client.node(node.name).read("position") for node in before}
        events_pid = client.node("main").info().pid

        server.kill()
        server.rise()

        after = client.tree()
        for old, new in zip(before.nodes, after.nodes, strict=True):
            assert (new.id, new.name, new.tree, new.kind, new.parent, new.step) == (
                old.id, old.name, old.tree, old.kind, old.parent, old.step,
            )  # fmt: skip
            assert (new.tags, new.pinned, new.pid, new.created) == (old.tags, old.pinned, old.pid, old.created)
        assert client.node("main").info().pid == events_pid
        for name, state in states.items():
            np.testing.assert_array_equal(client.node(name).read("position"), state)
        assert sum(getattr(action, "ticks", 0) for action in client.node("east").actions()) == 8
        with pytest.raises(BadRequestError, match="pinned"):
            client.snapshot("first").drop()
        # And everything goes on: new ids, new branches, bit for bit.
        again = client.snapshot("first").branch(name="again")
        assert again.id > max(states and [node.id for node in before])
        twin = client.snapshot("tagged").branch()
        assert again.step(4).outputs == twin.step(4).outputs
        assert client.branch("other/main").step().step == 3
        assert client.node("east").verify().ok


def test_processes_that_nobody_was_told_of_are_ended(phoenix: Callable[..., Phoenix]) -> None:
    """Children of an expansion that was running, say: its retry makes others."""
    server = phoenix("tests.simulations.timing:Slow")
    with server.connect() as client:
        main = client.branch("main")
        snapshot = main.snapshot("start")
        outcomes: list[Any] = []

        def run() -> None:
            with server.connect() as mine:
                outcomes.extend(mine.snapshot("start").expand([{}] * 4, steps=40))

        expanding = threading.Thread(target=run)
        expanding.start()
        assert_settles(lambda: client.stats().forks > 3, True)
        server.kill()
        server.rise()
        expanding.join()
        assert [outcome.step for outcome in outcomes] == [40] * 4
        assert [node.name for node in client.tree()] == ["root", "main", "start"]
        children = {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}
        live = {pid for pid in children if comm(pid).startswith("snap-") and not zombie(pid)}
        assert live <= {node.pid for node in client.tree()}
        assert snapshot.info().state == "idle"


def test_a_node_that_died_while_there_was_no_server_is_dead_and_its_branch_revives(
    phoenix: Callable[..., Phoenix],
) -> None:
    server = phoenix()
    with server.connect() as client:
        main = client.branch("main")
        main.step(4)
        snapshot = main.snapshot("kept")
        lost = main.snapshot("lost")
        pids = [main.info().pid, lost.info().pid]
        server.kill()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        server.rise()
        with pytest.raises(NodeDiedError) as caught:
            main.step()
        assert caught.value.details["step"] == 4
        with pytest.raises(NodeDiedError):
            lost.read("count")
        main.restore(snapshot)
        assert main.step().step == 5


def test_an_adopted_cell_that_dies_says_how(phoenix: Callable[..., Phoenix]) -> None:
    server = phoenix("tests.simulations.trouble:Trouble")
    with server.connect() as client:
        branch = client.branch("main").branch(name="doomed")
        server.kill()
        server.rise()
        with pytest.raises(NodeDiedError) as caught:
            branch.step(5, how="segfault", at=3)
        assert caught.value.details["signal"] == "SIGSEGV"
        assert caught.value.details["step"] == 2
        branch.reset()
        with pytest.raises(NodeDiedError) as caught:
            branch.step(how="exit", at=1)
        assert caught.value.details["status"] == 7


def test_several_deaths_of_servers_in_a_row_lose_nothing(phoenix: Callable[..., Phoenix]) -> None:
    server = phoenix()
    with server.connect() as client:
        main = client.branch("main")
        for number in range(1, 5):
            assert main.step(2).step == 2 * number
            main.snapshot(f"s{number}x")
            server.kill()
            server.rise()
        assert [node.step for node in client.tree() if node.name.endswith("x")] == [2, 4, 6, 8]


def test_folders_go_on_where_they_were(phoenix: Callable[..., Phoenix], tmp_path: Path) -> None:
    folder = tmp_path / "books"
    folder.mkdir()
    (folder / "course.txt").write_text("one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\n")
    server = phoenix(
        "tests.simulations.ledger:Ledger", params={"folder": str(folder)}, options=("--branch-dir", str(folder))
    )
    with server.connect() as client:
        main = client.branch("main")
        main.step(2)
        middle = main.snapshot("middle")
        twin = middle.branch(name="twin")
        main.step(1)
        server.kill()
        server.rise()
        main.step(3)
        late = middle.branch(name="late")
        for branch in (twin, late):
            branch.step(4)
            assert branch.call("look") == main.call("look")
            np.testing.assert_array_equal(branch.read("digest"), main.read("digest"))
        assert client.node("late").verify().ok


def test_over_tcp_the_server_comes_back_on_its_port_and_its_events_too(
    phoenix: Callable[..., Phoenix], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = phoenix(options=("--endpoint", f"tcp://127.0.0.1:{port}"))
    with server.connect() as client:
        client.branch("main").step(3)
        before = client.hello
        server.kill()
        server.rise()
        assert client.branch("main").step(2).step == 5
        with server.connect() as another:
            assert before is not None
            assert another.hello is not None
            assert another.hello.events == before.events
    server.process.end()
    assert list((tmp_path / "snapserv").iterdir()) == []


def test_an_ordinary_users_nodes_are_taken_in_also_from_namespaces_of_their_own(
    open_to_nobody: Path, phoenix: Callable[..., Phoenix], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TRUSTED_VARIABLE, "65534")
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can become nobody, by setpriv, and the others are that already")
    game, folder = open_to_nobody / "game", open_to_nobody / "run"
    game.mkdir()
    folder.mkdir(0o700)
    (game / "course.txt").write_text("one\ntwo\nthree\nfour\nfive\nsix\n")
    for path in (game, folder, game / "course.txt"):
        os.chown(path, 65534, 65534)
    server = phoenix(
        "tests.simulations.ledger:Ledger",
        params={"folder": str(game), "reconnect": True},
        options=("--branch-dir", str(game)),
        prefix=as_nobody(),
        folder=folder,
    )
    with server.connect() as client:
        main = client.branch("main")
        main.step(2)
        middle = main.snapshot("middle")
        server.kill()
        server.rise()
        main.step(3)
        late = middle.branch(name="late")
        late.step(3)
        assert late.call("look") == main.call("look")
        np.testing.assert_array_equal(late.read("digest"), main.read("digest"))


def test_a_branch_that_was_killed_without_a_server_says_at_which_step(phoenix: Callable[..., Phoenix]) -> None:
    server = phoenix("tests.simulations.timing:Slow")
    with server.connect() as client:
        main = client.branch("main")
        main.step(3)
        errors: list[NodeDiedError] = []

        def run() -> None:
            with server.connect() as mine, pytest.raises(NodeDiedError) as caught:
                mine.branch("main").step(1000)
            errors.append(caught.value)

        stepping = threading.Thread(target=run)
        stepping.start()
        assert_settles(lambda: main.info().step > 5, True)
        seen, pid = main.info().step, main.info().pid
        server.kill()
        os.kill(pid, signal.SIGKILL)
        server.rise()
        stepping.join()
        assert seen <= errors[0].details["step"] == main.info().step


def test_a_node_that_lasts_by_replay_alone_is_adopted_as_that(
    phoenix: Callable[..., Phoenix], tmp_path: Path
) -> None:
    options = ("--store", str(tmp_path / "store"), "--durable", "none")
    server = phoenix("tests.simulations.replaying:Looping", options=options)
    with server.connect() as client:
        main = client.branch("main")
        main.step(3)
        main.save("three", replay=True)
        wanted = client.snapshot("three").branch().step(2).outputs
    server.kill()
    server.rise()
    with server.connect() as client:
        three = client.snapshot("three")
        assert (three.info().state, three.info().recorded) == ("idle", True)
        assert three.branch().step(2).outputs == wanted
        assert [each.new for each in three.save(replay=True).saved] == [False]
        three.tag("dear")
        assert_settles(lambda: [each.tags for each in client.stored() if each.name == "three"], [["dear"]])
        assert [each.replay for each in client.stored()] == [True, True]
