"""Who may do what, and that nobody who may not, or who means harm, disturbs anybody else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from snapserv_client import Server, aio, connect, requests, wire
from snapserv_client.errors import BusyError, UnauthorizedError, UnreachableError
from snapserv_client.keys import SERVER_KEY, client_keys
from snapserv_client.protocol import VERBS
from snapserv_client.requests import Reply
from snapserv_client.transport import routing_id
from zmq.utils.monitor import parse_monitor_message

from snapserv.access import LockedDoor
from snapserv.keymaking import make_client_keys, make_server_keys

from ..conftest import ROOT, ServerProcess, assert_nothing_more, assert_settles, start_server, statistics

Serve = Callable[..., ServerProcess]
ANSWER_WITHIN_MS = 20_000
SILENT_FOR_MS = 1500
"""How long a stranger is left without an answer before we take it that none comes; known clients take one."""


@dataclass
class Keyed:
    """A server that has keys, and the folders of its clients."""

    server: ServerProcess
    keys: Path

    @property
    def endpoint(self) -> str:
        return self.server.endpoint

    def folder(self, name: str) -> Path:
        return self.keys / "clients" / name

    def connect(self, name: str, **options: Any) -> Server:
        return connect(self.endpoint, keys=self.folder(name), timeout_s=20.0, **options)

    def log(self, event: str) -> list[dict[str, Any]]:
        lines = self.server.log.read_text().splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [line for line in found if line["event"] == event]


@pytest.fixture
def keyed(serve: Serve, tmp_path: Path) -> Keyed:
    """A server on loopback that knows ana, who may do everything, and rob, who may read."""
    keys = tmp_path / "keys"
    make_server_keys(keys)
    make_client_keys(keys, "ana", read_only=False)
    make_client_keys(keys, "rob", read_only=True)
    options = ("--endpoint", "tcp://127.0.0.1:*", "--keys", str(keys))
    return Keyed(serve("tests.simulations.walk:Walk", options=options), keys)


def forge(keyed: Keyed, folder: Path) -> Path:
    """Return a folder with the right server's key, and a key that it does not know."""
    other = folder / "forged"
    make_server_keys(other / "own")
    make_client_keys(other / "own", "eve", read_only=False)
    eve = other / "own" / "clients" / "eve"
    shutil.copyfile(keyed.keys / SERVER_KEY, eve / SERVER_KEY)
    return eve


@contextlib.contextmanager
def dealer(endpoint: str, keys: Path | None = None, name: bytes | None = None) -> Iterator[zmq.Socket[bytes]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.ROUTING_ID, name or routing_id())
    if keys is not None:
        client_keys(keys).secure(socket)
    socket.connect(endpoint)
    try:
        yield socket
    finally:
        context.destroy(0)


def answer(socket: zmq.Socket[bytes]) -> Reply:
    assert socket.poll(ANSWER_WITHIN_MS), "no reply"
    return Reply.parse(socket.recv_multipart())


# ------------------------------------------------------------------------------------------------------- keys


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
        assert server.branch("main").verify().ok
        assert server.stats().nodes == 3
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


# -------------------------------------------------------------------------------------- another machine, nearly


@pytest.fixture
def far_away() -> Iterator[tuple[str, str]]:
    """Yield a network namespace that a pair of virtual interfaces joins to ours, and our address there."""
    if shutil.which("ip") is None:
        pytest.skip("needs the command ip (iproute2)")
    name, ours, theirs = f"snapserv-{os.getpid()}", f"ss{os.getpid()}a"[-15:], f"ss{os.getpid()}b"[-15:]
    number = os.getpid() % 16384  # a network of four addresses of its own in 198.18.0.0/16 (RFC 2544)
    network = f"198.18.{number // 64}.{number % 64 * 4}"
    here, there = (f"{network.rpartition('.')[0]}.{int(network.rpartition('.')[2]) + host}" for host in (1, 2))

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)

    try:
        ip("netns", "add", name)
    except subprocess.CalledProcessError as cause:
        pytest.skip(f"needs a network namespace (root): {cause.stderr.strip()}")
    try:
        try:
            ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name)
            ip("address", "add", f"{here}/30", "dev", ours)
            ip("link", "set", ours, "up")
            ip("-netns", name, "address", "add", f"{there}/30", "dev", theirs)
            ip("-netns", name, "link", "set", theirs, "up")
        except subprocess.CalledProcessError as cause:
            pytest.skip(f"needs virtual interfaces (veth): {cause.stderr.strip()}")
        yield name, here
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            ip("link", "delete", ours)
        ip("netns", "delete", name)


def test_from_another_network_keys_decide(far_away: tuple[str, str], serve: Serve, tmp_path: Path) -> None:
    namespace, address = far_away
    keys = tmp_path / "keys"
    make_server_keys(keys)
    make_client_keys(keys, "ana", read_only=False)
    make_client_keys(keys, "rob", read_only=True)
    endpoint = f"tcp://{address}:*"
    with pytest.raises(AssertionError, match="snapserv keygen server"):
        start_server(
            tmp_path, "tests.simulations.walk:Walk", options=("--endpoint", endpoint), XDG_CONFIG_HOME=str(tmp_path)
        )
    server = Keyed(
        serve("tests.simulations.walk:Walk", options=("--endpoint", endpoint, "--keys", str(keys))), keys
    )
    eve = forge(server, tmp_path)

    def run(folder: Path, *command: str) -> dict[str, Any]:
        environment = {**os.environ, "SNAPSERV_KEYS": str(folder), "SNAPSERV_ENDPOINT": server.endpoint}
        inside = ["ip", "netns", "exec", namespace, sys.executable, "-m", "snapserv", *command, "--json"]
        said = subprocess.run(inside, env=environment, capture_output=True, text=True, check=False).stdout
        found: dict[str, Any] = json.loads(said)
        return found

    stepped: dict[str, Any] = {}

    def step_once() -> int:
        if "step" not in stepped:
            stepped.update(run(server.folder("ana"), "step", "main", "3"))
        return int(stepped.get("step", -1))

    assert_settles(step_once, 3, within_s=30.0)
    assert run(server.folder("rob"), "read", "main", "count")["values"] == 3
    assert run(server.folder("rob"), "step", "main", "1")["error"]["code"] == "unauthorized"
    # By its frames, since the command line would only say that nobody answers.
    listens = (
        "import sys, pathlib; from tests.server.test_security import dealer; from snapserv_client import requests\n"
        "with dealer(sys.argv[1], pathlib.Path(sys.argv[2])) as socket:\n"
        "    socket.send_multipart(requests.hello('far').frames(1)); print(socket.poll(int(sys.argv[3])))\n"
    )
    inside = ["ip", "netns", "exec", namespace, sys.executable, "-c", listens, server.endpoint]
    for folder, wait_ms, replies in ((server.folder("rob"), ANSWER_WITHIN_MS, "1"), (eve, SILENT_FOR_MS, "0")):
        ran = subprocess.run(
            [*inside, str(folder), str(wait_ms)], capture_output=True, text=True, check=True, cwd=Path.cwd()
        )
        assert ran.stdout.strip() == replies
    assert run(server.folder("rob"), "read", "main", "count")["values"] == 3


# ------------------------------------------------------------------------------------------------- those who flood


def test_a_flood_is_refused_and_another_client_is_served(serve: Serve) -> None:
    server = serve("tests.simulations.walk:Walk", options=("--rate", "200"))
    with dealer(server.endpoint) as flood, server.connect() as client:
        for number in range(1, 2001):
            flood.send_multipart(requests.ping().frames(number))
        for _ in range(20):
            client.ping()
        assert client.branch("main").step(5).step == 5
        replies = [answer(flood) for _ in range(2000)]
    refused = [reply for reply in replies if isinstance(reply.error, BusyError)]
    assert len(refused) > 1000
    assert sorted(reply.id for reply in replies) == list(range(1, 2001))
    assert refused[0].error is not None
    assert refused[0].error.details["retry_after_s"] > 0


