"""Keys at the door: who may do what, and that nobody who may not learns anything or disturbs anybody."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgpack
import pytest
import zmq
from snapserv_client import aio, connect, requests, wire
from snapserv_client.errors import UnauthorizedError, UnreachableError
from snapserv_client.keys import SERVER_KEY, client_keys
from snapserv_client.protocol import VERBS
from snapserv_client.transport import routing_id
from zmq.utils.monitor import parse_monitor_message

from snapserv.server.access import LockedDoor
from snapserv.server.keymaking import make_client_keys, make_server_keys

from ..conftest import ServerProcess, assert_settles, start_server
from .conftest import ANSWER_WITHIN_MS, SILENT_FOR_MS, Keyed, answer, dealer, forge

Serve = Callable[..., ServerProcess]


def test_a_known_key_may_do_everything(keyed: Keyed) -> None:
    with keyed.connect("ana") as server:
        assert server.branch("main").step(3).step == 3
        assert server.branch("main").snapshot("s").name == "s"

        async def again() -> int:
            async with await aio.connect(keyed.endpoint, keys=keyed.folder("ana"), timeout_s=20.0) as other:
                return (await (await other.branch("main")).step(2)).step

        assert asyncio.run(again()) == 5


def test_keys_are_named_by_the_environment_too(keyed: Keyed) -> None:
    environment = {**os.environ, "SNAPSERV_KEYS": str(keyed.folder("ana")), "SNAPSERV_ENDPOINT": keyed.endpoint}
    command = [sys.executable, "-m", "snapserv", "step", "main", "4", "--json"]
    assert_settles(
        lambda: subprocess.run(command, env=environment, capture_output=True, check=False).returncode,
        0,
        within_s=30.0,
    )


def test_a_read_only_key_reads_and_changes_nothing(keyed: Keyed) -> None:
    with keyed.connect("ana") as server:
        before = server.branch("main").snapshot("before")
        server.branch("main").step(2)
        tree = [(node.name, node.step) for node in server.tree().nodes]
    with keyed.connect("rob") as server:
        assert int(server.branch("main").read("count")) == 2
        assert server.diff("main", "before").fields
        assert server.node("main").actions()
        assert server.snapshot("before").log()
        assert server.stats().nodes == 3
        with pytest.raises(UnauthorizedError, match="may only read"):
            server.branch("main").verify()  # it would run the simulation
        with pytest.raises(UnauthorizedError, match="'rob' may only read") as caught:
            server.branch("main").step()
        assert "--read-only" in caught.value.hint
        assert [(node.name, node.step) for node in server.tree().nodes] == tree
        assert before.name == "before"


def test_a_read_only_key_is_refused_every_verb_that_is_not_declared_to_read(keyed: Keyed) -> None:
    with dealer(keyed.endpoint, keyed.folder("rob")) as socket:
        for number, verb in enumerate(VERBS.values(), 1):
            header = {"id": number, "verb": verb.name, "node": "main", "args": {"no such argument": 1}}
            socket.send_multipart([wire.MAGIC, msgpack.packb(header)])
            error = answer(socket).error
            assert error is not None
            assert error.code == ("bad_request" if verb.reads else "unauthorized"), verb.name


def test_a_stranger_gets_no_reply_and_leaves_one_line_in_the_log(keyed: Keyed, tmp_path: Path) -> None:
    eve = forge(keyed, tmp_path)
    wrong_server = tmp_path / "wrong"
    shutil.copytree(keyed.folder("ana"), wrong_server)
    shutil.copyfile(eve.parents[1] / SERVER_KEY, wrong_server / SERVER_KEY)
    with contextlib.ExitStack() as stack:
        strangers = [stack.enter_context(dealer(keyed.endpoint, keys)) for keys in (eve, None, wrong_server, None)]
        for socket in strangers:
            with contextlib.suppress(zmq.Again):  # who was hung up on already has nobody to send to
                socket.send_multipart(requests.hello("eve").frames(1), zmq.DONTWAIT)
        with keyed.connect("ana") as server:
            for _ in range(3):
                assert server.branch("main").step().step
        assert [socket.poll(SILENT_FOR_MS) for socket in strangers] == [0, 0, 0, 0]
    assert_settles(lambda: len(keyed.log("strangers_refused")), 1)
    with pytest.raises(UnreachableError):
        connect(keyed.endpoint, keys=eve, timeout_s=0.5)


def test_a_stranger_is_hung_up_on_without_a_word(keyed: Keyed, tmp_path: Path) -> None:
    """ZeroMQ would tell it that its key is unknown, and so that the server's key was right."""
    with dealer(keyed.endpoint, forge(keyed, tmp_path)) as socket:
        monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_AUTH)
        assert monitor.poll(ANSWER_WITHIN_MS)
        event = parse_monitor_message(monitor.recv_multipart())["event"]
        assert event == zmq.EVENT_DISCONNECTED
        socket.disable_monitor()


