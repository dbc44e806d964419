"""The examples of an installed snapserv, started from any folder as their README says."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from ..conftest import ROOT
from .conftest import Installed

LISTED = re.findall(r"\| `(snapserv serve [^`]+)` \|$", (ROOT / "examples" / "README.md").read_text(), re.MULTILINE)
SEARCHES = {"beam": ("--seeds", "1", "--width", "1"), "mcts": ("--seeds", "1", "--evaluations", "16")}


def test_all_are_listed() -> None:
    there = {path.stem for path in (ROOT / "examples").glob("*.py")} - {"terrain", "cluster_search", "__init__"}
    assert {name for command in LISTED for name in re.findall(r"snapserv\.examples\.(\w+)", command)} == there


@pytest.mark.parametrize("command", LISTED)
def test_each_is_served_and_stepped(installed: Installed, home: Path, command: str) -> None:
    _, *words = shlex.split(command)
    started = installed.run([installed.snapserv, *words, "--detach"], home)
    assert started.returncode == 0, started.stderr
    stepped = installed.run([installed.snapserv, "step", "main", "2", "--json"], home)
    assert json.loads(stepped.stdout)["step"] == 2, stepped.stderr


@pytest.mark.parametrize(("name", "how"), [("beam", "file"), ("beam", "module"), ("mcts", "module")])
def test_each_search_runs(installed: Installed, home: Path, name: str, how: str) -> None:
    if how == "module":
        command = [installed.python, "-m", f"snapserv.examples.search.{name}"]
    else:
        command = [installed.python, str(installed.clone / "examples" / "search" / f"{name}.py")]
    ran = installed.run([*command, *SEARCHES[name]], home)
    assert ran.returncode == 0, ran.stderr
    assert "nodes per second" in ran.stdout