def bombs() -> list[bytes]:
    """Headers that say more than they are, or that are far more work than their size."""
    most = wire.MAX_HEADER_BYTES
    long_list = b"\xdd" + (most - 16).to_bytes(4, "big")

    def array(described: Any) -> bytes:
        packed: bytes = msgpack.packb({"id": 5, "a": msgpack.ExtType(1, msgpack.packb(described))})
        return packed

    tiny = msgpack.packb(msgpack.ExtType(1, msgpack.packb(["<f4", [0], b""])))
    many = (most - 8) // len(tiny)
    deep: Any = "<f4"
    for _ in range(50):
        deep = [["a", deep]]
    return [
        long_list * 1000 + b"\xc0" * (most - 5008),
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xffabc",
        b"\x91" * most,
        b"\x91" * 1000 + b"\xc0",
        b"\xdd" + (most - 5).to_bytes(4, "big") + b"\x90" * (most - 5),
        b"\xdd" + (most - 5).to_bytes(4, "big") + b"\x80" * (most - 5),
        b"\xdd" + many.to_bytes(4, "big") + tiny * many,
        array(["<f4", [2**47] * 100_000, b""]),
        array(["<f4", [0, 2**47, 2**47], b""]),
        array(["|V0", [2**47], b""]),
        array(["f" * 900_000, [1], b""]),
        array([deep, [1], b""]),
        array([[[f"f{number}", "<f4"] for number in range(60_000)], [1], b""]),
        array([[["a", "<f4", [2**20, 2**20]]], [1], b""]),
        msgpack.packb({"id": 5, "verb": "v" * (most - 100)}),
        msgpack.packb({"id": 5, "verb": "read", "node": "n" * (most - 100)}),
        msgpack.packb({"id": 5, "verb": "read", "node": "main", "args": {"field": "\n" * (most - 100)}}),
        msgpack.packb({"id": 5, "verb": "spec", "args": {"tree": "\0" * (most - 100)}}),
        msgpack.packb({"id": 5, "verb": "create", "args": {"simulation": "\\" * (most - 100)}}),
    ]


def test_header_bombs_get_typed_errors_and_another_client_is_served(serve: Serve) -> None:
    server = serve("tests.simulations.walk:Walk")
    before = statistics(server.pid)
    with dealer(server.endpoint) as bomber, server.connect() as client:
        for steps, bomb in enumerate(bombs(), 1):
            bomber.send_multipart([wire.MAGIC, bomb])
            assert client.branch("main").step().step == steps
            error = answer(bomber).error
            assert error is not None
            assert error.code in ("bad_request", "too_large", "not_found")
            assert len(str(error)) < 1 << 17
        assert client.stats().resident_bytes < 1 << 30
    assert_nothing_more(server.pid, before)


def test_what_cannot_be_passed_on_to_a_cell_leaves_the_cells_replies_in_step(serve: Serve) -> None:
    """Arrays that fit into a request and not into a message to a cell: each reply must stay its own request's."""
    server = serve("tests.simulations.walk:Walk")
    many = [msgpack.ExtType(1, msgpack.packb(["|u1", [512], b"x" * 512]))] * 1500
    header = {"id": 1, "verb": "call", "node": "main", "args": {"method": "echo", "args": [many]}}
    with dealer(server.endpoint) as socket:
        socket.send_multipart([wire.MAGIC, msgpack.packb(header)])
        error = answer(socket).error
        assert error is not None
        assert error.code == "too_large"
        socket.send_multipart(requests.step("main", 3, {}, progress=False).frames(8))
        assert answer(socket).ok["step"] == 3
        socket.send_multipart(requests.step("main", 4, {}, progress=False).frames(9))
        assert answer(socket).ok["step"] == 7


def test_a_client_that_takes_no_replies_costs_bounded_memory(serve: Serve) -> None:
    cells = (64 << 20) // 8
    server = serve("tests.simulations.walk:Walk", params={"cols": cells})
    with dealer(server.endpoint) as lazy, server.connect() as client:
        lazy.setsockopt(zmq.RCVHWM, 1)
        before = client.stats().resident_bytes
        wanted = 24
        for number in range(1, wanted + 1):
            lazy.send_multipart(requests.read("main", "position", None).frames(number))
        assert_settles(lambda: client.stats().in_flight, 1, within_s=60.0)  # that of stats itself
        assert client.stats().resident_bytes - before < 768 << 20
        replies = [answer(lazy) for _ in range(wanted)]
        refused = [reply for reply in replies if isinstance(reply.error, BusyError)]
        assert refused
        assert "taken" in refused[0].error.message if refused[0].error else False
        lazy.send_multipart(requests.read("main", "count", None).frames(99))
        assert answer(lazy).error is None


