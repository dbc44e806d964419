"""Keys: made once, kept secret, read again when they change."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import zmq.auth
from snapserv_client import keys
from snapserv_client.errors import KeysError

from snapserv.errors import BadRequestError
from snapserv.server.access import Door, door_of
from snapserv.server.authorized import AuthorizedClients
from snapserv.server.keymaking import make_client_keys, make_server_keys


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "keys"
    make_server_keys(made)
    return made


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secret_keys_are_their_owners_alone_from_the_first_moment(folder: Path) -> None:
    before = os.umask(0)
    try:
        make_client_keys(folder, "ana", read_only=False)
    finally:
        os.umask(before)
    secrets = [folder / "server.key_secret", folder / "clients" / "ana" / "client.key_secret"]
    assert [mode(path) for path in secrets] == [0o600, 0o600]
    folders = (folder, folder / "authorized_clients", folder / "clients", folder / "clients" / "ana")
    assert [mode(path) for path in folders] == [0o700] * 4


def test_the_files_are_those_of_pyzmq(folder: Path, tmp_path: Path) -> None:
    public, secret = zmq.auth.load_certificate(folder / "server.key_secret")
    assert zmq.auth.load_certificate(folder / "server.key") == (public, None)
    assert keys.read_pair(folder / "server.key_secret") == keys.KeyPair(public, secret or b"")
    public_file, secret_file = zmq.auth.create_certificates(tmp_path, "theirs")
    os.chmod(secret_file, 0o600)
    assert keys.read_public(Path(public_file)) == keys.read_pair(Path(secret_file)).public


def test_keys_are_never_overwritten(folder: Path) -> None:
    make_client_keys(folder, "ana", read_only=True)
    for again in (
        lambda: make_server_keys(folder),
        lambda: make_client_keys(folder, "ana", read_only=True),
        lambda: make_client_keys(folder, "ana", read_only=False),
    ):
        with pytest.raises(KeysError, match="never overwritten"):
            again()


@pytest.mark.parametrize("name", ["../ana", "a/b", "", ".hidden", "-x"])
def test_a_client_cannot_be_called_after_another_folder(folder: Path, name: str) -> None:
    with pytest.raises(BadRequestError):
        make_client_keys(folder, name, read_only=False)


def test_a_client_needs_a_server(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match="snapserv keygen server"):
        make_client_keys(tmp_path, "ana", read_only=False)


def test_a_secret_key_that_others_can_read_is_refused(folder: Path) -> None:
    secret = folder / "server.key_secret"
    secret.chmod(0o640)
    with pytest.raises(KeysError, match="chmod 600") as caught:
        door_of("tcp://127.0.0.1:*", str(folder))
    assert caught.value.code == "keys"


@pytest.mark.parametrize("content", ["", "nonsense", 'public-key = "short"', 'public-key = "' + "~" * 40 + '"'])
def test_a_file_that_holds_no_key_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.key"
    path.write_text(content)
    with pytest.raises(KeysError, match="is no key file"):
        keys.read_public(path)


def test_a_folder_that_others_may_put_keys_into_is_refused(folder: Path) -> None:
    (folder / "authorized_clients").chmod(0o770)
    with pytest.raises(KeysError, match="others may put keys"):
        AuthorizedClients(folder)


def test_authorized_clients_are_read_again_when_they_change(folder: Path) -> None:
    clients = AuthorizedClients(folder)
    ana = make_client_keys(folder, "ana", read_only=False)
    rob = make_client_keys(folder, "rob", read_only=True)
    found = [clients.find(made.public, now=True) for made in (ana, rob)]
    assert [(each.name, each.read_only) for each in found if each] == [("ana", False), ("rob", True)]
    (folder / "authorized_clients" / "ana.key").rename(folder / "authorized_clients" / "read-only" / "ana.key")
    moved = clients.find(ana.public, now=True)
    assert moved is not None
    assert moved.read_only
    (folder / "authorized_clients" / "read-only" / "ana.key").unlink()
    assert clients.find(ana.public, now=True) is None
    assert clients.find(rob.public, now=True) is not None


def test_a_key_in_both_folders_may_only_read(folder: Path) -> None:
    made = make_client_keys(folder, "ana", read_only=False)
    name = folder / "authorized_clients" / "ana.key"
    (folder / "authorized_clients" / "read-only" / "twin.key").write_bytes(name.read_bytes())
    found = AuthorizedClients(folder).find(made.public)
    assert found is not None
    assert found.read_only


def test_nobody_is_known_when_the_folder_cannot_be_trusted_any_more(folder: Path) -> None:
    made = make_client_keys(folder, "ana", read_only=False)
    clients = AuthorizedClients(folder)
    (folder / "authorized_clients").chmod(0o777)
    assert clients.find(made.public, now=True) is None
    (folder / "authorized_clients").chmod(0o700)
    assert clients.find(made.public, now=True) is not None


@pytest.mark.parametrize(
    ("endpoint", "beyond"),
    [
        ("ipc:///tmp/s.sock", False),
        ("tcp://127.0.0.1:5555", False),
        ("tcp://127.8.0.1:*", False),
        ("tcp://[::1]:5555", False),
        ("tcp://localhost:5555", False),
        ("tcp://0.0.0.0:5555", True),
        ("tcp://*:5555", True),
        ("tcp://[::]:5555", True),
        ("tcp://eth0:5555", True),
        ("tcp://192.168.0.7:*", True),
        ("tcp://127.0.0.1:0;10.0.0.1:5555", True),
    ],
)
def test_loopback_is_told_from_beyond(endpoint: str, beyond: bool) -> None:
    assert keys.beyond_loopback(endpoint) is beyond


def test_which_keys_are_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv(keys.KEYS_VARIABLE, raising=False)
    remote, near, local = "tcp://10.0.0.1:1", "tcp://127.0.0.1:1", "ipc:///tmp/s"
    assert keys.chosen_folder(remote, None) is None
    default = tmp_path / "snapserv" / "keys"
    default.mkdir(parents=True)
    assert [keys.chosen_folder(each, None) for each in (remote, near, local)] == [default, None, None]
    monkeypatch.setenv(keys.KEYS_VARIABLE, "/named")
    named = Path("/named")
    assert [keys.chosen_folder(each, None) for each in (remote, near, local)] == [named, named, None]
    given = Path("/given")
    assert [keys.chosen_folder(each, given) for each in (remote, near, local)] == [given] * 3


def test_beyond_loopback_there_is_no_door_without_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv(keys.KEYS_VARIABLE, raising=False)
    with pytest.raises(KeysError, match=r"snapserv keygen server.*snapserv keygen client NAME"):
        door_of("tcp://0.0.0.0:*", None)
    assert type(door_of("tcp://127.0.0.1:*", None)) is Door


def test_keygen_says_what_it_made_as_json(tmp_path: Path) -> None:
    def run(*arguments: str) -> dict[str, object]:
        command = [sys.executable, "-m", "snapserv", "keygen", *arguments, "--keys", str(tmp_path / "k"), "--json"]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        said: dict[str, object] = json.loads(ran.stdout)
        return said | {"status": ran.returncode}

    made = run("server")
    assert made["status"] == 0
    assert made["files"] == [str(tmp_path / "k" / "server.key_secret"), str(tmp_path / "k" / "server.key")]
    assert run("client", "rob", "--read-only")["files"] == [
        str(tmp_path / "k" / "clients" / "rob" / "client.key_secret"),
        str(tmp_path / "k" / "clients" / "rob" / "server.key"),
        str(tmp_path / "k" / "authorized_clients" / "read-only" / "rob.key"),
    ]
    refused = run("server")
    assert refused["status"] == 2
    assert refused["error"]["code"] == "keys"  # type: ignore[index]
    for wrong in (("client",), ("server", "ana"), ("server", "--read-only")):
        assert run(*wrong)["error"]["code"] == "bad_request"  # type: ignore[index]
