"""What users write is checked by real type checkers: nothing right is an error, and everything wrong is one."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..conftest import ROOT

HERE = Path(__file__).parent
SOURCES = [str(ROOT), str(ROOT / "clients" / "python")]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join((*SOURCES, *sys.path[1:]))}
CLIENT = ROOT / "clients" / "python" / "snapserv_client"

UNTYPED = {
    "Wrapper", "FMUSimulation.described", "FMUSimulation.variables", "FMUSimulation.setup", "Wrapping.factory",
    "Wrapping.model", "Wrapping.make", "GymSimulation.make", "PettingZooSimulation.factory", "SimPySimulation.make",
    "Stepping.stepped_by", "Stepping.advance", "forwarded_by", "Simulation.bind", "Stream.ask", "Stream.begin",
    "Stream.end",
}  # fmt: skip
"""What is somebody else's object, of which nothing is known; and what only the two packages ask of each other."""
GYMNASIUMS = {"Env", "Observed", "Stepped", "step", "reset", "render", "vector", "close_extras"}
"""What Gymnasium says itself, whose environments are of any observation and any action."""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True, text=True, cwd=ROOT, env=ENVIRONMENT, timeout=110, check=False,
    )  # fmt: skip


def mypy(path: Path, cache: Path) -> dict[int, str]:
    """Return what mypy finds wrong in a file, by line."""
    config = cache / "mypy.ini"
    config.write_text("[mypy]\nstrict = True\nwarn_unused_ignores = False\n")
    done = run("mypy", "--config-file", str(config), "--no-incremental", "--cache-dir", str(cache), str(path))
    found = re.findall(rf"^{re.escape(str(path.relative_to(ROOT)))}:(\d+): error: (.*)", done.stdout, re.M)
    assert done.stdout, done.stderr
    return {int(line): message for line, message in found}


def pyright(path: Path, cache: Path) -> dict[int, str]:
    """Return what pyright finds wrong in a file, by line."""
    if importlib.util.find_spec("pyright") is None:
        pytest.skip("pyright is not installed")
    config = cache / "pyrightconfig.json"
    settings = {"typeCheckingMode": "strict", "extraPaths": SOURCES}
    config.write_text(json.dumps({**settings, "include": [path.name], "reportMissingTypeStubs": False}))
    shutil.copy(path, cache)  # what it checks lies below its configuration
    done = run("pyright", "--outputjson", "--pythonpath", sys.executable, "--project", str(config))
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert said["summary"]["filesAnalyzed"] == 1
    return {
        each["range"]["start"]["line"] + 1: each["message"]
        for each in said["generalDiagnostics"]
        if each["severity"] == "error"
    }


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_nothing_right_is_an_error(checker: Callable[[Path, Path], dict[int, str]], tmp_path: Path) -> None:
    assert checker(HERE / "right.py", tmp_path) == {}


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_everything_wrong_is_an_error(checker: Callable[[Path, Path], dict[int, str]], tmp_path: Path) -> None:
    path = HERE / "wrong.py"
    lines = path.read_text().splitlines()
    wrong = {number + 1: line.strip() for number, line in enumerate(lines, 1) if "# wrong:" in line}
    found = checker(path, tmp_path)
    assert {line: why for line, why in wrong.items() if line not in found} == {}
    assert {line: message for line, message in found.items() if line not in wrong} == {}


def test_what_is_right_runs() -> None:
    done = run("tests.types.right")
    assert done.returncode == 0, done.stderr


def test_no_any_stands_where_a_user_looks() -> None:
    looked = [
        *CLIENT.glob("*.py"), *(CLIENT / "aio").glob("*.py"), *(CLIENT / "sync").glob("*.py"),
        *(CLIENT / "protocol").glob("*.py"), ROOT / "snapserv" / "simulation" / "base.py",
        ROOT / "snapserv" / "simulation" / "fields.py", *(ROOT / "snapserv" / "adapters").glob("*.py"),
    ]  # fmt: skip
    inner = {
        "arrays.py", "spaces.py", "wire.py", "framing.py", "stream.py", "together.py", "recordings.py",
        "attributes.py", "wrapping.py", "plain.py", "connection.py", "private.py", "pickled.py", "channel.py",
        "direct.py", "moments.py", "figures.py", "looks.py", "refusals.py",
    }  # fmt: skip
    found = {
        f"{path.relative_to(ROOT)}: {what}"
        for path in looked
        if path.name not in inner
        for what in anys(ast.parse(path.read_text()).body, "")
        if what not in UNTYPED and not (path.name == "gym.py" and what.rpartition(".")[2] in GYMNASIUMS)
    }
    assert found == set()


def anys(body: list[ast.stmt], within: str) -> Iterator[str]:
    """Yield what is public and says ``Any``."""
    for each in body:
        if isinstance(each, ast.ClassDef) and not each.name.startswith("_"):
            yield from anys(each.body, f"{within}{each.name}.")
        elif isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and not each.name.startswith("_"):
            given = each.args
            every = (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg)
            if says_any(each.returns) or any(says_any(one.annotation) for one in every if one is not None):
                yield within + each.name
        elif isinstance(each, ast.AnnAssign) and says_any(each.annotation):
            name = ast.unparse(each.target)
            if not name.startswith("_"):
                yield within + name
        elif isinstance(each, ast.Assign) and not within and isinstance(each.value, ast.Subscript | ast.BinOp):
            name = ast.unparse(each.targets[0])
            if says_any(each.value) and not name.startswith("_"):
                yield name


def says_any(annotation: ast.expr | None) -> bool:
    return annotation is not None and any(
        isinstance(each, ast.Name) and each.id == "Any" for each in ast.walk(annotation)
    )
