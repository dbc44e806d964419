"""A snapserv that is installed as README says, into an environment of its own; built once, for all tests."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ..conftest import ROOT, one_at_a_time

README = (ROOT / "README.md").read_text()
WITHIN_S = 90.0


@dataclass(frozen=True)
class Installed:
    """An environment with an installed snapserv, and the clone, not compiled, that it was installed from."""

    environment: Path
    clone: Path

    @property
    def python(self) -> str:
        """Its interpreter."""
        return f"{self.environment}/bin/python"

    @property
    def snapserv(self) -> str:
        """Its command."""
        return f"{self.environment}/bin/snapserv"

    def settings(self, home: Path) -> dict[str, str]:
        """Return the environment variables of somebody who has activated it, and whose home is a folder."""
        path = f"{self.environment}/bin:{os.environ['PATH']}"
        return {"PATH": path, "HOME": str(home), "XDG_RUNTIME_DIR": str(home), "LANG": "C.UTF-8"}

    def run(self, command: Sequence[str], home: Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command there, in the folder that is its home unless another is given."""
        given = {"cwd": home, "env": self.settings(home), **options}
        return subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False, **given)


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Installed:
    base = tmp_path_factory.getbasetemp()
    shared = (base if worker_id == "master" else base.parent) / "installed"
    made = Installed(shared / "environment", shared / "clone")
    with one_at_a_time(f"install-{base.parent.name}"):  # once for all workers
        if not (shared / "ready").exists():
            _make(made)
            (shared / "ready").touch()
    return made


@pytest.fixture
def home(short_path: Path, installed: Installed) -> Iterator[Path]:
    """Somebody's home, whose server does not outlive the test."""
    yield short_path
    installed.run([installed.snapserv, "shutdown", "--yes"], short_path)


def _make(made: Installed) -> None:
    listed = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, text=True)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (made.clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, made.clone / name)
    _seed_build(made.clone)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", made.environment], check=True)
    # What snapserv needs is there, as if it had been downloaded: from the environment that the tests run in.
    (library,) = (made.environment / "lib").glob("python3.*/site-packages")
    (library / "needed.pth").write_text(sysconfig.get_path("purelib"))
    first, *_ = re.findall(r"^\$ (pip install .*)$", README, re.MULTILINE)
    pip, *words = shlex.split(first)
    command = [sys.executable, "-m", pip, "--python", made.python, *words]
    command += ["--no-build-isolation", "--no-index", "--quiet"]
    done = subprocess.run(command, cwd=made.clone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list((made.clone / "snapserv" / "ext").glob("*.so")) == []


def _seed_build(clone: Path) -> None:
    """Have what is compiled already be taken for the build's, which would compile the same again, for minutes."""
    library = clone / "build" / f"lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
    for path in (ROOT / "snapserv" / "ext").rglob("*.so"):
        compiled = library / path.relative_to(ROOT)
        compiled.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, compiled)
        later = time.time() + 600  # newer than the C that Cython will have written by then
        os.utime(compiled, (later, later))