def test_half_open_connections_are_given_up(serve: Serve) -> None:
    """Whoever connects and says nothing is hung up on, and meanwhile others are served."""
    import socket as plain

    server = serve("tests.simulations.walk:Walk", options=("--endpoint", "tcp://127.0.0.1:*"))
    host, _, port = server.endpoint.removeprefix("tcp://").rpartition(":")
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(plain.create_connection((host, int(port)))) for _ in range(20)]
        with server.connect() as client:
            assert client.branch("main").step().step == 1
        for each in silent:
            each.settimeout(30.0)
            while each.recv(4096):
                pass


def test_the_kernel_watches_silent_peers(serve: Serve) -> None:
    server = serve("tests.simulations.walk:Walk", options=("--endpoint", "tcp://127.0.0.1:*"))
    _, _, port = server.endpoint.rpartition(":")
    with server.connect() as client:
        client.ping()

        def timers() -> list[tuple[str, bool]]:
            rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
            established = "01"  # net/ipv4/tcp_ipv4.c, get_tcp4_sock
            ours = [
                row[5].split(":") for row in rows if row[1].endswith(f":{int(port):04X}") and row[3] == established
            ]
            return [(kind, int(expires, 16) <= 11 * os.sysconf("SC_CLK_TCK")) for kind, expires in ours]

        by_keepalive = "02"
        assert_settles(timers, [(by_keepalive, True)])


def test_a_flood_that_breaks_off_unread_does_not_end_the_process() -> None:
    """With heartbeats libzmq would end it, after the ten seconds that lay between two of them."""
    broken_off = r"""
import socket, struct, time, zmq
from snapserv.listening import watch_peers

router = zmq.Context().socket(zmq.ROUTER)
router.setsockopt(zmq.RCVHWM, 2)
watch_peers(router, "tcp://127.0.0.1:*")
port = router.bind_to_random_port("tcp://127.0.0.1")
peer = socket.create_connection(("127.0.0.1", port))
peer.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48))
peer.recv(4096)
ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER"
peer.sendall(b"\x04" + bytes([len(ready)]) + ready)
peer.sendall((b"\x00\x64" + bytes(100)) * 3000)
time.sleep(0.5)
peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
peer.close()
time.sleep(11)
router.close(0)
"""
    ran = subprocess.run([sys.executable, "-c", broken_off], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=24))
    | st.builds(msgpack.Timestamp, st.integers(0, 1 << 32)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
ARGUMENTS = st.dictionaries(
    st.sampled_from(sorted({name for verb in VERBS.values() for name in verb.args.__struct_fields__})),
    VALUES | st.sampled_from(["main", "root", "count", "position", "echo", 1, 2]),
    max_size=4,
)
HEADERS = st.fixed_dictionaries(
    {"id": st.integers(0, 1 << 20), "verb": st.sampled_from(sorted(set(VERBS) - {"shutdown"}))},
    optional={"node": st.sampled_from(["main", "root", 1, 2]) | VALUES, "args": ARGUMENTS | VALUES},
)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = start_server(tmp_path_factory.mktemp("fuzz"), "tests.simulations.walk:Walk")
    yield server
    assert server.end(signal.SIGTERM) == 0, server.log.read_text()
    assert "internal_error" not in server.log.read_text()


RESTS = st.lists(st.binary(max_size=64), max_size=3)
MESSAGES = st.builds(lambda header, rest: [wire.MAGIC, msgpack.packb(header), *rest], HEADERS, RESTS)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=64), max_size=5) | MESSAGES)
def test_the_server_answers_or_ignores_whatever_is_sent(fuzzed: ServerProcess, frames: list[bytes]) -> None:
    with dealer(fuzzed.endpoint) as socket:
        if frames:
            socket.send_multipart(frames)
        socket.send_multipart(requests.ping().frames(1 << 40))
        while (reply := answer(socket)).id != 1 << 40:
            assert reply.error is None or reply.error.code != "internal"
