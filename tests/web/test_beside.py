"""A page beside a server: it comes with `serve --web` and `demo --web`, and ends with them, however they end."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import pytest

from ..cli.conftest import SNAPSERV, typed
from ..conftest import END_WITHIN_S, ROOT, assert_settles, session_processes

pytest.importorskip("nicegui", reason="the page needs NiceGUI")
ADDRESS = re.compile(r"http://\S+")


def address_in(stream: IO[str]) -> str:
    """Wait until a process tells an address."""
    for line in stream:
        if found := ADDRESS.search(line):
            return found[0]
    raise AssertionError("no address was told")


def status(address: str) -> int | None:
    """Return the status of the page; None where nobody listens."""
    place = urlsplit(address)
    connection = http.client.HTTPConnection(place.netloc, timeout=10)
    try:
        connection.request("GET", f"{place.path or '/'}?{place.query}")
        return connection.getresponse().status
    except ConnectionRefusedError:
        return None
    finally:
        connection.close()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_a_page_beside_a_server_ends_with_it(tmp_path: Path, ending: signal.Signals) -> None:
    words = [*SNAPSERV, "serve", "examples.counter:Counter", "-e", f"ipc://{tmp_path}/s.sock", "--quiet"]
    words += ["--web", "0.0.0.0:0" if ending == signal.SIGTERM else ":0", "--orphan-grace", "0", "--json"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        assert serving.stderr is not None
        assert json.loads(serving.stdout.readline())["endpoint"].endswith("/s.sock")
        address = address_in(serving.stderr)
        if ending == signal.SIGTERM:
            assert "/?token=" in address
            address = address.replace("0.0.0.0", "127.0.0.1")
            assert status(address.partition("?")[0]) == 401
        assert status(address) in (200, 303)
        serving.send_signal(ending)
        serving.wait(END_WITHIN_S)
        assert_settles(lambda: status(address), None)
    assert serving.returncode == (0 if ending == signal.SIGTERM else -signal.SIGKILL)
    assert session_processes(serving.pid) == []


def test_what_a_page_beside_a_server_cannot_be_is_refused(tmp_path: Path) -> None:
    for words, hint in (
        (("--web", "8470"), "write 127.0.0.1:8470"),
        (("--web", ":0", "--keys", "k"), "snapserv web"),
    ):
        refused = typed("serve", "examples.counter:Counter", "-e", f"ipc://{tmp_path}/s.sock", "--json", *words)
        assert refused.returncode == 2
        assert hint in json.loads(refused.stdout)["error"]["hint"]


def test_the_demo_shows_its_fires_in_a_browser(tmp_path: Path) -> None:
    small = ("--rows=64", "--cols=64", "--before=10", "--steps=20", f"--out={tmp_path}/fires.png")
    with subprocess.Popen(
        [*SNAPSERV, "demo", *small, "--web"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as demo:
        assert demo.stderr is not None
        address = address_in(demo.stderr)
        assert status(address) == 200
        demo.send_signal(signal.SIGINT)
        _, said = demo.communicate(timeout=END_WITHIN_S)
        assert demo.returncode == 0, said
        assert_settles(lambda: status(address), None)
