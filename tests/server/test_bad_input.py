"""Bad input gets a typed error that names the argument, what was wrong and what is allowed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from snapserv_client import Server, connect, local
from snapserv_client.errors import (
    AddressError,
    BadRequestError,
    FrozenError,
    NameTakenError,
    NotFoundError,
    SimulationError,
    SnapservError,
    UnreachableError,
)
from snapserv_client.wire import MAGIC

from ..conftest import ServerProcess, start_server
from .conftest import answer, dealer

Serve = Callable[..., ServerProcess]


@pytest.mark.parametrize(
    ("use", "kind", "says"),
    [
        (lambda s: s.branch("nobody"), NotFoundError, "no node 'nobody'"),
        (lambda s: s.branch("main").snapshot("root"), NameTakenError, "called 'root' already"),
        (lambda s: s.branch("main").branch(name="main"), NameTakenError, "called 'main' already"),
        (lambda s: s.branch("main").branch(names=["x", "x"]), BadRequestError, "same name"),
        (lambda s: s.branch("main").snapshot("no spaces"), BadRequestError, "name"),
        (lambda s: s.branch("main").snapshot("n" * 65), BadRequestError, "name"),
        (lambda s: s.branch("main").step(0), BadRequestError, "ticks"),
        (lambda s: s.branch("main").step(drift="much"), BadRequestError, "drift"),
        (lambda s: s.branch("main").step(drfit=1.0), BadRequestError, "did you mean 'drift'"),
        (lambda s: s.branch("main").read("postion"), NotFoundError, "fields: position, count"),
        (lambda s: s.branch("main").read("position", (5000,)), BadRequestError, "-1000 to 999"),
        (lambda s: s.branch("main").read("position", (0, 0)), BadRequestError, "2 axes"),
        (lambda s: s.branch("main").read("position", (slice(0, 9, 0),)), BadRequestError, "step 0"),
        (lambda s: s.branch("main").write("position", np.zeros(3)), BadRequestError, "shape [3]"),
        (lambda s: s.branch("main").write("count", np.zeros((), "c16")), BadRequestError, "complex128"),
        (lambda s: s.branch("main").write("count", 2.5), BadRequestError, "does not fit dtype int64"),
        (lambda s: s.branch("main").write("count", "three"), BadRequestError, "no value of dtype int64"),
        (lambda s: s.branch("main").write("nothing", 1), NotFoundError, "fields: position, count"),
        (lambda s: s.branch("main").call("hidden"), NotFoundError, "exported methods"),
        (lambda s: s.branch("main").call("total", 1), BadRequestError, "too many positional"),
        (lambda s: s.branch("main").restore("main"), BadRequestError, "live branch"),
        (lambda s: s.branch("main").restore("gone"), NotFoundError, "no node 'gone'"),
        (lambda s: s.snapshot("root").drop(), BadRequestError, "root of its tree"),
        (lambda s: s.diff("main", "root", ["nope"]), NotFoundError, "no field 'nope'"),
        (lambda s: s.spec("nowhere"), NotFoundError, "no tree 'nowhere'"),
        (lambda s: s.create("Walked"), NotFoundError, "served: Walk"),
        (lambda s: s.create(cols="many"), BadRequestError, "cols"),
        (lambda s: s.create(columns=3), BadRequestError, "allowed: cols, seed"),
        (lambda s: s.create(cols=-5), BadRequestError, "negative size"),
        (lambda s: s.create(name="default"), NameTakenError, "default"),
        (lambda s: s.branch("main").call("echo", object()), BadRequestError, "cannot be sent"),
    ],
)
def test_bad_requests_are_told_what_was_wrong(
    server: Server, use: Callable[[Server], Any], kind: type[SnapservError], says: str
) -> None:
    with pytest.raises(kind) as caught:
        use(server)
    assert type(caught.value) is kind
    assert says in f"{caught.value.message} {caught.value.hint}"
    assert server.branch("main").step().step == 1


def test_a_snapshot_refuses_every_change(server: Server) -> None:
    snapshot = server.branch("main").snapshot("still")
    from snapserv_client import requests

    for request in (
        requests.step("still", 1, {}, progress=False),
        requests.write("still", "count", 1, None),
        requests.call("still", "total", [], {}),
        requests.snapshot("still", None),
        requests.reset("still", "same"),
        requests.restore("still", "root", "same"),
        requests.interrupt("still"),
    ):
        with pytest.raises(FrozenError, match="never change"):
            server._run(request)
    assert snapshot.info().step == 0


def test_a_pinned_node_is_not_dropped(server: Server) -> None:
    snapshot = server.branch("main").snapshot()
    snapshot.pin()
    with pytest.raises(BadRequestError, match="pinned"):
        snapshot.drop()
    with pytest.raises(BadRequestError, match="pinned"):
        snapshot.drop(recursive=True)
    snapshot.pin(False)
    assert snapshot.drop() == [snapshot.name]


def test_a_tag_is_a_further_name(server: Server) -> None:
    snapshot = server.branch("main").snapshot("first")
    snapshot.tag("golden")
    assert server.snapshot("golden").id == snapshot.id
    with pytest.raises(NameTakenError):
        server.branch("main").tag("golden")
    snapshot.tag("golden", remove=True)
    with pytest.raises(NotFoundError):
        server.node("golden")
    with pytest.raises(NotFoundError, match="no tag"):
        snapshot.tag("golden", remove=True)


@pytest.mark.parametrize(
    ("target", "params", "code"),
    [
        ("tests.simulations.walk:Wlak", {}, "not_found"),
        ("tests.nowhere:Walk", {}, "not_found"),
        ("tests/nowhere.py:Walk", {}, "not_found"),
        ("tests.simulations", {}, "bad_request"),
        ("tests.simulations.memory:np", {}, "bad_request"),
        ("tests.simulations.trouble:Trouble", {"how": "raise"}, "simulation_error"),
        ("tests.simulations.trouble:Trouble", {"how": "segfault"}, "node_died"),
        ("tests.simulations.trouble:Trouble", {"how": "threads"}, "threads_running"),
        ("tests.simulations.trouble:Trouble", {"pages": 1 << 40}, "over_budget"),
        ("tests.simulations.trouble:Trouble", {"pages": "few"}, "bad_request"),
    ],
)
def test_a_server_that_cannot_start_says_why(target: str, params: dict[str, Any], code: str) -> None:
    with pytest.raises(SnapservError) as caught:
        local(target, **params)
    assert caught.value.code == code


def test_a_setup_that_raises_shows_its_traceback_to_who_started_it() -> None:
    with pytest.raises(SimulationError) as caught:
        local("tests.simulations.trouble:Trouble", how="raise")
    assert "told to raise" in caught.value.message
    assert "in fail" in caught.value.details["traceback"]


def test_a_file_can_be_served_and_its_class_be_misspelt(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from snapserv import Field, Simulation\n"
        "class Mine(Simulation):\n"
        "    x = Field('f4')\n"
        "    def step(self, inputs):\n"
        "        self.x += 1\n"
    )
    with local(f"{path}:Mine") as server:
        assert server.branch("main").step(4).step == 4
        assert float(server.branch("main").read("x")) == 4.0
    with pytest.raises(NotFoundError, match="did you mean 'Mine'"):
        local(f"{path}:Mien")


def test_an_address_in_use_is_refused_and_the_first_server_goes_on(serve: Serve) -> None:
    first = serve("tests.simulations.walk:Walk")
    folder = Path(first.endpoint.removeprefix("ipc://")).parent
    with pytest.raises(AssertionError, match="address_unavailable"):
        start_server(folder, "tests.simulations.walk:Walk")
    with first.connect() as server:
        assert server.branch("main").step().step == 1


def test_a_folder_that_others_may_write_is_refused(tmp_path: Path) -> None:
    from snapserv.server.listening import prepare

    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(AddressError, match="others may write"):
        prepare(f"ipc://{folder}/s.sock")


def test_a_folder_without_permission_and_a_file_for_a_folder_are_refused(tmp_path: Path) -> None:
    from snapserv.server.listening import prepare

    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(AddressError, match="no permission"):
        prepare(f"ipc://{file}/s.sock")
    with pytest.raises(AddressError, match="no permission"):
        prepare("ipc:///proc/1/s.sock")


@pytest.mark.parametrize("endpoint", ["nonsense", "ipc://", "http://x:1", "tcp://host", "tcp://h:port"])
def test_an_endpoint_must_be_one(endpoint: str) -> None:
    from snapserv.server.listening import prepare

    with pytest.raises(BadRequestError):
        prepare(endpoint)


def test_a_server_that_is_not_there_is_noticed_at_once_and_says_how_to_start_one(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(UnreachableError, match="snapserv serve"):
        connect(f"ipc://{tmp_path}/none.sock")
    with pytest.raises(UnreachableError, match="snapserv serve"):
        connect("tcp://127.0.0.1:1", timeout_s=0.2)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("what", ["tuple key", "date", "duration", "objects", "large", "set"])
def test_what_cannot_be_sent_is_an_error_and_the_branch_goes_on(serve: Serve, what: str) -> None:
    with serve("tests.simulations.trouble:Trouble").connect() as server:
        main = server.branch("main")
        with pytest.raises(SimulationError, match="cannot be"):
            main.call("give", what=what)
        main.step(2)
        assert main.info().step == 2


@pytest.mark.parametrize(
    ("args", "more", "says"),
    [
        ({"value": msgpack.ExtType(1, msgpack.packb(["float32", [2], 0]))}, b"", "not a dtype: 'float32'"),
        ({"value": msgpack.ExtType(1, msgpack.packb(["<f4", [2], 0]))}, b"", "names buffer 0"),
        ({"value": msgpack.ExtType(1, msgpack.packb(["<f4", [2], b"123"]))}, b"", "has 3 bytes"),
        ({"value": msgpack.ExtType(7, b"")}, b"", "extension type 7"),
        ({}, b"\x00", "extra"),
        ({"field": "\udcff"}, b"", "utf-8"),
        ({}, None, "header: verb is missing"),
    ],
)
def test_a_header_that_cannot_be_taken_is_answered_with_its_own_id(
    endpoint: str, args: Any, more: bytes | None, says: str
) -> None:
    asked = {"args": args, "id": 77, **({"verb": "write", "node": "main"} if more is not None else {})}
    with dealer(endpoint) as socket:
        socket.send_multipart([MAGIC, msgpack.packb(asked, unicode_errors="surrogateescape") + (more or b"")])
        reply = answer(socket)
    assert reply.id == 77
    assert isinstance(reply.error, BadRequestError)
    assert says in reply.error.message
