"""Servers that are started by a command: where they are found, how they end, why they do not start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from snapserv_client import connect
from snapserv_client.errors import BadRequestError

from ..conftest import END_WITHIN_S, ROOT, START_WITHIN_S, assert_settles
from .conftest import SNAPSERV, Terminal, Words, typed


@pytest.mark.parametrize("every", ["often", "10sx", "-1", "0s"])
def test_a_server_with_a_rule_that_is_none_does_not_start(alone: Terminal, every: str) -> None:
    error = alone.json("serve", "tests.simulations.trouble:Trouble", f"--autosnap={every}", status=2)["error"]
    assert error["code"] == "bad_request"
    assert "30s" in error["hint"]


def test_serve_says_where_it_is_found_and_ends_cleanly(tmp_path: Path) -> None:
    here = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    words = [
        *SNAPSERV,
        "serve",
        "tests.simulations.walk:Walk",
        "-p",
        "cols=7",
        "--name",
        "mine",
        "--json",
        "--log-json",
    ]
    for number in (signal.SIGINT, signal.SIGTERM):
        with subprocess.Popen(
            words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=here
        ) as serving:
            assert serving.stdout is not None
            ready = json.loads(serving.stdout.readline())
            assert ready["endpoint"] == f"ipc://{tmp_path}/snapserv/mine.sock"
            assert ready["spec"]["param_values"]["cols"] == 7
            with connect(ready["endpoint"]) as server:
                assert server.branch("main").read("position").shape == (7,)
            serving.send_signal(number)
            out, err = serving.communicate(timeout=END_WITHIN_S)
        assert serving.returncode == 0, err
        assert out == ""
        assert [json.loads(line)["event"] for line in err.splitlines()] == ["serving", "stopping", "stopped"]
        assert list((tmp_path / "snapserv").iterdir()) == []


def test_a_server_without_a_name_is_found_without_arguments_and_shut_down(alone: Terminal, tmp_path: Path) -> None:
    words = [*SNAPSERV, "serve", "tests.simulations.walk:Walk"]
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True) as serving:
        assert serving.stderr is not None
        wanted = {"endpoint=ipc://", "try: "}  # in any order: a thread writes the log
        while wanted and (line := serving.stderr.readline()):
            if "endpoint=ipc://" in line:
                assert f"endpoint=ipc://{tmp_path}/snapserv/default.sock " in line
            if line.startswith("try: "):
                assert "snapserv step main 10" in line
            wanted -= {each for each in wanted if each in line}
        assert not wanted
        assert alone.json("status")["hello"]["pid"] == serving.pid
        assert alone.json("shutdown")["shutdown"] == f"ipc://{tmp_path}/snapserv/default.sock"
        serving.stderr.read()
        assert serving.wait(END_WITHIN_S) == 0
    assert alone.type("status") == 3


def test_a_server_ends_with_its_standard_input(tmp_path: Path) -> None:
    words = [*SNAPSERV, "serve", "tests.simulations.walk:Walk", "--exit-with-stdin", "--json", "--quiet"]
    words += ["--endpoint", f"ipc://{tmp_path}/s.sock"]
    with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        assert serving.stdin is not None
        assert json.loads(serving.stdout.readline())["endpoint"] == f"ipc://{tmp_path}/s.sock"
        serving.stdin.close()
        assert serving.wait(END_WITHIN_S) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (("tests.simulations.trouble:Trouble", "--param", "how=raise"), 1, "simulation_error"),
        (("tests.simulations.trouble:Trouble", "--param", "how=segfault"), 1, "node_died"),
        (("tests.simulations.trouble:Trouble", "--param", "how=threads"), 1, "threads_running"),
        (("tests.simulations.trouble:Trouble", "--param", "pages=1099511627776"), 4, "over_budget"),
        (("tests.simulations.trouble:Trouble", "--param", "pages=few"), 2, "bad_request"),
        (("tests.simulations.trouble:Trouble", "--param", "pages"), 2, "bad_request"),
        (("tests.simulations.trouble:Trouble", "--backing", "marble"), 2, "bad_request"),
        (("tests.simulations.trouble:Trouble", "--name", "../up"), 2, "bad_request"),
        (("tests.simulations.trouble:Trouble", "--name", "a", "--endpoint", "ipc:///tmp/b.sock"), 2, "bad_request"),
        (("tests.simulations.trouble:Trouble", "--endpoint", "ipc:///proc/1/s.sock"), 2, "address_unavailable"),
        (("tests.simulations.trouble:Truoble",), 2, "not_found"),
        (("tests.nowhere:Walk",), 2, "not_found"),
        (("Walk",), 2, "bad_request"),
        ((), 2, "bad_request"),
    ],
)
def test_a_server_that_cannot_start_exits_with_why(tmp_path: Path, words: Words, status: int, code: str) -> None:
    here = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    done = typed("serve", *words, "--json", env=here)
    assert done.returncode == status, done.stderr
    assert json.loads(done.stdout)["error"]["code"] == code


def test_a_setup_that_raises_shows_its_traceback_to_the_person_who_typed_serve(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/s.sock"
    done = typed("serve", "tests.simulations.trouble:Trouble", "-p", "how=raise", "-e", endpoint)
    assert done.returncode == 1
    assert done.stdout == ""
    assert 'raise ValueError("told to raise")' in done.stderr
    assert "simulation_error" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_address_in_use_is_refused_and_names_the_way_out(endpoint: str) -> None:
    done = typed("serve", "tests.simulations.walk:Walk", "--endpoint", endpoint)
    assert done.returncode == 2
    assert "address_unavailable" in done.stderr
    assert "--name" in done.stderr
    assert typed("status", "--endpoint", endpoint).returncode == 0


def test_a_server_with_a_name_is_found_by_it(alone: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*SNAPSERV, "serve", "tests.simulations.walk:Walk", "--name", "lab", "--quiet"]
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True) as serving:
        assert_settles(lambda: alone.type("status", "--name", "lab"), 0, within_s=START_WITHIN_S)
        monkeypatch.setenv("SNAPSERV_ENDPOINT", "ipc:///nowhere/s.sock")
        assert alone.json("status", "--name", "lab")["hello"]["pid"] == serving.pid
        assert alone.json("status", status=3)["error"]["code"] == "unreachable"
        with connect(name="lab") as server:
            assert server.hello is not None
            assert server.hello.pid == serving.pid
            endpoint = server.endpoint
        for both in (("--name", "lab", "-e", endpoint), ("-e", endpoint, "--name", "lab")):
            error = alone.json("status", *both, status=2)["error"]
            assert "both say which server is meant" in error["message"]
        with pytest.raises(BadRequestError, match="both say which server"):
            connect(endpoint, name="lab")
        with pytest.raises(BadRequestError, match="cannot be called"):
            connect(name="../lab")
        assert alone.json("shutdown", "--name", "lab") == {"shutdown": endpoint}
        assert serving.wait(END_WITHIN_S) == 0
