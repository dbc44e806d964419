"""Commands and what they print: one JSON document each, or something for people."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from snapserv_client import Server
from snapserv_client.cli.output import plain

import snapserv
from snapserv.cli.app import app, run

from ..conftest import ROOT, START_WITHIN_S, ServerProcess, assert_settles
from .conftest import SNAPSERV, USES, Terminal

Serve = Callable[..., ServerProcess]
COMMANDS = sorted(app.commands)
GROUPS = {name: sorted(app.commands[name].commands) for name in ("store", "cluster")}  # type: ignore[attr-defined]
SINGLE = [
    *sorted({*COMMANDS} - {*GROUPS}),
    *(f"{group} {word}" for group, words in GROUPS.items() for word in words),
]
ELSEWHERE = {
    *(
        "ps",
        "completion",
        "create",
        "keygen",
        "lab",
        "serve",
        "demo",
        "watch",
        "web",
        "shutdown",
        "doctor",
        "mark",
        "rewind",
        "replay",
    ),
    *("save", "load", "stored", "store", "export", "plot", "cluster"),
}
"""Commands that have tests of their own: they do more than the next test's server could forget."""


def test_an_expansion_has_failed_where_every_child_has(terminal: Terminal) -> None:
    one, other = terminal.json("expand", "main", '{"drift": 1}', '{"drift": "far"}')
    assert (one["ok"], other["error"]["code"]) == (True, "bad_request")
    assert terminal.json("expand", "main", '{"drift": "far"}', status=2)[0]["ok"] is False
    assert terminal.type("expand", "main", '{"drift": "far"}') == 2
    assert "bad_request" in terminal.out


def test_it_says_which_version_it_is(alone: Terminal) -> None:
    assert alone.type("--version") == 0
    assert alone.out == f"snapserv {snapserv.__version__}\n"


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


@pytest.mark.parametrize("command", SINGLE)
def test_every_command_has_help_and_takes_json(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command.split(), "--help"]) == 0
    assert "--json" in capsys.readouterr().out


def test_commands_do_to_the_server_what_they_say(terminal: Terminal, server: Server) -> None:
    assert terminal.json("step", "main", "3", "--input", "drift=10")["step"] == 5
    assert terminal.json("snapshot", "main", "five")["node"]["step"] == 5
    assert [node["name"] for node in terminal.json("branch", "five", "left", "right")] == ["left", "right"]
    assert len(terminal.json("branch", "five", "--count", "3", "--rng", "split")) == 3
    assert terminal.json("diff", "left", "right")["same"] is True
    assert terminal.json("step", "left")["step"] == 6
    counts = terminal.json("diff", "left", "right", "--field", "count", status=1)
    assert (counts["fields"][0]["changed"], counts["fields"][0]["largest"], counts["different"]) == (1, 1, True)
    assert terminal.json("diff", "left", status=1)["b"] == "five", "its parent"
    terminal.type("diff", "left")
    assert "steps differ: 6 and 5" in terminal.out
    assert "left → five, its parent" in terminal.out
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
