"""What is packed is what is needed to build it elsewhere, and wheels of it are all that is needed to run it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

import pytest

from .conftest import ROOT

ALONE = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def test_the_source_distribution_holds_every_source(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "setup.py", "-q", "egg_info", "-e", str(tmp_path), "sdist", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
    )
    (packed,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(packed) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    sources = {
        str(path.relative_to(ROOT))
        for folder in ("ext", "snapserv", "examples")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".pyi", ".pyx", ".pxd", ".c", ".h")
    }
    assert sources
    assert sources - names == set()


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pack both packages, with what is compiled already: `make dist` compiles it, of the source distribution."""
    made = tmp_path_factory.mktemp("wheels")
    (made / "lib.cfg").write_text(f"[build]\nbuild_base = {made}/build\nbuild_lib = {made}/lib\n")
    environment = {**os.environ, "DIST_EXTRA_CONFIG": str(made / "lib.cfg")}

    def setup(folder: Path, *arguments: str) -> None:
        ran = subprocess.run(
            [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr

    egg = ["egg_info", "-e", str(made)]
    setup(ROOT, "setup.py", "-q", *egg, "build_py")
    for path in (ROOT / "snapserv").rglob("*"):
        if path.suffix == ".so" or path.name == "loader":
            shutil.copy2(path, made / "lib" / path.relative_to(ROOT))
    setup(ROOT, "setup.py", "-q", *egg, "bdist_wheel", "--skip-build", "-d", str(made))
    shutil.copytree(
        ROOT / "clients" / "python", made / "client", ignore=shutil.ignore_patterns("*.egg-info", "build")
    )
    del environment["DIST_EXTRA_CONFIG"]
    setup(made / "client", "-m", "build", "--wheel", "--no-isolation", "--outdir", str(made))
    return made


def install(folder: Path, *wheels: Path) -> Path:
    """Make an environment of its own with some wheels, and what they need from here; return its Python."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", *wheels], check=True
    )
    site = next(folder.glob("lib/python*/site-packages"))
    others = next(path for path in sys.path if path.endswith("site-packages"))
    for path in Path(others).iterdir():
        if (
            "snapserv" not in path.name.lower()
            and not (site / path.name).exists()
            and not path.name.endswith(".pth")
        ):
            (site / path.name).symlink_to(path)
    return python


def test_wheels_run_the_readmes_example_outside_of_the_clone(wheels: Path, tmp_path: Path) -> None:
    python = install(tmp_path / "venv", *wheels.glob("*.whl"))
    work = tmp_path / "work"
    work.mkdir()
    readme = (ROOT / "README.md").read_text()
    code = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)[0]
    (work / "example.py").write_text(code)

    def run(*command: str | Path) -> str:
        ran = subprocess.run(command, cwd=work, env=ALONE, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    where = "import snapserv, snapserv_client; print(snapserv.__path__[0], snapserv_client.__path__[0])"
    assert all(path.startswith(str(tmp_path / "venv")) for path in run(python, "-c", where).split())
    run(python, "example.py")
    assert "0.1.0" in run(python.with_name("snapserv"), "--version")
    assert run(python.with_name("snapserv"), "doctor", "gym:CartPole-v1")


def test_the_client_alone_needs_no_server_package(wheels: Path, tmp_path: Path) -> None:
    python = install(tmp_path / "venv", *wheels.glob("snapserv_client*.whl"))
    missing = "import snapserv_client, importlib.util; assert importlib.util.find_spec('snapserv') is None; " + (
        "from snapserv_client.errors import UnreachableError\n"
        "try:\n    snapserv_client.local('a:B')\n"
        "except UnreachableError as error:\n    assert 'pip install' in error.hint, error.hint\n"
        "else:\n    raise SystemExit('it was served')"
    )
    subprocess.run([python, "-P", "-c", missing], cwd=tmp_path, env=ALONE, check=True)
    words = [python.with_name("snapserv-client"), "tree", "--json", "-e", f"ipc://{tmp_path}/s.sock"]
    ran = subprocess.run(words, cwd=tmp_path, env=ALONE, capture_output=True, text=True, check=False)
    assert (ran.returncode, json.loads(ran.stdout)["error"]["code"]) == (3, "unreachable")
