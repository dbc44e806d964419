"""The side channel: descriptors for clients of the server's user on its machine, and large reads by way of it."""

from __future__ import annotations

import asyncio
import gc
import mmap
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from snapserv_client import Branch, Server, aio, connect, requests
from snapserv_client.channel import CHANNEL_VARIABLE, REFUSED, SUFFIX, TICKET_BYTES
from snapserv_client.protocol import ReadResult

from snapserv.errors import BusyError, NodeDiedError
from snapserv.server.channel import KEPT_S, MOST_CALLERS
from snapserv.server.keymaking import make_client_keys, make_server_keys
from snapserv.server.outgoing import MOST_WAITING_BYTES

from ..conftest import ROOT, ServerProcess, as_nobody, assert_nothing_more, assert_settles, start_server, statistics

Serve = Callable[..., ServerProcess]
pytestmark = pytest.mark.skipif(
    os.environ.get(CHANNEL_VARIABLE) == "off", reason=f"{CHANNEL_VARIABLE}=off: there is no side channel"
)
TARGET = "tests.simulations.large:Large"
REGIONS: list[Any] = [
    ("grid", None),
    ("grid", np.s_[100:3000]),
    ("grid", np.s_[::2]),
    ("grid", np.s_[:, 7:1000]),
    ("grid", np.s_[::-1]),
    ("cube", None),
    ("cube", np.s_[3]),
    ("cube", np.s_[:, 5]),
    ("cube", np.s_[1:7, ::3, 16:]),
    ("records", None),
    ("records", np.s_[17:60000:3]),
]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = start_server(tmp_path_factory.mktemp("large"), TARGET)
    yield server
    assert server.end() == 0, server.log.read_text()


@pytest.fixture
def client(large: ServerProcess) -> Iterator[Server]:
    with large.connect() as client:
        yield client


def plain(node: Any, field: str, region: Any = None) -> Any:
    return node._server._run(requests.read(node.id, field, region))


def handed(node: Any, field: str, region: Any = None) -> ReadResult:
    found: ReadResult = node._server._run(requests.read_handed(node.id, field, region))
    return found


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def is_mapped(array: Any) -> bool:
    """Return whether an array's memory is a file's, and not a message's."""
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, memoryview) and isinstance(array.obj, mmap.mmap)


