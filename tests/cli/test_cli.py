"""The command line: one JSON document a command, errors with their exit codes, servers started and found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from snapserv_client import Server, connect

from snapserv.cli import doctor as doctor_command
from snapserv.cli.app import app, run
from snapserv.cli.output import EXIT_CODES, exit_code, plain
from snapserv.errors import ERRORS

from ..conftest import END_WITHIN_S, ROOT, START_WITHIN_S, ServerProcess, assert_settles

Serve = Callable[..., ServerProcess]
Words = tuple[str, ...]
SNAPSERV = (sys.executable, "-m", "snapserv")
COMMANDS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


class Terminal:
    """Commands typed in this process at one server, and what they print."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture
        self.out = ""
        self.err = ""

    def type(self, *words: str) -> int:
        """Run a command and return its exit code."""
        self._capture.readouterr()
        status = run(list(words))
        self.out, self.err = self._capture.readouterr()
        return status

    def json(self, *words: str, status: int = 0) -> Any:
        """Run a command with ``--json`` and return its one document."""
        assert self.type(*words, "--json") == status, (words, self.out, self.err)
        return json.loads(self.out)


@pytest.fixture
def terminal(server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    """A terminal at a server of `tests.simulations.walk.Walk` with `main` and the snapshot `s` at step 2."""
    monkeypatch.setenv("SNAPSERV_ENDPOINT", server.endpoint)
    main = server.branch("main")
    main.step(2)
    main.snapshot("s")
    return Terminal(capsys)


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    """A terminal where no server is."""
    monkeypatch.delenv("SNAPSERV_ENDPOINT", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return Terminal(capsys)


def typed(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    return subprocess.run(
        [*SNAPSERV, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=START_WITHIN_S,
        check=False,
        **options,
    )


# ------------------------------------------------------------------------------------------ verbs and their output

USES: dict[str, Words] = {
    "autosnap": ("main", "--every-steps", "100"),
    "branch": ("s", "left", "right"),
    "call": ("main", "total"),
    "clear": ("main",),
    "diff": ("main", "s"),
    "drop": ("s",),
    "expand": ("main", '{"drift": 1}', '[{"drift": 2}, {"drift": 3}]', "--sum", "mean", "--keep", "1:mean"),
    "interrupt": ("main",),
    "log": ("main",),
    "pages": ("main", "s"),
    "pin": ("s",),
    "read": ("main", "position"),
    "reset": ("main",),
    "restore": ("main", "s"),
    "snapshot": ("main",),
    "spec": (),
    "status": (),
    "step": ("main", "3"),
    "tag": ("s", "golden"),
    "top": ("--once", "--interval", "0.1"),
    "tree": ("--sizes",),
    "verify": ("main",),
    "write": ("main", "count", "7"),
}
ELSEWHERE = {"create", "keygen", "lab", "serve", "demo", "watch", "shutdown", "doctor", "mark", "rewind", "replay"}
"""Commands that have tests of their own: they do more than the next test's server could forget."""


def test_an_expansion_has_failed_where_every_child_has(terminal: Terminal) -> None:
    one, other = terminal.json("expand", "main", '{"drift": 1}', '{"drift": "far"}')
    assert (one["ok"], other["error"]["code"]) == (True, "bad_request")
    assert terminal.json("expand", "main", '{"drift": "far"}', status=2)[0]["ok"] is False
    assert terminal.type("expand", "main", '{"drift": "far"}') == 2
    assert "bad_request" in terminal.out


def test_every_command_is_used_by_these_tests() -> None:
    assert {*USES, *ELSEWHERE} == set(COMMANDS)


@pytest.mark.parametrize("command", USES)
def test_a_command_prints_one_json_document_and_nothing_else(terminal: Terminal, command: str) -> None:
    terminal.json(command, *USES[command])
    assert terminal.err == ""


@pytest.mark.parametrize("command", USES)
def test_a_command_prints_something_for_people_and_nothing_on_stderr(terminal: Terminal, command: str) -> None:
    assert terminal.type(command, *USES[command]) == 0
    assert terminal.out.strip()
    assert terminal.err == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_takes_json(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    assert "--json" in capsys.readouterr().out


def test_commands_do_to_the_server_what_they_say(terminal: Terminal, server: Server) -> None:
    assert terminal.json("step", "main", "3", "--input", "drift=10")["step"] == 5
    assert terminal.json("snapshot", "main", "five")["node"]["step"] == 5
    assert [node["name"] for node in terminal.json("branch", "five", "left", "right")] == ["left", "right"]
    assert len(terminal.json("branch", "five", "--count", "3", "--rng", "split")) == 3
    assert terminal.json("diff", "left", "right")["same"] is True
    assert terminal.json("step", "left")["step"] == 6
    assert terminal.json("diff", "left", "right", "--field", "count")["fields"][0]["changed"] == 1
    assert terminal.json("tag", "five", "golden")["tags"] == ["golden"]
    assert terminal.json("tag", "five", "golden", "--remove")["tags"] == []
    assert terminal.json("pin", "five")["pinned"] is True
    assert terminal.json("drop", "five", status=2)["error"]["message"] == "five is pinned"
    assert terminal.json("pin", "five", "--unpin")["pinned"] is False
    assert [node["name"] for node in terminal.json("log", "left")] == ["root", "s", "five", "left"]
    assert terminal.json("restore", "left", "s")["step"] == 2
    assert terminal.json("reset", "left")["step"] == 0
    assert terminal.json("drop", "left", "right")["dropped"] == ["left", "right"]
    names = {node["name"] for node in terminal.json("tree")["nodes"]}
    assert names == {node.name for node in server.tree()}
    assert terminal.json("call", "main", "past")["value"] == [1, 2, 3, 4, 5]
    assert terminal.json("interrupt", "main") == {"interrupted": False}


def test_a_branch_count_of_zero_is_refused_rather_than_made_one(terminal: Terminal) -> None:
    assert terminal.json("branch", "s", "--count", "0", status=2)["error"]["code"] == "bad_request"


@pytest.mark.parametrize("value", ["-5", "-1e2", "-0.5", "12"])
def test_a_negative_number_is_a_value_and_no_option(terminal: Terminal, server: Server, value: str) -> None:
    wanted = json.loads(value)
    terminal.json("write", "main", "position", value, "--region", "0:3")
    assert server.branch("main").read("position", (slice(0, 3),)).tolist() == [wanted] * 3
    assert terminal.json("call", "main", "echo", value)["value"] == wanted


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ('"a=b"', "a=b"),
        ('{"k": "x=y"}', {"k": "x=y"}),
        ("value=[1, 2]", [1, 2]),
        ("plain", "plain"),
        ("null", None),
    ],
)
def test_an_argument_of_call_is_json_and_a_keyword_only_where_it_begins_with_a_name(
    terminal: Terminal, word: str, value: Any
) -> None:
    assert terminal.json("call", "main", "echo", word)["value"] == value


@pytest.mark.parametrize("text", ["[red]warm[/red]", "[nan nan]", "[/]", ":fire:", "a\\[b]"])
def test_what_a_simulation_returns_is_printed_as_it_is(terminal: Terminal, text: str) -> None:
    assert terminal.type("call", "main", "echo", json.dumps(text)) == 0
    assert terminal.out == text + "\n"


def test_a_corner_of_numbers_that_are_none_is_printed_as_it_is(terminal: Terminal, server: Server) -> None:
    server.branch("main").write("position", np.nan)
    assert terminal.type("read", "main", "position", "--region", "0:2") == 0
    assert "[nan nan]" in terminal.out


def test_read_gives_a_summary_and_the_values_of_a_region(terminal: Terminal, server: Server) -> None:
    server.branch("main").write("position", np.arange(1000.0))
    small = terminal.json("read", "main", "position", "--region", "2:10:4")
    assert (small["dtype"], small["shape"], small["values"]) == ("float64", [2], [2.0, 6.0])
    assert (small["min"], small["max"], small["mean"]) == (2.0, 6.0, 4.0)
    assert terminal.json("read", "main", "position", "--region", "-1")["values"] == 999.0


def test_create_makes_another_tree_and_read_only_sums_up_its_large_field(
    serve: Serve, alone: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNAPSERV_ENDPOINT", serve("tests.simulations.walk:Walk").endpoint)
    assert alone.json("create", "wide", "--param", "cols=10001")["name"] == "wide/main"
    assert alone.type("create") == 0
    assert [tree["name"] for tree in alone.json("tree")["trees"]] == ["default", "wide", "t3"]
    assert {node["tree"] for node in alone.json("tree", "wide")["nodes"]} == {"wide"}
    large = alone.json("read", "wide/main", "position")
    assert large["shape"] == [10001]
    assert "values" not in large
    assert (large["min"], large["max"], large["mean"]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("name", ["saved.npy", "saved"])
def test_a_field_is_saved_under_the_very_name_asked_for_and_written_back(
    terminal: Terminal, server: Server, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    terminal.json("read", "s", "position", "--npy", str(path))
    assert [each.name for each in tmp_path.iterdir()] == [name]
    assert np.array_equal(np.load(path), server.snapshot("s").read("position"))
    terminal.json("reset", "main")
    terminal.json("write", "main", "position", f"@{path}")
    assert server.diff("main", "s")["position"].changed == 0


def test_a_two_dimensional_field_is_saved_as_a_picture(
    serve: Serve, alone: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("SNAPSERV_ENDPOINT", serve("tests.simulations.trouble:Trouble").endpoint)
    path = tmp_path / "pages.png"
    assert alone.json("read", "main", "pages", "--png", str(path))["png"] == str(path)
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "dtype", ["?", "i1", "u8", "f2", "f8", "g", "F", "G", "M8[D]", "m8[s]", "S3", "U3", "i4,f4"]
)
def test_values_of_every_dtype_become_json(dtype: str) -> None:
    described = json.loads(json.dumps(plain(np.zeros(2, dtype)), allow_nan=False))
    assert len(described["values"]) == 2


def test_numbers_that_json_has_not_become_text() -> None:
    assert plain(np.array([np.nan, np.inf, 1.0]))["values"] == ["nan", "inf", 1.0]


def test_watch_prints_one_json_document_a_line(server: Server) -> None:
    words = [*SNAPSERV, "watch", "--count", "3", "--json", "--endpoint", server.endpoint]
    main = server.branch("main")
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as watching:

        def ended() -> bool:  # it says nothing when it has subscribed, so things happen until it has seen enough
            main.tag("seen")
            main.tag("seen", remove=True)
            return watching.poll() is not None

        assert_settles(ended, True, within_s=START_WITHIN_S)
        assert watching.stdout is not None
        events = [json.loads(line) for line in watching.stdout]
        assert watching.returncode == 0
    assert [event["kind"] for event in events] == ["tagged"] * 3
    assert [event["sequence"] for event in events] == list(range(events[0]["sequence"], events[0]["sequence"] + 3))


def test_doctor_says_what_there_is_and_which_backing_is_used(alone: Terminal) -> None:
    found = alone.json("doctor")
    assert found["runs"] is True
    assert found["backing"] in ("huge_tmpfs", "memfd", "anonymous_thp", "anonymous")
    looked_at = {finding["what"] for finding in found["findings"]}
    assert {
        "kernel",
        "fork",
        "PAGEMAP_SCAN",
        "reading snapshots",
        "pidfd",
        "overcommit",
        "processes",
        "user namespaces",
        "shared memory",
        "page monitoring",
    } <= looked_at
    assert all(finding["improve"] for finding in found["findings"] if finding["verdict"] == "missing")
    assert alone.type("doctor") == 0
    assert "PAGEMAP_SCAN" in alone.out


def test_doctor_exits_with_4_where_the_sockets_folder_cannot_be_made(alone: Terminal, tmp_path: Path) -> None:
    (tmp_path / "snapserv").write_text("a file where a folder belongs")
    found = alone.json("doctor", status=4)
    assert found["runs"] is False
    (folder,) = (finding for finding in found["findings"] if finding["what"] == "socket folder")
    assert folder["verdict"] == "missing"


# ------------------------------------------------------------------------------------------- errors and exit codes


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
        (("read", "main", "position", "--png", "x.png"), 2, "bad_request", "two dimensions"),
        (("step", "s"), 2, "frozen", "s is a snapshot"),
        (("write", "s", "count", "1"), 2, "frozen", "s is a snapshot"),
        (("restore", "main", "main"), 2, "bad_request", "live branch"),
        (("snapshot", "main", "s"), 2, "name_taken", "s"),
        (("step", "main", "0"), 2, "bad_request", "ticks"),
        (("step", "main", "--input", "drift"), 2, "bad_request", "NAME=VALUE"),
        (("step", "main", "--input", "drift=1", "--input", "drift=2"), 2, "bad_request", "twice"),
        (("step", "main", "--input", "drfit=1"), 2, "bad_request", "did you mean 'drift'"),
        (("branch", "s", "--rng", "other"), 2, "bad_request", "other"),
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
    assert alone.json("step", "main", "-e", endpoint, status=1)["error"]["code"] == "faulted"
    assert alone.json("clear", "main", "-e", endpoint)["state"] == "idle"
    crash = ("step", "main", "5", "-i", "how=segfault", "-i", "at=4", "-e", endpoint)
    error = alone.json(*crash, "--atomic", status=1)["error"]
    assert (error["code"], error["details"]["rolled_back_to"]) == ("node_died", 2)
    error = alone.json(*crash, status=1)["error"]
    assert error["code"] == "node_died"


def test_automatic_snapshots_are_asked_for_and_ended(serve: Serve, alone: Terminal) -> None:
    endpoint = serve("tests.simulations.trouble:Trouble").endpoint
    assert alone.json("autosnap", "main", "-e", endpoint)["autosnap"] is None
    rule = alone.json("autosnap", "main", "--every-steps", "5", "--keep", "2", "-e", endpoint)["autosnap"]
    assert rule == {"every_steps": 5, "every_s": None, "keep": 2, "error": ""}
    alone.json("step", "main", "12", "-e", endpoint)
    listed = [node["name"] for node in alone.json("tree", "-e", endpoint)["nodes"] if node["automatic"]]
    assert listed == ["auto-5", "auto-10"]
    assert alone.type("autosnap", "main", "-e", endpoint) == 0
    assert "every 5 steps, 2 of them stay" in alone.out
    assert alone.json("autosnap", "main", "--off", "-e", endpoint)["autosnap"] is None
    error = alone.json("autosnap", "main", "--off", "--every-s", "3", "-e", endpoint, status=2)["error"]
    assert error["code"] == "bad_request"


@pytest.mark.parametrize("every", ["often", "10sx", "-1", "0s"])
def test_a_server_with_a_rule_that_is_none_does_not_start(alone: Terminal, every: str) -> None:
    error = alone.json("serve", "tests.simulations.trouble:Trouble", f"--autosnap={every}", status=2)["error"]
    assert error["code"] == "bad_request"
    assert "30s" in error["hint"]


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


# --------------------------------------------------------------------------------------------------------- serving


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


def test_mark_and_rewind(serve: Callable[..., ServerProcess], alone: Terminal) -> None:
    where = ("--endpoint", serve("tests.simulations.rewinding:Rewindable").endpoint)
    assert alone.json("step", "main", "4", *where)["step"] == 4
    assert alone.json("mark", "main", *where)["step"] == 4
    alone.json("step", "main", "9", *where)
    gone = alone.json("rewind", "main", *where)
    assert gone["step"] == 4
    assert gone["pages"] > 0
    assert alone.type("rewind", "main", *where) == 0
    assert "step 4" in alone.out
    assert alone.type("mark", "main", "--remove", *where) == 0
    assert "no mark" in alone.out


def test_lab_measures_every_figure(alone: Terminal, tmp_path: Path) -> None:
    found = alone.json("lab", "--size", "256KiB", "--mechanism", "copy", "--plots", str(tmp_path))
    (row,) = found["rows"]
    assert row["bytes"] == 256 << 10
    assert [each["fraction"] for each in row["snapshots"]] == [0.001, 0.1, 1.0]
    for key in ("pause_ms", "first_write_us", "second_write_us", "read_gib_per_s"):
        assert row[key] > 0
    assert [each["snapshots"] for each in row["memory"]] == [1, 10, 100]
    assert row["copy"]["ms"] > 0
    assert row["shared"] in (0, None)
    assert found["machine"]["kernel"]
    assert {Path(plot).name for plot in found["plots"]} == {path.name for path in tmp_path.iterdir()}
    assert len(found["plots"]) == 6
    assert alone.json("lab", "--size", "none", status=2)["error"]["code"] == "bad_request"
    assert "copy" in alone.json("lab", "--mechanism", "magic", status=2)["error"]["hint"]
