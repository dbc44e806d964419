"""A terminal at a server, and commands that are typed there or in a process of their own; how each is used."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from snapserv_client import Server

from snapserv.cli.app import run

from ..conftest import ROOT, START_WITHIN_S

Words = tuple[str, ...]
SNAPSERV = (sys.executable, "-m", "snapserv")


class Terminal:
    """Commands typed in this process at one server, and what they print."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture
        self.out = ""
        self.err = ""

    def type(self, *words: str) -> int:
        """Run a command and return its exit code."""
        self._capture.readouterr()
        status = run(list(words))
        self.out, self.err = self._capture.readouterr()
        return status

    def json(self, *words: str, status: int = 0) -> Any:
        """Run a command with ``--json`` and return its one document."""
        assert self.type(*words, "--json") == status, (words, self.out, self.err)
        return json.loads(self.out)


@pytest.fixture
def terminal(server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    """A terminal at a server of `tests.simulations.walk.Walk` with `main` and the snapshot `s` at step 2."""
    monkeypatch.setenv("SNAPSERV_ENDPOINT", server.endpoint)
    main = server.branch("main")
    main.step(2)
    main.snapshot("s")
    return Terminal(capsys)


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    """A terminal where no server is."""
    monkeypatch.delenv("SNAPSERV_ENDPOINT", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return Terminal(capsys)


def typed(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    return subprocess.run(
        [*SNAPSERV, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=START_WITHIN_S,
        check=False,
        **options,
    )


USES: dict[str, Words] = {
    "autosnap": ("main", "--every-steps", "100"),
    "back": ("main",),
    "bisect": ("main", "0", "1", "--when", "count >= 1"),
    "branch": ("s", "left", "right"),
    "call": ("main", "total"),
    "clear": ("main",),
    "diff": ("main", "s"),
    "drop": ("s",),
    "expand": ("main", '{"drift": 1}', '[{"drift": 2}, {"drift": 3}]', "--sum", "mean", "--keep", "1:mean"),
    "goto": ("main", "0"),
    "interrupt": ("main",),
    "log": ("main",),
    "pages": ("main", "s"),
    "pin": ("s",),
    "read": ("main", "position"),
    "record": ("main", "count"),
    "records": ("main",),
    "reset": ("main",),
    "restore": ("main", "s"),
    "run": ("main", '{"drift": 1}', '{"drift": 2}'),
    "show": ("main",),
    "snapshot": ("main",),
    "spec": (),
    "status": (),
    "step": ("main", "3"),
    "tag": ("s", "golden"),
    "top": ("--once", "--interval", "0.1"),
    "tree": ("--sizes",),
    "verify": ("main",),
    "write": ("main", "count", "7"),
}
