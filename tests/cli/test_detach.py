"""``serve --detach``: it returns when the server answers, and fails as ``serve`` does where there will be none."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from snapserv_client import connect

from snapserv.cli.detach import log_file

from .conftest import Words, typed

COUNTER = "snapserv.examples.counter:Counter"
DOOMED = """
import os, signal
from snapserv import Simulation

class Doomed(Simulation):
    def setup(self):
        print("the last words", flush=True)
        os.kill(os.getppid(), signal.SIGKILL)
    def step(self, inputs):
        pass
"""


@pytest.fixture
def here(short_path: Path) -> Iterator[dict[str, str]]:
    """Where a user's sockets and logs are; servers that are left there end with the test."""
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(short_path), "XDG_STATE_HOME": str(short_path / "state")}
    environment.pop("SNAPSERV_ENDPOINT", None)
    yield environment
    for path in short_path.glob("snapserv/*.sock"):
        typed("shutdown", "--yes", "--endpoint", f"ipc://{path}", env=environment)


def test_a_detached_server_answers_when_the_command_returns_and_says_where_it_is(here: dict[str, str]) -> None:
    words = (COUNTER, "--name", "mine", "--atomic", "--log-json", "--detach", "--json")
    found = json.loads(typed("serve", *words, env=here).stdout)
    assert found["endpoint"] == f"ipc://{here['XDG_RUNTIME_DIR']}/snapserv/mine.sock"
    assert found["log"] == f"{here['XDG_STATE_HOME']}/snapserv/mine.log"
    with connect(found["endpoint"]) as server:
        assert server.branch("main").step(3).outputs == {"count": 3}
        assert server.hello is not None
        assert server.hello.pid == found["pid"]
        assert server.atomic
    assert os.getsid(found["pid"]) == found["pid"], "the terminal's end is not its own"
    assert os.readlink(f"/proc/{found['pid']}/fd/0") == "/dev/null"
    assert typed("shutdown", "--yes", "--endpoint", found["endpoint"], env=here).returncode == 0
    lines = Path(found["log"]).read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["serving", "stopping", "stopped"]


def test_people_are_told_the_same_and_the_next_log_is_appended(here: dict[str, str]) -> None:
    for run in (1, 2):
        done = typed("serve", COUNTER, "--detach", env={**here, "COLUMNS": "200"})
        log = f"{here['XDG_STATE_HOME']}/snapserv/default.log"
        assert all(said in done.stdout for said in ("default.sock", "pid", log)), done.stderr
        assert typed("shutdown", "--yes", env=here).returncode == 0
        assert Path(log).read_text().count("stopped") == run


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (("tests.simulations.trouble:Trouble", "--param", "how=raise"), 1, "simulation_error"),
        (("tests.simulations.trouble:Trouble", "--param", "pages"), 2, "bad_request"),
        (("tests.simulations.trouble:Truoble",), 2, "not_found"),
    ],
)
def test_a_detached_server_that_cannot_start_exits_with_why(
    here: dict[str, str], words: Words, status: int, code: str
) -> None:
    done = typed("serve", *words, "--detach", "--json", env=here)
    assert done.returncode == status, done.stderr
    assert json.loads(done.stdout)["error"]["code"] == code


def test_a_server_that_ends_without_a_word_is_an_error_with_its_log(here: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "doomed.py").write_text(DOOMED)
    done = typed("serve", f"{tmp_path}/doomed.py:Doomed", "--orphan-grace", "0", "--detach", env=here)
    assert done.returncode == 5
    assert "ended with status -9" in done.stderr
    assert "the last words" in done.stderr
    assert f"{here['XDG_STATE_HOME']}/snapserv/default.log" in done.stderr


def test_a_log_that_cannot_be_written_is_refused(here: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = typed("serve", COUNTER, "--detach", env={**here, "XDG_STATE_HOME": str(tmp_path / "file")})
    assert done.returncode == 2
    assert "XDG_STATE_HOME" in done.stderr


def test_a_log_is_called_after_where_its_server_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert log_file("ipc:///run/user/1000/snapserv/default.sock") == Path("/state/snapserv/default.log")
    assert log_file("tcp://127.0.0.1:5555") == Path("/state/snapserv/127.0.0.1-5555.log")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/ana")
    assert log_file("tcp://[::1]:5555") == Path("/home/ana/.local/state/snapserv/1-5555.log")
