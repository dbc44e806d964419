"""An installed snapserv starts from any folder, whatever lies there, and finds the simulations of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Installed

CLASHES = ("queue", "copy", "random", "types", "select", "secrets")
MODEL = """
import queue, random
from helper import NAME
from snapserv import Simulation

class Model(Simulation):
    def step(self, inputs):
        return {"name": NAME, "own": hasattr(queue, "SimpleQueue") and hasattr(random, "Random")}
"""
LOCAL = """
from snapserv_client import local

with local({target!r}) as server:
    print(server.branch("main").step(2).outputs)
"""


@pytest.fixture
def cluttered(tmp_path: Path) -> Path:
    """A folder whose files are called like modules of the standard library, with a simulation among them."""
    for name in CLASHES:
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('this is no part of the standard library')\n")
    (tmp_path / "helper.py").write_text("NAME = 'ours'\n")
    (tmp_path / "model.py").write_text(MODEL)
    return tmp_path


@pytest.mark.parametrize("where", ["clone", "cluttered"])
def test_it_serves_from_its_clone_and_from_beside_files_that_are_called_like_the_standard_library(
    installed: Installed, cluttered: Path, home: Path, where: str
) -> None:
    folder = {"clone": installed.clone, "cluttered": cluttered}[where]
    started = installed.run(
        [installed.snapserv, "serve", "snapserv.examples.counter:Counter", "--detach", "--json"], home, cwd=folder
    )
    assert started.returncode == 0, started.stdout + started.stderr
    stepped = installed.run([installed.snapserv, "step", "main", "3", "--json"], home, cwd=folder)
    ended = installed.run([installed.snapserv, "shutdown", "--yes"], home, cwd=folder)
    assert json.loads(stepped.stdout)["outputs"] == {"count": 3}
    assert ended.returncode == 0
    assert list((home / "snapserv").iterdir()) == [], "it has ended when the command returns"


@pytest.mark.parametrize("target", ["model:Model", "model.py:Model"])
def test_a_simulation_of_the_folder_is_found_and_imports_its_neighbours_and_the_standard_library(
    installed: Installed, cluttered: Path, home: Path, target: str
) -> None:
    (home / "script.py").write_text(LOCAL.format(target=target))
    ran = installed.run([installed.python, str(home / "script.py")], home, cwd=cluttered)
    assert ran.stdout == "{'name': 'ours', 'own': True}\n", ran.stderr
    tried = installed.run([installed.snapserv, "doctor", target, "--json"], home, cwd=cluttered)
    assert tried.returncode == 0, tried.stderr


def test_a_simulation_in_a_file_that_is_called_like_a_module_of_python_is_served_by_its_file(
    installed: Installed, cluttered: Path, home: Path
) -> None:
    (cluttered / "queue.py").write_text((cluttered / "model.py").read_text())
    ran = installed.run([installed.snapserv, "serve", "queue:Model", "--json", "--detach"], home, cwd=cluttered)
    assert ran.returncode == 2
    assert json.loads(ran.stdout)["error"]["hint"] == "write queue.py:Model"
    (home / "script.py").write_text(LOCAL.format(target="queue.py:Model"))
    ran = installed.run([installed.python, str(home / "script.py")], home, cwd=cluttered)
    assert ran.stdout == "{'name': 'ours', 'own': True}\n", ran.stderr


def test_python_and_its_m_find_the_installed_one_in_the_clone(installed: Installed, home: Path) -> None:
    typed = LOCAL.format(target="examples.counter:Counter") + "\nimport snapserv\nprint(snapserv.__path__)\n"
    ran = installed.run([installed.python, "-i"], home, cwd=installed.clone, input=typed)
    counted, path = ran.stdout.splitlines()
    assert counted == "{'count': 2}", ran.stderr
    assert path.startswith(f"['{installed.environment}/")
    ran = installed.run([installed.python, "-m", "snapserv", "--help"], home, cwd=installed.clone)
    assert ran.returncode == 0, ran.stderr


def test_pythonpath_is_searched_as_ever(installed: Installed, cluttered: Path, home: Path) -> None:
    elsewhere = home / "library"
    elsewhere.mkdir()
    for name in ("model.py", "helper.py"):
        (cluttered / name).rename(elsewhere / name)
    settings = {**installed.settings(home), "PYTHONPATH": str(elsewhere)}
    (home / "script.py").write_text(LOCAL.format(target="model:Model"))
    ran = installed.run([installed.python, str(home / "script.py")], home, cwd=cluttered, env=settings)
    assert ran.stdout == "{'name': 'ours', 'own': True}\n", ran.stderr
