"""A server that is killed outright loses nothing: its nodes wait, and the next server goes on with them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from snapserv_client import Server, requests
from snapserv_client.errors import (
    BadRequestError,
    FaultedError,
    NodeDiedError,
    NotFoundError,
    SimulationError,
    StepInterruptedError,
    UnreachableError,
)
from snapserv_client.transport import send_frames

from ..conftest import ServerProcess, as_nobody, assert_nothing_left, assert_settles, start_server

SUBREAPER = 36


class Phoenix:
    """A server that is killed and started again, at one address."""

    def __init__(
        self,
        folder: Path,
        *targets: str,
        params: dict[str, Any] | None,
        options: tuple[str, ...],
        prefix: tuple[str, ...],
    ) -> None:
        self.folder = folder
        self.targets = targets
        self.params = params
        self.options = options
        self.prefix = prefix
        self.pids: set[int] = set()
        self.process = self.rise()

    def rise(self, *more: str, **env: str) -> ServerProcess:
        options = (*self.options, "--orphan-grace", "20", *more)
        self.process = start_server(
            self.folder, *self.targets, params=self.params, options=options, prefix=self.prefix, **env
        )
        return self.process

    def kill(self) -> None:
        """Kill the server, and remember who is left."""
        self.pids |= {int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
                      .read_text().split()}  # fmt: skip
        self.process.end(signal.SIGKILL)

    def connect(self) -> Server:
        return self.process.connect()


@pytest.fixture
def phoenix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Phoenix]]:
    """Start servers that may be killed; in the end they end as they should, and nothing is left."""
    assert ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0) == 0  # what is left of a killed server is ours to reap
    made: list[Phoenix] = []

    def start(
        target: str = "tests.simulations.walk:Walk",
        params: dict[str, Any] | None = None,
        options: tuple[str, ...] = (),
        prefix: tuple[str, ...] = (),
        folder: Path | None = None,
    ) -> Phoenix:
        where = folder or tmp_path_factory.mktemp("phoenix")
        made.append(Phoenix(where, target, params=params, options=options, prefix=prefix))
        return made[-1]

    yield start
    for each in made:
        assert each.process.end() in (0, -signal.SIGKILL), each.process.log.read_text()
        assert_settles(reaped, True)
        assert_nothing_left(each.process, each.folder)
        assert [pid for pid in each.pids if Path(f"/proc/{pid}").exists()] == []
    assert ctypes.CDLL(None).prctl(SUBREAPER, 0, 0, 0, 0) == 0


def reaped() -> bool:
    """Reap the cells of killed servers; return whether none is left."""
    with contextlib.suppress(ChildProcessError):
        while os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            os.waitpid(-1, os.WNOHANG)
    own = [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    return not any("snap-" in comm(pid) for pid in own)


def comm(pid: int) -> str:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/comm").read_text()
    return ""


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


def test_a_request_that_was_interrupted_gets_its_reply_once(phoenix: Callable[..., Phoenix]) -> None:
    server = phoenix("tests.simulations.timing:Slow")
    with server.connect() as client:
        main = client.branch("main")
        main.step(1)

        def replace_the_server() -> None:
            with server.connect() as mine:
                assert_settles(lambda: mine.node("main").info().step > 10, True)
            server.kill()
            server.rise()

        killer = threading.Thread(target=replace_the_server)
        killer.start()
        result = main.step(60)  # 20 ms each: the server is killed in the middle
        killer.join()
        assert (result.step, result.ticks) == (61, 60)
        assert main.info().step == 61
        assert sum(action.ticks * action.repeat for action in main.actions()) == 61


def test_what_a_cell_finished_while_there_was_no_server_is_told_and_not_done_again(
    phoenix: Callable[..., Phoenix], tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    server = phoenix("tests.simulations.timing:Slow", params={"diary": str(diary)})
    with server.connect() as client:
        main = client.branch("main")
        pid = main.info().pid
        results: list[Any] = []

        def run() -> None:
            with server.connect() as mine:
                results.append(mine.branch("main").step(20))

        stepping = threading.Thread(target=run)
        stepping.start()
        assert_settles(lambda: main.info().step > 0, True)
        server.kill()
        assert_settles(diary.read_text, "20")  # it ends meanwhile, and nobody hears of it
        assert Path(f"/proc/{pid}").exists()
        server.rise()
        stepping.join()
        assert [(each.step, each.ticks) for each in results] == [(20, 20)]
        assert main.step(1).step == 21


def test_an_error_that_nobody_heard_is_told_as_well(phoenix: Callable[..., Phoenix], tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    server = phoenix("tests.simulations.timing:Slow", params={"diary": str(diary)})
    with server.connect() as client:
        main = client.branch("main")
        caught: list[BaseException] = []

        def run() -> None:
            with server.connect() as mine:
                try:
                    mine.branch("main").step(20, fail_at=15)
                except SimulationError as error:
                    caught.append(error)

        stepping = threading.Thread(target=run)
        stepping.start()
        assert_settles(lambda: main.info().step > 0, True)
        server.kill()
        assert_settles(diary.read_text, "failed")
        server.rise()
        stepping.join()
        assert [error.details["step"] for error in caught if isinstance(error, SimulationError)] == [14]


def test_a_reply_that_got_lost_with_the_server_is_given_again(phoenix: Callable[..., Phoenix]) -> None:
    """A client that repeats a request to the next server gets the first reply, which the last one wrote down."""
    server = phoenix()
    with server.connect() as client:
        request = requests.step("main", 3, {}, progress=False)
        connection = client._connection
        connection.run(request)
        used = connection._last_id
        taken = client.branch("main").snapshot("once")
        snapshot_id = connection._last_id
        server.kill()
        server.rise()
        for number, repeated in ((used, request), (snapshot_id, requests.snapshot("main", "once"))):
            connection._last_id = number - 1
            again = connection.run(repeated)
            assert (again.step if number == used else again.node.id) == (3 if number == used else taken.id)  # type: ignore[attr-defined]
        connection._last_id = 1000
        assert client.branch("main").info().step == 3
        assert len(client.tree().nodes) == 3


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


def zombie(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


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


def test_an_adopted_tick_that_never_ends_can_be_killed_and_a_long_step_interrupted(
    phoenix: Callable[..., Phoenix],
) -> None:
    server = phoenix("tests.simulations.timing:Slow")
    with server.connect() as client:
        branch = client.branch("main").branch(name="long")
        errors: list[BaseException] = []

        def run() -> None:
            with server.connect() as mine:
                try:
                    mine.branch("long").step(100_000)
                except StepInterruptedError as error:
                    errors.append(error)

        stepping = threading.Thread(target=run)
        stepping.start()
        assert_settles(lambda: branch.info().step > 0, True)
        server.kill()
        server.rise()
        assert branch.info().state == "busy"
        assert branch.interrupt()
        stepping.join()
        assert len(errors) == 1
        hung = threading.Thread(target=hang, args=(server,))
        hung.start()
        assert_settles(lambda: client.node("main").info().state, "busy")
        server.kill()
        server.rise()
        client.branch("main").interrupt(force=True)
        hung.join()
        assert_settles(lambda: client.node("main").info().state, "dead")


def hang(server: Phoenix) -> None:
    with server.connect() as mine, pytest.raises(NodeDiedError):
        mine.branch("main").step(1, hang=True)


def test_a_fault_that_was_cleared_stays_cleared(phoenix: Callable[..., Phoenix]) -> None:
    server = phoenix("tests.simulations.timing:Slow")
    with server.connect() as client:
        main = client.branch("main")
        with pytest.raises(SimulationError):
            main.step(3, fail_at=2)
        main.clear()
        server.kill()
        server.rise()
        assert main.info().state != "faulted"
        assert main.step(1).step == 2


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


def test_without_a_server_nodes_wait_for_as_long_as_they_were_told_and_end(
    tmp_path: Path, phoenix: Callable[..., Phoenix]
) -> None:
    server = phoenix(options=())
    with server.connect() as client:
        client.branch("main").snapshot()
    server.kill()
    assert all(Path(f"/proc/{pid}").exists() and not zombie(pid) for pid in server.pids)
    server.rise("--fresh")
    with server.connect() as client:
        assert [node.name for node in client.tree()] == ["root", "main"]
    assert_settles(lambda: all(zombie(pid) for pid in server.pids), True)


def test_the_grace_is_over_when_it_is(tmp_path: Path, phoenix: Callable[..., Phoenix]) -> None:
    server = phoenix()
    server.process.end()
    short = start_server(server.folder, *server.targets, options=("--orphan-grace", "0.5"))
    pids = {int(pid) for pid in Path(f"/proc/{short.pid}/task/{short.pid}/children").read_text().split()}
    assert len(pids) == 2
    short.end(signal.SIGKILL)
    assert_settles(lambda: all(zombie(pid) for pid in pids), True)
    server.rise()


def test_another_simulation_is_not_served_over_the_nodes_that_wait(phoenix: Callable[..., Phoenix]) -> None:
    server = phoenix()
    server.kill()
    with pytest.raises(AssertionError, match="--fresh ends them"):
        start_server(server.folder, "tests.simulations.trouble:Trouble")
    with pytest.raises(AssertionError, match="--fresh ends them"):
        start_server(server.folder, *server.targets, params={"cols": 3})
    server.rise()
    with server.connect() as client:
        assert client.branch("main").step().step == 1


def test_a_drop_and_a_failed_request_are_not_undone(phoenix: Callable[..., Phoenix]) -> None:
    server = phoenix()
    with server.connect() as client:
        snapshot = client.branch("main").snapshot("gone")
        below = snapshot.branch(name="below")
        snapshot.drop()
        client.create(name="felled")
        client.snapshot("felled/root").drop(recursive=True)
        server.kill()
        server.rise()
        with pytest.raises(NotFoundError):
            client.node("gone")
        assert below.info().parent == client.node("root").id
        assert [tree.name for tree in client.tree().trees] == ["default"]
        assert [each.name for each in client.node("below").log()] == ["root", "below"]


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


def test_who_is_no_cell_is_turned_away_from_the_adoption_socket(phoenix: Callable[..., Phoenix]) -> None:
    server = phoenix()
    path = server.folder / "s.sock.adopt"
    assert path.stat().st_mode & 0o777 == 0o600
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.settimeout(10)
        stranger.connect(str(path))
        assert stranger.recv(1) == b""
    assert_settles(lambda: "stranger_turned_away" in server.process.log.read_text(), True)
    with server.connect() as client:
        assert client.branch("main").step().step == 1


def test_a_client_gives_a_server_up_that_never_comes_back(
    phoenix: Callable[..., Phoenix], monkeypatch: pytest.MonkeyPatch
) -> None:
    from snapserv_client import connection

    monkeypatch.setattr(connection, "LOST_AFTER_S", 1.5)
    server = phoenix("tests.simulations.timing:Slow")
    with server.connect() as client:
        server.kill()
        with pytest.raises(UnreachableError):
            client._connection.run(requests.step("main", 1, {}, progress=False))
    server.rise()


@pytest.fixture
def open_to_nobody() -> Iterator[Path]:
    """A folder that an ordinary user can reach, as pytest's own cannot be."""
    with tempfile.TemporaryDirectory() as work:
        os.chown(work, 65534, 65534)
        yield Path(work)


