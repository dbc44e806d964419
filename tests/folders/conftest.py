"""A folder to branch, a simulation that keeps its state there, and looks at both."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from snapserv_client import Branch, Server

from snapserv.folders.probe import Probed
from snapserv.nodes.process_table import ONE_THREAD

from ..conftest import ROOT, ServerProcess

Serve = Callable[..., ServerProcess]
COURSE = "".join(f"word-{number}\n" for number in range(1000))


@pytest.fixture(scope="session")
def probed() -> Probed:
    command = [sys.executable, "-m", "snapserv.folders.probe"]
    ended = subprocess.run(command, env={**os.environ, **ONE_THREAD}, capture_output=True, check=True, cwd=ROOT)
    return msgspec.json.decode(ended.stdout, type=Probed)


@pytest.fixture
def folder(tmp_path: Path, probed: Probed) -> Iterator[Path]:
    """A folder to branch; at the end it is as it was, and no mount can be seen from here."""
    if probed.how != "overlay":
        pytest.skip(f"no overlayfs: {probed.found}")
    made = tmp_path / "game"
    made.mkdir()
    (made / "course.txt").write_text(COURSE)
    yield made
    assert sorted(os.listdir(made)) == ["course.txt"], "the user's own folder was changed"
    assert (made / "course.txt").read_text() == COURSE
    assert str(made) not in Path("/proc/self/mountinfo").read_text()


@pytest.fixture
def ledger(serve: Serve, folder: Path, tmp_path: Path) -> Iterator[Server]:
    """A client of a server whose simulation keeps its state in files."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = serve_ledger(serve, folder, TMPDIR=str(temporary))
    with process.connect() as client:
        yield client
    assert process.end() == 0, process.log.read_text()
    assert os.listdir(temporary) == [], "layers were left behind"


def serve_ledger(serve: Serve, folder: Path, **options: Any) -> ServerProcess:
    return serve(
        "tests.simulations.ledger:Ledger",
        params={"folder": str(folder)},
        options=("--branch-dir", str(folder)),
        **options,
    )


def look(branch: Branch) -> dict[str, Any]:
    found: dict[str, Any] = branch.call("look")
    return found


def digest(branch: Branch) -> bytes:
    return bytes(branch.read("digest"))


def take_snapshots(branch: Branch, most: int) -> None:
    for _ in range(most):
        branch.snapshot()


def layers_of(temporary: Path) -> set[str]:
    return {path.name for path in temporary.glob("snapserv-layers-*/*/*")} - {"o", "lock"}


def wait_for_removals(temporary: Path) -> None:
    """Wait until no more layers are being removed."""
    before: set[str] | None = None
    while before != (before := layers_of(temporary)):
        time.sleep(0.01)