def test_events_are_for_known_keys_too(keyed: Keyed, tmp_path: Path) -> None:
    told: list[str] = []
    thread = threading.Thread(target=_watch, args=(keyed, told))
    with keyed.connect("ana") as server, zmq.Context() as context, context.socket(zmq.SUB) as overheard:
        overheard.setsockopt(zmq.LINGER, 0)
        overheard.setsockopt(zmq.SUBSCRIBE, b"")
        client_keys(forge(keyed, tmp_path)).secure(overheard)
        assert server.hello is not None
        overheard.connect(server.hello.events)
        thread.start()
        assert_settles(lambda: (server.branch("main").snapshot(), bool(told))[1], True)
        thread.join()
        assert overheard.poll(SILENT_FOR_MS) == 0


def _watch(keyed: Keyed, told: list[str]) -> None:
    with keyed.connect("rob") as watcher:
        for event in watcher.watch():
            told.append(event.kind)
            return


def test_a_new_key_is_let_in_and_a_removed_one_shut_out_without_a_restart(keyed: Keyed) -> None:
    made = make_client_keys(keyed.keys, "late", read_only=False)
    with keyed.connect("late") as server:
        assert server.branch("main").step().step == 1
        public = next(Path(name) for name in made.files if name.endswith("late.key"))
        kept = public.rename(public.with_name("late.revoked"))

        def code() -> str:
            try:
                server.branch("main")
            except UnauthorizedError as error:
                return error.code
            return "let in"

        assert_settles(code, "unauthorized")
        with pytest.raises(UnreachableError):
            connect(keyed.endpoint, keys=keyed.folder("late"), timeout_s=0.5)
        kept.rename(public)
        assert_settles(code, "let in")


def test_another_key_with_the_same_routing_id_gets_none_of_the_first_ones_replies(keyed: Keyed) -> None:
    make_client_keys(keyed.keys, "mal", read_only=False)
    name = routing_id()
    step = requests.step("main", 5, {}, progress=False)
    with dealer(keyed.endpoint, keyed.folder("ana"), name) as first:
        first.send_multipart(step.frames(7))
        assert answer(first).ok["step"] == 5
        with dealer(keyed.endpoint, keyed.folder("mal"), name) as second:
            second.send_multipart(step.frames(7))
            assert answer(second).ok["step"] == 10, "it got the reply to another key's request"
            second.send_multipart(step.frames(8))
            assert answer(second).ok["step"] == 15
    with dealer(keyed.endpoint, keyed.folder("ana"), name) as first:
        first.send_multipart(step.frames(7))
        assert answer(first).ok["step"] == 5, "its own reply is remembered"


def test_the_owner_of_a_routing_id_is_the_key_that_spoke_there_last(tmp_path: Path) -> None:
    make_server_keys(tmp_path / "keys")
    door = LockedDoor(tmp_path / "keys")
    ana, mal = b"a" * 40, b"m" * 40
    door._owners[b"name"] = mal
    assert door.routing_id(ana + b"name") is None
    assert door.routing_id(mal + b"name") == b"name"


@pytest.mark.parametrize("endpoint", ["tcp://0.0.0.0:*", "tcp://*:*"])
def test_tcp_beyond_loopback_is_refused_without_keys_and_says_how_to_make_them(
    tmp_path: Path, endpoint: str
) -> None:
    with pytest.raises(AssertionError) as caught:
        start_server(
            tmp_path, "tests.simulations.walk:Walk", options=("--endpoint", endpoint), XDG_CONFIG_HOME=str(tmp_path)
        )
    said = str(caught.value)
    assert '"code": "keys"' in said
    assert "snapserv keygen server" in said
    assert "snapserv keygen client NAME" in said


def test_tcp_on_loopback_without_keys_is_allowed_with_a_warning(serve: Serve) -> None:
    server = serve("tests.simulations.walk:Walk", options=("--endpoint", "tcp://127.0.0.1:*"))
    with server.connect() as client:
        assert client.branch("main").step().step == 1
    assert '"event": "no_keys"' in server.log.read_text()


def test_another_user_is_refused_on_an_ipc_socket(serve: Serve) -> None:
    """Even where the folder and the socket let it in."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    server = serve("tests.simulations.walk:Walk")
    path = Path(server.endpoint.removeprefix("ipc://"))
    opened = [folder for folder in (path, *path.parents) if folder.stat().st_uid == os.geteuid()]
    modes = {folder: folder.stat().st_mode for folder in opened}
    code = (
        "import os, sys, zmq; os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))\n"
        "context = zmq.Context(); socket = context.socket(zmq.DEALER); socket.connect(sys.argv[1])\n"
        "socket.send_multipart([b'SS1', bytes.fromhex(sys.argv[3])])\n"
        "print(socket.poll(int(sys.argv[4])), flush=True); context.destroy(0)"
    )
    frames = requests.ping().frames(1)
    try:
        for folder in opened:
            folder.chmod(0o755 if folder.is_dir() else 0o777)

        def polled(user: int, wait_ms: int) -> str:
            arguments = [server.endpoint, str(user), bytes(frames[1]).hex(), str(wait_ms)]
            command = [sys.executable, "-c", code, *arguments]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

        assert polled(0, ANSWER_WITHIN_MS) == "1"
        assert polled(65534, SILENT_FOR_MS) == "0"
    finally:
        for folder, mode in modes.items():
            folder.chmod(mode & 0o7777)