def test_an_ordinary_users_nodes_are_taken_in_also_from_namespaces_of_their_own(
    open_to_nobody: Path, phoenix: Callable[..., Phoenix]
) -> None:
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


def test_a_long_step_with_automatic_snapshots_goes_on_and_none_of_them_is_lost(
    phoenix: Callable[..., Phoenix],
) -> None:
    server = phoenix("tests.simulations.timing:Slow")
    with server.connect() as client:
        main = client.branch("main")
        main.autosnap(every_steps=10, keep=20)

        def replace_the_server() -> None:
            with server.connect() as mine:
                assert_settles(lambda: mine.node("main").info().step > 35, True)
            server.kill()
            server.rise()

        killer = threading.Thread(target=replace_the_server)
        killer.start()
        result = main.step(100)
        killer.join()
        assert (result.step, result.ticks, result.outputs) == (100, 100, {"count": 100})
        automatic = [node for node in client.tree() if node.automatic]
        assert [node.step for node in automatic] == list(range(10, 101, 10))
        main.step(10)
        assert client.node("auto-110").info().automatic


def test_an_atomic_step_that_fails_without_a_server_is_rolled_back_by_the_next(
    phoenix: Callable[..., Phoenix], tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    server = phoenix("tests.simulations.timing:Slow", params={"diary": str(diary)})
    with server.connect() as client:
        main = client.branch("main")
        main.step(3)
        caught: list[SimulationError] = []

        def run() -> None:
            with server.connect() as mine:
                try:
                    mine.branch("main").step(20, fail_at=15, atomic=True)
                except SimulationError as error:
                    caught.append(error)

        stepping = threading.Thread(target=run)
        stepping.start()
        assert_settles(lambda: main.info().step > 5, True)
        server.kill()
        assert_settles(diary.read_text, "failed")
        server.rise()
        stepping.join()
        # It was done again, from where it was rolled back to, and failed again.
        assert [error.details["rolled_back_to"] for error in caught] == [3]
        assert main.step(1).step == 4


@pytest.mark.parametrize("how", ["finished", "killed"])
def test_an_atomic_step_that_was_running_is_whole_or_was_never_begun(
    phoenix: Callable[..., Phoenix], tmp_path: Path, how: str
) -> None:
    diary = tmp_path / "diary"
    server = phoenix("tests.simulations.timing:Slow", params={"diary": str(diary)})
    with server.connect() as client:
        main = client.branch("main")
        main.step(3)
        results: list[Any] = []

        def run() -> None:
            with server.connect() as mine:
                results.append(mine.branch("main").step(20, atomic=True))

        stepping = threading.Thread(target=run)
        stepping.start()
        assert_settles(lambda: main.info().step > 5, True)
        pid = main.info().pid
        server.kill()
        if how == "killed":
            os.kill(pid, signal.SIGKILL)
        server.rise()
        stepping.join()
        assert [(each.step, each.ticks) for each in results] == [(23, 20)]
        assert sum(getattr(action, "ticks", 0) * action.repeat for action in main.actions()) == 23
        assert len(client.tree().nodes) == 2


def test_a_fault_outlives_the_server_that_noted_it_and_one_that_nobody_noted_is_found(
    phoenix: Callable[..., Phoenix], tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    server = phoenix("tests.simulations.timing:Slow", params={"diary": str(diary)})
    with server.connect() as client:
        main = client.branch("main")
        other = main.branch(name="other")
        with pytest.raises(SimulationError):
            main.step(1, fail_at=1)
        server.kill()
        server.rise()
        assert main.info().state == "faulted"
        with pytest.raises(FaultedError):
            main.step()
        diary.write_text("")
        vanishing = server.connect()
        send_frames(
            vanishing._connection._socket, requests.step("other", 40, {"fail_at": 30}, progress=False).frames(99)
        )
        assert_settles(lambda: other.info().step > 2, True)
        vanishing.close()
        server.kill()
        assert_settles(diary.read_text, "failed")
        server.rise()
        assert_settles(lambda: other.info().state, "faulted")


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
