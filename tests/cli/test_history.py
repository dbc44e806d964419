"""Histories for people: commands that list, replay and verify, and how actions and verdicts look."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from snapserv_client import Server
from snapserv_client.display import ago

from snapserv.cli.app import run

from .conftest import Terminal


def test_the_command_line_lists_replays_and_verifies(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("SNAPSERV_ENDPOINT", server.endpoint)
    main = server.branch("main")
    main.step(3, drift=2.0)
    main.write("position", np.arange(4.0), (slice(0, 4),))

    def typed(*words: str, status: int = 0) -> str:
        capsys.readouterr()
        assert run(list(words)) == status
        return capsys.readouterr().out

    listed = typed("log", "main", "--actions", "--json")
    assert [action["kind"] for action in json.loads(listed)] == ["step", "write"]
    assert "step(3, drift=2.0)" in typed("log", "main", "--actions")
    file = tmp_path / "actions.json"
    file.write_text(listed)
    assert json.loads(typed("replay", str(file), "--as", "again", "--json"))["step"] == 3
    assert server.diff("main", "again").same
    assert json.loads(typed("verify", "again", "--json"))["ok"] is True
    assert "verified" in typed("verify", "main")
    saved = tmp_path / "saved.json"
    main.write("position", np.zeros(1000))
    told = json.loads(typed("log", "main", "--save", str(saved), "--json"))
    assert (told["actions"], told["ticks"]) == (3, 3)
    assert "wrote 3 actions of main" in typed("log", "main", "--save", str(saved))
    assert json.loads(typed("replay", str(saved), "--as", "from-file", "--json"))["step"] == 3
    assert server.diff("main", "from-file").same
    other = json.loads(saved.read_text())
    other["recording"]["params"]["cols"] = "7"
    saved.write_text(json.dumps(other))
    refused = json.loads(typed("replay", str(saved), "--json", status=2))["error"]
    assert (refused["code"], refused["details"]["differs"]) == ("recording_mismatch", ["params.cols"])
    assert json.loads(typed("replay", str(saved), "--force", "--json"))["step"] == 3
    assert "cannot write" in typed("log", "main", "--save", str(tmp_path / "no" / "where"), "--json", status=2)
    file.write_text("{}")
    assert "no list of actions" in typed("replay", str(file), "--json", status=2)
    assert "no JSON" in typed("replay", __file__, "--json", status=2)
    assert "cannot read" in typed("replay", str(tmp_path / "none"), "--json", status=2)


def test_actions_and_verdicts_say_what_they_are(server: Server) -> None:
    main = server.branch("main")
    main.step(3, drift=2.0)
    main.call("echo", np.zeros(10))
    looks = str(main.actions())
    assert "main · 2 actions · 3 ticks" in looks
    assert "call(echo, <float64 [10]>)" in looks
    assert "<table>" in main.verify()._repr_html_()
    assert main.actions()[0] == main.actions()[:1][0]
    assert msgspec.to_builtins(main.actions()[0])["kind"] == "step"


def test_what_is_said_of_a_snapshot_is_shown_with_when_it_was_taken(terminal: Terminal, server: Server) -> None:
    message = "the wind turns\x1b[31m\nand turns back"
    taken = terminal.json("snapshot", "main", "turn", "-m", message)["node"]
    assert (taken["message"], abs(taken["created"] - time.time()) < 60) == (message, True)
    assert {node.name: node.message for node in server.tree()} == {"root": "", "s": "", "turn": message, "main": ""}
    assert [node["message"] for node in terminal.json("log", "main")] == ["", "", message, ""]
    assert terminal.type("tree") == 0
    assert re.search(r'turn · step 2 · "the wind turns�\[31m" · (just now|\d+ s ago)\n', terminal.out)
    assert "\x1b" not in str(server.tree())
    assert terminal.type("log", "main") == 0
    assert re.search(r"turn │ +2 │ (just now|\d+ s ago) +│ the wind turns", terminal.out)
    error = terminal.json("snapshot", "main", "-m", "x" * 5000, status=2)["error"]
    assert (error["code"], "message" in error["message"]) == ("bad_request", True)


def test_lists_come_whole_whatever_was_said_of_their_nodes(terminal: Terminal, server: Server) -> None:
    main = server.branch("main")
    for number in range(150):  # more than one reply may hold
        main.snapshot(f"n{number}", message="\N{SNOWMAN}" * 4096)
    names = [f"n{number}" for number in range(150)]
    assert [node["name"] for node in terminal.json("log", "main")] == ["root", "s", *names, "main"]
    assert {node["name"] for node in terminal.json("tree")["nodes"]} == {"root", "s", "main", *names}


@pytest.mark.parametrize(
    ("past", "said"),
    [(-5, "just now"), (0, "just now"), (59, "59 s ago"), (61, "1 min ago"), (3 * 3600, "3 h ago"),
     (86_400, "1 day ago"), (5 * 86_400, "5 days ago"), (800 * 86_400, "2 years ago")],
)  # fmt: skip
def test_how_long_ago_something_was_is_said_in_one_unit(past: float, said: str) -> None:
    assert ago(1e9, now=1e9 + past) == said
