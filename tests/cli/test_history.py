"""Histories for people: commands that list, replay and verify, and how actions and verdicts look."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from snapserv_client import Server

from snapserv.cli.app import run


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
    assert json.loads(typed("replay", str(file), "--name", "again", "--json"))["step"] == 3
    assert server.diff("main", "again").same
    assert json.loads(typed("verify", "again", "--json"))["ok"] is True
    assert "verified" in typed("verify", "main")
    saved = tmp_path / "saved.json"
    main.write("position", np.zeros(1000))
    told = json.loads(typed("log", "main", "--save", str(saved), "--json"))
    assert (told["actions"], told["ticks"]) == (3, 3)
    assert "wrote 3 actions of main" in typed("log", "main", "--save", str(saved))
    assert json.loads(typed("replay", str(saved), "--name", "from-file", "--json"))["step"] == 3
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
