"""The demo: one fire, four futures, a table, a tree and a picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from snapserv.cli.app import run

pytest.importorskip("matplotlib", reason="the wildfire's terrain and the pictures are matplotlib's")

SMALL = ["--rows", "128", "--cols", "192", "--before", "20", "--steps", "30"]
FUTURES = ["west-wind", "north-wind", "east-wind", "firebreak"]


def test_four_futures_go_on_from_one_snapshot_and_differ(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "made" / "fires.png"
    assert run(["demo", *SMALL, "--out", str(picture), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [future["name"] for future in told["futures"]] == FUTURES
    assert [future["step"] for future in told["futures"]] == [50] * 4
    assert len({future["burnt_ha"] for future in told["futures"]}) == 4
    assert all(0 < future["common"] < 1 for future in told["futures"])
    assert all(0 < future["private_bytes"] < told["arena_bytes"] for future in told["futures"])
    nodes = {node["name"]: node for node in told["nodes"]}
    (parent,) = {nodes[name]["parent"] for name in FUTURES}
    assert nodes["before-the-wind-turns"]["id"] == parent
    assert nodes["before-the-wind-turns"]["step"] == 20
    assert Path(told["picture"]) == picture
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_table_the_tree_and_the_place_of_the_picture_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "fires.png"
    assert run(["demo", *SMALL, "--out", str(picture)]) == 0
    out = capsys.readouterr().out
    for text in ("west wind", "burnt ha", "still common", "before-the-wind-turns · step 20", f"picture: {picture}"):
        assert text in out
    assert out.endswith("the same four fires in a browser: snapserv demo --web, or make demo WEB=1\n")


@pytest.mark.parametrize("place", ["", "file/fires.png"])
def test_a_picture_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    (tmp_path / "file").write_text("no folder")
    assert run(["demo", *SMALL, "--out", str(tmp_path / place), "--json"]) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["error"]["code"] == "bad_request"
    assert "arena" not in captured.err
