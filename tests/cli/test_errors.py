"""Errors and exit codes: JSON on standard output or text on standard error, and the code of its kind."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from snapserv_client import Server
from snapserv_client.cli.output import EXIT_CODES, exit_code

from snapserv.cli import doctor as doctor_command
from snapserv.errors import ERRORS

from ..conftest import END_WITHIN_S, ROOT, START_WITHIN_S, ServerProcess, assert_settles
from .conftest import SNAPSERV, USES, Terminal, Words

Serve = Callable[..., ServerProcess]


def test_every_error_has_the_exit_code_of_its_kind() -> None:
    codes = {code: exit_code(kind("text")) for code, kind in ERRORS.items()}
    assert set(codes.values()) == set(EXIT_CODES.values())
    for code, status in {
        "simulation_error": 1, "node_died": 1, "threads_running": 1, "bad_request": 2, "not_found": 2, "frozen": 2,
        "address_unavailable": 2, "unreachable": 3, "timeout": 3, "over_budget": 4, "unsupported": 4, "internal": 5,
    }.items():  # fmt: skip
        assert codes[code] == status, code


@pytest.mark.parametrize(
    ("words", "status", "code", "says"),
    [
        (("read", "nobody", "position"), 2, "not_found", "no node 'nobody'"),
        (("read", "main", "postion"), 2, "not_found", "postion"),
        (("read", "main", "position", "--region", "0:q"), 2, "bad_request", "0:q"),
        (("read", "main", "position", "--region", "5000"), 2, "bad_request", "-1000 to 999"),
        (("read", "main", "position", "--npy", "/nowhere/x.npy"), 2, "bad_request", "/nowhere/x.npy"),
        (("read", "main", "count", "--png", "x.png"), 2, "bad_request", "two dimensions"),
        (("read", "main", "position", "--png", "/proc/x.png"), 2, "bad_request", "/proc/x.png"),
        (("read", "main", "position", "--png", "x.png", "--limits", "3"), 2, "bad_request", "LOW:HIGH"),
        (("step", "main", "--field", "position"), 2, "bad_request", "--gif"),
        (("step", "main", "--gif", "x.gif", "--atomic"), 2, "bad_request", "several steps"),
        (("step", "s"), 2, "frozen", "s is a snapshot"),
        (("write", "s", "count", "1"), 2, "frozen", "s is a snapshot"),
        (("restore", "main", "main"), 2, "bad_request", "live branch"),
        (("snapshot", "main", "s"), 2, "name_taken", "s"),
        (("step", "main", "0"), 2, "bad_request", "ticks"),
        (("step", "main", "--input", "drift"), 2, "bad_request", "NAME=VALUE"),
        (("step", "main", "--input", "drift=1", "--input", "drift=2"), 2, "bad_request", "twice"),
        (("step", "main", "--input", "drfit=1"), 2, "bad_request", "did you mean 'drift'"),
        (("branch", "s", "--rng", "other"), 2, "bad_request", "other"),
        (("diff", "root"), 2, "bad_request", "root has no parent to compare it with name another node"),
        (("write", "main", "count", "2.5"), 2, "bad_request", "int64"),
        (("write", "main", "position", "@/nowhere.npy"), 2, "bad_request", "/nowhere.npy"),
        (("create", "--param", "name=x"), 2, "bad_request", "'name'"),
        (("create", "--param", "cols=many"), 2, "bad_request", "cols"),
        (("create", "--simulation", "Walked"), 2, "not_found", "Walk"),
        (("call", "main", "echo", "method=1"), 2, "bad_request", "'method'"),
        (("call", "main", "total", "1"), 2, "bad_request", "too many positional"),
        (("status", "--endpoint", "nonsense"), 2, "bad_request", "nonsense"),
        (("step", "main", "--bogus"), 2, "bad_request", "--bogus"),
        (("step", "main", "many"), 2, "bad_request", "integer"),
        (("step",), 2, "bad_request", "BRANCH"),
        (("stpe", "main"), 2, "bad_request", "stpe"),
    ],
)
def test_an_error_is_json_on_stdout_or_text_on_stderr_and_its_exit_code(
    terminal: Terminal, words: Words, status: int, code: str, says: str
) -> None:
    error = terminal.json(*words, status=status)["error"]
    assert error["code"] == code
    assert says in f"{error['message']} {error['hint']}"
    assert terminal.err == ""
    assert terminal.type(*words) == status
    assert terminal.out == ""
    assert terminal.err.strip()


@pytest.mark.parametrize(("written", "says"), [(b"", "No data"), (b"text", "pickle"), (None, "several arrays")])
def test_a_file_that_is_no_array_is_refused(
    terminal: Terminal, tmp_path: Path, written: bytes | None, says: str
) -> None:
    path = tmp_path / "x.npy"
    if written is None:
        with path.open("wb") as file:
            np.savez(file, a=np.zeros(3))
    else:
        path.write_bytes(written)
    error = terminal.json("write", "main", "position", f"@{path}", status=2)["error"]
    assert error["code"] == "bad_request"
    assert says in error["message"]


def test_a_simulation_that_raises_shows_its_traceback(serve: Serve, alone: Terminal) -> None:
    endpoint = serve("tests.simulations.trouble:Trouble").endpoint
    assert alone.type("step", "main", "5", "-i", "how=raise", "-i", "at=3", "-e", endpoint) == 1
    assert "Traceback" in alone.err
    assert "told to raise" in alone.err
    first, source = alone.err.splitlines()[1:3]
    assert first.lstrip().startswith(f'File "{ROOT}/tests/simulations/trouble.py", line '), (
        "the author's own frames"
    )
    assert source.strip() == "self.fail(inputs.how)"
    assert f"{ROOT}/snapserv" not in alone.err
    assert alone.json("step", "main", "-e", endpoint, status=1)["error"]["code"] == "faulted"
    assert alone.json("clear", "main", "-e", endpoint)["state"] == "idle"
    crash = ("step", "main", "5", "-i", "how=segfault", "-i", "at=4", "-e", endpoint)
    error = alone.json(*crash, "--atomic", status=1)["error"]
    assert (error["code"], error["details"]["rolled_back_to"]) == ("node_died", 2)
    error = alone.json(*crash, status=1)["error"]
    assert error["code"] == "node_died"


def test_a_mistake_of_ours_exits_with_5_and_is_json_too(alone: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> None:
        raise RuntimeError("a fault put in by the test")

    monkeypatch.setattr(doctor_command, "failing", fail)
    error = alone.json("doctor", status=5)["error"]
    assert error["code"] == "internal"
    assert "a fault put in by the test" in error["message"]
    assert "in fail" in error["details"]["traceback"]
    assert alone.type("doctor") == 5
    assert "Traceback" in alone.err


@pytest.mark.parametrize("words", [(command, *words) for command, words in USES.items()])
def test_where_no_server_is_a_command_exits_with_3_and_says_how_to_start_one(alone: Terminal, words: Words) -> None:
    error = alone.json(*words, status=3)["error"]
    assert error["code"] == "unreachable"
    assert "snapserv serve" in error["hint"]


def test_ctrl_c_stops_a_step_between_two_ticks_and_says_where_the_branch_stands(server: Server) -> None:
    words = [*SNAPSERV, "step", "main", str(10**9), "--json", "--endpoint", server.endpoint]
    main = server.branch("main")
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as stepping:
        assert_settles(lambda: main.info().state, "busy", within_s=START_WITHIN_S)
        stepping.send_signal(signal.SIGINT)
        out, err = stepping.communicate(timeout=END_WITHIN_S)
    assert stepping.returncode == 130
    assert err == ""
    error = json.loads(out)["error"]
    assert error["code"] == "interrupted"
    assert main.info().state == "idle"
    assert main.info().step == error["details"]["step"] == int(main.read("count"))
