"""Commands that draw: what they write, what they say of it, and what they refuse."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ..conftest import ROOT, ServerProcess
from .conftest import Terminal

Serve = Callable[..., ServerProcess]


@pytest.fixture
def plate(serve: Serve, alone: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal at a server of a plate, in a folder of its own."""
    options = ("--store", str(tmp_path / "store"))
    monkeypatch.setenv("SNAPSERV_ENDPOINT", serve("tests.simulations.plate:Plate", options=options).endpoint)
    monkeypatch.setenv("SNAPSERV_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    assert alone.type("step", "main", "3", "--record", "hottest") == 0
    assert alone.type("snapshot", "main", "three") == 0
    assert alone.type("step", "main", "2", "--record", "hottest") == 0
    return alone


def size(path: str) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def length(path: str) -> int:
    with Image.open(path) as film:
        return int(film.n_frames)  # type: ignore[attr-defined,unused-ignore]


def test_read_draws_a_map_and_a_line(plate: Terminal) -> None:
    told = plate.json("read", "main", "heat", "--png", "heat.png", "--npy", "heat.npy", "--limits", "0:9")
    assert (told["png"], told["npy"], told["shape"]) == ("heat.png", "heat.npy", [30, 40])
    assert size("heat.png")[0] > 800
    assert plate.type("read", "main", "rod", "--png", "rod.png") == 0
    assert "rod.png" in plate.out
    assert plate.type("read", "main", "cube", "--region", "2", "--png", "cube.png", "--colours", "gray") == 0
    assert plate.type("read", "main", "cube", "--png", "no.png") == 2
    assert "--region" in plate.err
    assert plate.type("read", "main", "heat", "--png", "no.png", "--colours", "grau") == 2
    assert not Path("no.png").exists()


def test_a_stored_node_is_drawn_without_a_server(plate: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    assert plate.type("save", "three") == 0
    assert plate.type("read", "three", "heat", "--png", "served.png") == 0
    monkeypatch.delenv("SNAPSERV_ENDPOINT")
    assert plate.type("store", "read", "three", "heat", "--png", "stored.png") == 0, plate.err
    served, stored = (Image.open(name).tobytes() for name in ("served.png", "stored.png"))
    assert served == stored


def test_diff_draws_what_differs_and_says_where_nothing_does(plate: Terminal) -> None:
    told = plate.json("diff", "main", "three", "--png", "diff.png", status=1)
    assert (told["png"], told["drawn"]) == ("diff.png", ["heat", "kind", "cube[2, :, :]", "rod"])
    assert size("diff.png")[0] > size("diff.png")[1]
    assert plate.type("diff", "main", "--png", "parent.png", "--field", "heat") == 1
    assert "→ parent.png" in plate.out
    assert plate.type("diff", "main", "three", "--field", "fixed", "--png", "same.png") == 0
    assert "no picture: no field differs" in plate.out
    assert plate.json("diff", "three", "three", "--png", "same.png")["png"] is None
    assert not Path("same.png").exists()


def test_plot_draws_records_of_several_nodes(plate: Terminal) -> None:
    assert plate.json("plot", "main", "three") == {
        "png": "records.png", "nodes": ["main", "three"], "columns": ["hottest"]
    }  # fmt: skip
    assert size("records.png")[0] > 1000
    assert plate.type("plot", "main", "--column", "hottest", "--png", "one.png", "--after", "3") == 0
    assert "hottest → one.png" in plate.out
    assert plate.type("plot", "main", "--column", "coldest") == 2
    assert "hottest" in plate.err
    assert plate.type("plot", "root", "--png", "no.png") == 2
    assert not Path("no.png").exists()


def test_pages_draws_nodes_by_whatever_name_they_are_called(plate: Terminal) -> None:
    assert plate.type("tag", "three", "golden") == 0
    assert plate.json("pages", "main", "golden", "--png", "pages.png", "--field", "heat")["png"] == "pages.png"
    assert size("pages.png")[1] < 250
    assert plate.type("pages", "main", "--png", "all.png") == 0
    assert "all.png" in plate.out


def test_films_of_a_step_a_past_an_expansion_and_a_rewind(plate: Terminal) -> None:
    told = plate.json("step", "main", "7", "--every", "5", "--gif", "step.gif", "--record", "hottest")
    assert (told["step"], told["ticks"], told["gif"]) == (12, 7, "step.gif")
    assert length("step.gif") == 3  # steps 5, 10 and 12
    assert plate.json("records", "main")["step"] == [1, 2, 3, 4, 5, 10]
    assert plate.json("log", "main", "--gif", "past.gif", "--field", "heat")["moments"] == length("past.gif") == 3
    inputs = ('{"warm": 1}', '{"warm": "far"}')
    assert plate.type("expand", "three", *inputs, "--steps", "4", "--every", "2", "--gif", "two.gif") == 0, (
        plate.err
    )
    assert "two.gif" in plate.out
    assert length("two.gif") == 3
    assert plate.type("mark", "main") == 0
    assert plate.type("step", "main", "4", "--gif", "on.gif", "--field", "kind") == 0
    assert "on.gif" in plate.out
    assert plate.json("rewind", "main", "--gif", "back.gif")["step"] == 12
    assert length("back.gif") == 2
    names = [node["name"] for node in plate.json("tree")["nodes"]]
    assert names == ["root", "main", "three"]


def test_what_is_of_films_alone_is_refused_without_one(plate: Terminal) -> None:
    refused: list[tuple[str, ...]] = [
        ("step", "main", "--field", "heat"),
        ("step", "main", "--limits", "0:1"),
        ("rewind", "main", "--colours", "gray"),
        ("log", "main", "--field", "heat"),
        ("expand", "main", "{}", "--field", "heat"),
        ("expand", "main", "{}", "--keep", "all", "--gif", "a.gif"),
        ("step", "main", "5000", "--gif", "a.gif"),
        ("step", "main", "--gif", "a.gif", "--field", "cold"),
        ("step", "main", "--gif", "a.gif", "--limits", "9:1"),
    ]
    for words in refused:
        assert plate.type(*words) == 2, words
        assert plate.err.count("→ ") == 1, (words, plate.err)
    assert plate.json("show", "main")["node"]["step"] == 5


MISSING = """
import sys
sys.modules["matplotlib"] = None
from snapserv.cli.app import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "words",
    [
        ("read", "main", "heat", "--png", "a.png"),
        ("diff", "main", "three", "--png", "a.png"),
        ("plot", "main"),
        ("pages", "main", "--png", "a.png"),
        ("step", "main", "--gif", "a.gif"),
        ("log", "main", "--mp4", "a.mp4"),
    ],
    ids=" ".join,
)
def test_without_matplotlib_nothing_is_done_and_it_says_what_to_install(
    plate: Terminal, tmp_path: Path, words: tuple[Any, ...]
) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), *filter(None, sys.path)))}
    command = [sys.executable, "-c", MISSING, *words]
    ran = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 4, ran.stderr
    assert "pip install matplotlib" in ran.stderr
    assert plate.json("show", "main")["node"]["step"] == 5
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == []
