"""Where the locale is not UTF-8, what commands print is ASCII: nothing fails, is garbled or is lost."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from snapserv_client import Server
from snapserv_client.cli.legible import LETTERS, in_ascii, speaks_unicode

from snapserv.cli.contents import COMMANDS

from ..conftest import ROOT, START_WITHIN_S, ServerProcess
from .conftest import SNAPSERV, USES

Serve = Callable[..., ServerProcess]
ENCODINGS = ({"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"})


def said(*words: str, **environment: str) -> tuple[int, str]:
    """Return how a command ends and what it prints, which must be ASCII."""
    unset = {"LC_ALL", "LANG", "LC_CTYPE", "PYTHONIOENCODING", "PYTHONUTF8"}
    inherited = {name: value for name, value in os.environ.items() if name not in unset}
    ran = subprocess.run(
        [*SNAPSERV, *words], cwd=ROOT, capture_output=True, timeout=START_WITHIN_S, check=False,
        env={**inherited, **environment},
    )  # fmt: skip
    text = (ran.stdout + ran.stderr).decode("utf-8")
    if environment.get("LC_ALL") != "C.UTF-8":
        assert text.isascii(), (words, [letter for letter in text if not letter.isascii()], text)
    assert "UnicodeEncodeError" not in text
    assert "internal" not in text
    return ran.returncode, text


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda each: " ".join(map("=".join, each.items())))
def test_every_command_speaks_ascii(
    server: Server, endpoint: str, monkeypatch: pytest.MonkeyPatch, encoding: dict[str, str]
) -> None:
    monkeypatch.setenv("SNAPSERV_ENDPOINT", endpoint)
    main = server.branch("main")
    main.step(2)
    main.snapshot("s")
    few = ("tree", "status", "expand", "pages")
    for name in [*sorted({*USES} - {"drop", "pin"}), "drop"] if encoding == ENCODINGS[0] else few:
        main.restore("s")
        status, text = said(name, *USES[name], **encoding)
        assert status == 0, text
        assert text.strip()
    tree = said("tree", **encoding)[1].splitlines()
    assert tree[1].startswith("* root - step 0")
    assert tree[2].startswith(("* s - step 2", "|- ", "`- "))


@pytest.mark.parametrize("command", [name for names in COMMANDS.values() for name in names])
def test_help_is_ascii_as_well(command: str) -> None:
    status, text = said(command, "--help", LC_ALL="C")
    assert status == 0
    assert "--help" in text


def test_what_a_simulation_says_is_escaped_and_not_lost(
    server: Server, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNAPSERV_ENDPOINT", endpoint)
    assert said("call", "main", "echo", r'"20 \u00b0C \u2192 \u96ea"', LC_ALL="C") == (0, "20 \\xb0C > \\u96ea\n")
    ran = subprocess.run(
        [*SNAPSERV, "call", "main", "echo", r'"20 \u00b0C"'], cwd=ROOT, capture_output=True, check=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    assert ran.stdout.decode() == "20 °C\n"
    ran = subprocess.run(
        [*SNAPSERV, "tree"], cwd=ROOT, capture_output=True, check=True,
        env={**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    assert "● root · step 0" in ran.stdout.decode(), "who asks for UTF-8 gets it"


def test_errors_and_what_needs_no_server_are_ascii(tmp_path: Path) -> None:
    assert said("tree", "-e", f"ipc://{tmp_path}/nobody.sock", LC_ALL="C")[0] == 3
    assert said("doctor", LC_ALL="C")[1]
    assert said("lab", "--size", "256KiB", "--mechanism", "copy", LC_ALL="C")[0] == 0
    assert said("nonsense", LC_ALL="C")[0] == 2


def test_letters_of_ours_are_as_wide_in_ascii() -> None:
    assert all(len(letter) == 1 and letter.isascii() for letter in LETTERS.values())
    assert in_ascii("├─ ● a · é ⠋ ╋") == "|- * a - \\xe9 * +"


def test_a_stream_of_another_encoding_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for encoding, speaks in (("utf-8", True), ("UTF8", True), ("ascii", False), ("latin-1", False)):
        assert speaks_unicode(io.TextIOWrapper(io.BytesIO(), encoding)) is speaks
    assert sys.stdout is not None
