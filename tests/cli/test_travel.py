"""Going back, bisecting and sequences of inputs, as they are typed."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from snapserv_client import Server

from .conftest import Terminal


def test_a_branch_goes_back_and_says_how_it_came_there(terminal: Terminal, server: Server) -> None:
    main = server.branch("main")
    main.step(10)
    assert terminal.type("goto", "main", "7") == 0
    said = terminal.out.splitlines()
    assert said[0].startswith("▶ main · step 7 · 5 ticks since s in ")
    assert said[1:] == [
        "what it was is kept: auto-12",
        "what was put out is known to be the same up to step 2",
    ]
    gone = terminal.json("back", "main", "3", "--no-keep")
    assert (gone["node"]["step"], gone["left"], gone["agreed"]) == (4, None, 2)
    assert terminal.type("goto", "main", "4") == 0
    assert "it stood there, nothing has changed" in terminal.out
    assert terminal.type("goto", "s", "1", "--branch", "one") == 0
    assert terminal.out.startswith("▶ one · step 1")
    assert server.branch("main").info().step == 4


def test_what_is_no_past_is_refused(terminal: Terminal) -> None:
    assert terminal.type("goto", "main", "3") == 2
    assert "step 3 is not in the past of main, which goes from 0 to 2" in terminal.err
    assert terminal.type("goto", "s", "1") == 2
    assert "s is a snapshot, which never changes" in terminal.err
    assert terminal.json("back", "main", "9", status=2)["error"]["code"] == "not_found"


def test_a_search_is_for_a_condition_or_by_a_command(terminal: Terminal, server: Server, tmp_path: Path) -> None:
    server.branch("main").step(98)
    found = terminal.json("bisect", "main", "0", "100", "--when", "count >= 61 and mean < 1000000")
    assert (found["step"], found["action"]["ticks"], found["parted"]) == (61, 98, None)
    assert terminal.type("bisect", "main", "s", "--when", "count >= 61") == 0
    assert "main · step 61 is the first one" in terminal.out
    assert "snapserv goto main 60 --branch before-61" in terminal.out
    log = tmp_path / "asked"
    command = f'echo "$SNAPSERV_NODE $SNAPSERV_ENDPOINT" >> {log}; echo shown; exit $(($(wc -l < {log}) == 1))'
    found = terminal.json("bisect", "main", "--run", command)
    assert found["step"] == 100, "it fails at the bad end, and nowhere else"
    asked = log.read_text().splitlines()
    assert len(asked) == found["returns"]
    assert all(line.endswith(server.endpoint) for line in asked)
    assert [node.name for node in server.tree().nodes] == ["root", "main", "s"]


@pytest.mark.parametrize("status", [125, 128, 255])
def test_a_command_that_cannot_tell_ends_the_search(terminal: Terminal, server: Server, status: int) -> None:
    assert terminal.type("bisect", "main", "--run", f"exit {status}") == 2
    assert f"the command cannot tell at step 2: it exited with {status}" in terminal.err
    assert [node.name for node in server.tree().nodes] == ["root", "main", "s"]


def test_a_search_needs_something_to_look_for(terminal: Terminal) -> None:
    assert terminal.type("bisect", "main") == 2
    assert "give --when or --run" in terminal.err
    assert terminal.type("bisect", "main", "--when", "count >= 1", "--run", "true") == 2
    assert terminal.type("bisect", "main", "--when", "count >= 9") == 2
    assert "it does not hold at the bad end, step 2 of main" in terminal.err


def test_inputs_are_typed_or_come_from_files(
    terminal: Terminal, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "inputs.jsonl"
    file.write_text('{"drift": 1}\n\n{"drift": 2}\n')
    monkeypatch.setattr("sys.stdin", io.StringIO('{"drift": 3}'))
    done = terminal.json("run", "main", '{"drift": 0}', f"@{file}", "-", "--record", "mean")
    assert (done["step"], done["ticks"]) == (6, 4)
    assert done["outputs"]["count"] == [3, 4, 5, 6]
    assert done["series"]["steps"]["values"] == [3, 4, 5, 6]
    assert [action.inputs["drift"] for action in server.branch("main").actions()[1:]] == [0, 1, 2, 3]  # type: ignore[union-attr]
    assert terminal.type("run", "main", *['{"drift": 0}'] * 30) == 0
    assert "main · step 36" in terminal.out
    assert "mean" in terminal.out
    refused = {
        "nothing": "'nothing' are no inputs",
        "[1]": "'[1]' are no inputs",
        "@nowhere": "cannot read nowhere",
        '{"drft": 1}': "did you mean 'drift'",
    }
    for typed, said in refused.items():
        assert terminal.type("run", "main", typed) == 2
        assert said in terminal.err
    file.write_text('{"drift": 1}\n{drift}\n')
    assert terminal.type("run", "main", f"@{file}") == 2
    assert "line 2 of @" in terminal.err
    assert server.branch("main").info().step == 36
