"""Another machine, nearly: a network namespace, from which keys decide."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from snapserv.server.keymaking import make_client_keys, make_server_keys

from ..conftest import ServerProcess, assert_settles, start_server
from .conftest import ANSWER_WITHIN_MS, SILENT_FOR_MS, Keyed, forge

Serve = Callable[..., ServerProcess]


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
        "import sys, pathlib; from tests.server.conftest import dealer; from snapserv_client import requests\n"
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