def caller(endpoint: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.settimeout(10)
    made.connect(endpoint.removeprefix("ipc://") + SUFFIX)
    return made


@pytest.mark.parametrize(("field", "region"), REGIONS)
def test_what_is_handed_over_is_what_comes_in_a_message(client: Server, field: str, region: Any) -> None:
    main = client.branch("main")
    main.step(first=0, last=2048, every=3)  # private pages and the base image's, in turn
    snapshot = main.snapshot()
    for node in (main, snapshot):
        wanted, found = plain(node, field, region), node.read(field, region)
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        assert np.array_equal(found, wanted)
        assert found.tobytes() == wanted.tobytes()
        assert not found.flags.writeable
        assert not wanted.flags.writeable
    snapshot.drop()


def test_only_what_is_large_and_not_turned_is_handed_over(client: Server) -> None:
    main = client.branch("main")
    assert handed(main, "grid", np.s_[:255]).handed is None  # a row short of 1 MiB
    assert handed(main, "grid", np.s_[::-1]).handed is None
    found = handed(main, "grid", np.s_[:256])
    assert found.handed is not None
    assert (found.value, found.handed.shape, len(found.handed.ticket)) == (None, [256, 1024], TICKET_BYTES)
    assert client.channel is not None
    array = client.channel.array(found.handed)
    assert array is not None
    assert is_mapped(array)
    assert is_mapped(main.read("grid"))
    assert not is_mapped(plain(main, "grid"))
    assert array.tobytes() == plain(main, "grid", np.s_[:256]).tobytes()


def test_a_request_that_does_not_say_so_is_answered_in_a_message(client: Server) -> None:
    assert plain(client.branch("main"), "grid").shape == (4096, 1024)


@pytest.mark.parametrize("what", ["grid", "cube"])  # of huge pages, and a memfd
def test_a_file_that_was_handed_over_cannot_be_changed(client: Server, what: str) -> None:
    region = None if what == "grid" else np.s_[0:2]
    found = handed(client.branch("main"), what, region)
    assert found.handed is not None
    assert client.channel is not None
    descriptor = client.channel.fetch(found.handed.ticket)
    assert descriptor is not None
    with pytest.raises(OSError, match=r"."):
        os.pwrite(descriptor, b"x", 0)
    with pytest.raises(OSError, match=r"."):
        os.ftruncate(descriptor, 0)
    os.close(descriptor)


def test_an_array_stays_when_its_node_has_moved_on_and_its_memory_goes_with_it(
    large: ServerProcess, client: Server
) -> None:
    main = client.branch("main")
    plain(main, "grid", 0), plain(main, "grid")  # pyzmq opens what it needs to send without copying once
    before, here = statistics(large.pid), descriptors()
    array = main.read("grid")
    kept = array[5:9]
    copy = array.copy()
    main.step(first=0, last=4096)
    assert array.tobytes() == copy.tobytes()
    del array
    assert kept.tobytes() == copy[5:9].tobytes()
    del kept
    assert descriptors() == here
    assert_nothing_more(large.pid, before)


def test_a_ticket_is_good_for_once(client: Server) -> None:
    found = handed(client.branch("main"), "grid")
    assert found.handed is not None
    assert client.channel is not None
    assert client.channel.array(found.handed) is not None
    assert client.channel.array(found.handed) is None


def test_a_ticket_that_nobody_has_given_out_is_refused(client: Server) -> None:
    for said in (bytes(TICKET_BYTES), b"", b"x", bytes(4096)):
        with caller(client.endpoint) as made:
            made.send(said)
            answer, descriptors, _, _ = socket.recv_fds(made, 16, 4)
            assert (answer, descriptors) == (REFUSED, [])


def test_who_says_nothing_is_hung_up_on_and_keeps_nobody_out_for_long(large: ServerProcess, client: Server) -> None:
    before = statistics(large.pid)
    silent = [caller(client.endpoint) for _ in range(MOST_CALLERS + 3)]
    main = client.branch("main")
    assert main.read("grid").tobytes() == plain(main, "grid").tobytes()  # in a message, where it must
    for each in silent:
        assert each.recv(1) == b""
        each.close()
    assert_nothing_more(large.pid, before)
    found = handed(main, "grid")
    assert found.handed is not None
    assert client.channel is not None
    assert client.channel.array(found.handed) is not None


def test_of_a_client_that_dies_before_it_has_fetched_what_it_asked_for_nothing_is_left(
    large: ServerProcess, client: Server
) -> None:
    plain(client.branch("main"), "grid")
    before = statistics(large.pid)
    script = f"""
import os, signal
from snapserv_client import connect, requests
server = connect({client.endpoint!r}, timeout_s=10)
found = server._run(requests.read_handed("main", "grid", None))
assert found.handed is not None
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert_nothing_more(large.pid, before, within_s=KEPT_S + 10)


def test_where_a_ticket_has_expired_the_array_comes_in_a_message(client: Server, large: ServerProcess) -> None:
    main = client.branch("main")
    plain(main, "grid")
    before = statistics(large.pid)
    found = handed(main, "grid")
    assert found.handed is not None
    assert client.channel is not None
    assert_nothing_more(large.pid, before, within_s=KEPT_S + 10)
    assert client.channel.array(found.handed) is None


def test_who_does_not_fetch_what_it_asks_for_is_told_to(client: Server) -> None:
    main = client.branch("main")
    kept = [handed(main, "grid") for _ in range(MOST_WAITING_BYTES // (16 << 20))]
    with pytest.raises(BusyError):
        handed(main, "grid")
    assert client.channel is not None
    for each in kept:
        assert each.handed is not None
        assert client.channel.array(each.handed) is not None
    assert main.read("grid").shape == (4096, 1024)


def test_another_user_is_turned_away_whatever_it_knows(short_path: Path) -> None:
    short_path.chmod(0o755)
    folder = short_path / "s"
    folder.mkdir(mode=0o755)
    server = start_server(folder, TARGET)
    try:
        with server.connect() as client:
            main = client.branch("main")
            found = handed(main, "grid")
            assert found.handed is not None
            path = server.endpoint.removeprefix("ipc://") + SUFFIX
            assert os.stat(path).st_mode & 0o777 == 0o600
            os.chmod(path, 0o666)
            script = f"""
import socket
caller = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
caller.settimeout(10)
caller.connect({path!r})
try:
    caller.send(bytes.fromhex({found.handed.ticket.hex()!r}))
    print(socket.recv_fds(caller, 16, 4)[:2])
except (BrokenPipeError, ConnectionResetError):
    print((b"", []))
"""
            command = [*as_nobody(), sys.executable, "-c", script]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            assert said.strip() == "(b'', [])"
            assert client.channel is not None
            assert client.channel.array(found.handed) is not None  # the ticket is not used up by it
    finally:
        assert server.end() == 0, server.log.read_text()


def test_root_at_another_users_server_reads_in_messages(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(short_path, 65534, 65534)
    monkeypatch.setenv("SNAPSERV_TRUSTED_UIDS", "65534")
    server = start_server(short_path, TARGET, prefix=as_nobody(), HOME=str(short_path))
    try:
        with server.connect() as client:
            assert client.hello is not None
            assert client.hello.channel
            assert client.channel is None
            assert client.branch("main").read("grid").shape == (4096, 1024)
            with caller(server.endpoint) as made:
                assert made.recv(1) == b""
        script = f"""
from snapserv_client import connect
with connect({server.endpoint!r}, timeout_s=10) as client:
    array = client.branch("main").read("grid")
    print(client.channel is not None, array.base.base.obj)
"""
        command = [*as_nobody(), sys.executable, "-c", script]
        own = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
        assert own.startswith("True <mmap.mmap"), server.log.read_text()
    finally:
        assert server.end() == 0, server.log.read_text()


@pytest.mark.parametrize("whose", ["server", "client"])
def test_without_the_channel_all_goes_in_messages(
    serve: Serve, whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(TARGET, **({CHANNEL_VARIABLE: "off"} if whose == "server" else {}))
    if whose == "client":
        monkeypatch.setenv(CHANNEL_VARIABLE, "off")
    with server.connect() as client:
        assert client.hello is not None
        assert client.hello.channel == (whose == "client")
        assert client.channel is None
        assert client.branch("main").read("grid").shape == (4096, 1024)
        if whose == "server":
            assert handed(client.branch("main"), "grid").handed is None


def test_over_tcp_there_is_no_channel(serve: Serve) -> None:
    server = serve(TARGET, options=("--endpoint", "tcp://127.0.0.1:*"))
    with server.connect() as client:
        assert client.hello is not None
        assert not client.hello.channel
        assert client.channel is None


def test_behind_a_locked_door_there_is_no_channel(serve: Serve, tmp_path: Path) -> None:
    make_server_keys(tmp_path / "keys")
    make_client_keys(tmp_path / "keys", "ana", read_only=True)
    server = serve(TARGET, options=("--keys", str(tmp_path / "keys")))
    with connect(server.endpoint, keys=tmp_path / "keys" / "clients" / "ana", timeout_s=10) as client:
        assert client.hello is not None
        assert not client.hello.channel
        assert client.branch("main").read("grid").shape == (4096, 1024)


def test_another_server_at_the_same_place_has_a_channel_there(serve: Serve, tmp_path: Path) -> None:
    first = start_server(tmp_path, TARGET, options=("--orphan-grace", "30"))
    with first.connect() as client:
        main = client.branch("main")
        main.step(first=10, last=20)
        found = handed(main, "grid")
        wanted = plain(main, "grid").tobytes()
        first.end(signal.SIGKILL)
        second = start_server(tmp_path, TARGET)
        assert client.channel is not None
        assert found.handed is not None
        assert client.channel.array(found.handed) is None
        assert main.read("grid").tobytes() == wanted
    assert second.end() == 0


def test_a_node_whose_process_has_ended_cannot_be_read_here_either(client: Server) -> None:
    branch: Branch = client.snapshot("root").branch(name="doomed")
    os.kill(branch.call("process"), signal.SIGKILL)
    assert_settles(lambda: branch.info().state, "dead")
    with pytest.raises(NodeDiedError):
        branch.read("grid")
    branch.drop()


def test_many_at_once_do_not_get_into_each_others_way(large: ServerProcess, client: Server) -> None:
    wanted = [plain(client.branch("main"), "cube", index).tobytes() for index in range(8)]

    async def read() -> list[bytes]:
        async with await aio.connect(large.endpoint, timeout_s=10) as server:
            main = await server.branch("main")
            found = await asyncio.gather(*(main.read("cube", np.s_[index]) for index in range(8)))
            return [each.tobytes() for each in found]

    assert asyncio.run(read()) == wanted


def test_a_read_that_is_given_up_leaves_nothing(large: ServerProcess, client: Server) -> None:
    plain(client.branch("main"), "grid")
    before = statistics(large.pid)

    async def give_up() -> None:
        async with await aio.connect(large.endpoint, timeout_s=10) as server:
            main = await server.branch("main")
            for pause_s in (0.0, 0.001, 0.003, 0.01):
                reading = asyncio.create_task(main.read("grid"))
                await asyncio.sleep(pause_s)
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    asyncio.run(give_up())
    assert_nothing_more(large.pid, before, within_s=KEPT_S + 10)
