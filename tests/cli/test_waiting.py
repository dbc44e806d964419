"""A command says on stderr that it waits for a server, and says at once where none will ever answer."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from ..conftest import END_WITHIN_S, ROOT, ServerProcess
from .conftest import SNAPSERV, Terminal

Serve = Callable[..., ServerProcess]


def test_a_command_says_that_it_waits_and_goes_on_when_the_server_does(serve: Serve) -> None:
    server = serve("tests.simulations.walk:Walk")
    os.kill(server.pid, signal.SIGSTOP)
    words = [*SNAPSERV, "tree", "--json", "-e", server.endpoint]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stderr is not None
        said = waiting.stderr.readline()
        assert waiting.poll() is None
        os.kill(server.pid, signal.SIGCONT)
        out, err = waiting.communicate(timeout=END_WITHIN_S)
    assert said.startswith(f"no answer from {server.endpoint} for 2 s: ")
    for part in ("goes on waiting, for up to 28 s", "snapserv status", "Ctrl-C gives up"):
        assert part in said
    assert (waiting.returncode, err) == (0, "")
    assert [node["name"] for node in json.loads(out)["nodes"]] == ["root", "main"]


def test_a_command_that_is_told_to_give_up_does(serve: Serve) -> None:
    server = serve("tests.simulations.walk:Walk")
    os.kill(server.pid, signal.SIGSTOP)
    words = [*SNAPSERV, "status", "-e", server.endpoint]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stderr is not None
        assert "goes on waiting" in waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        _, err = waiting.communicate(timeout=END_WITHIN_S)
    os.kill(server.pid, signal.SIGCONT)
    assert waiting.returncode == 130
    assert "stopped by Ctrl-C" in err


def test_where_a_server_has_ended_nothing_is_waited_for(alone: Terminal, short_path: Path) -> None:
    endpoint = f"ipc://{short_path}/s.sock"
    with socket.socket(socket.AF_UNIX) as ended:
        ended.bind(endpoint.removeprefix("ipc://"))
    began = time.monotonic()
    error = alone.json("tree", "-e", endpoint, status=3)["error"]
    assert time.monotonic() - began < 1.0, "at once"
    assert "a server was here, and has ended" in error["message"]
    assert "snapserv serve" in error["hint"]
