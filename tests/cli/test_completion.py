"""Completion: what shells are told of commands, options and nodes, how quickly, and how it is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from snapserv_client import Server

from ..conftest import ROOT
from .conftest import Terminal
from .test_start import HEAVY, loaded_by

TYPED = """
. completion.bash
COMP_WORDS=({words}) COMP_CWORD={at}
_snapserv_completion snapserv
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def folder(tmp_path: Path, alone: Terminal) -> Path:
    """A folder with `snapserv` in it, and what bash is to be told."""
    program = tmp_path / "snapserv"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m snapserv "$@"\n')
    program.chmod(0o755)
    assert alone.type("completion", "bash") == 0
    (tmp_path / "completion.bash").write_text(alone.out)
    return tmp_path


def completed(folder: Path, *words: str, **env: str) -> list[str]:
    """Return what bash offers for the last word that is typed."""
    paths = {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    script = TYPED.format(words=" ".join(f"'{word}'" for word in ("snapserv", *words)), at=len(words))
    ran = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={**os.environ, **paths, **env},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stderr == ""
    return ran.stdout.split()


def test_commands_and_options_are_completed(folder: Path) -> None:
    assert completed(folder, "sn") == ["snapshot"]
    assert set(completed(folder, "st")) == {"status", "step", "stored", "store"}
    assert set(completed(folder, "store", "")) == {"ls", "show", "read", "verify", "gc", "du", "rm", "push", "pull"}
    assert completed(folder, "step", "--at") == ["--atomic"]
    assert completed(folder, "keygen", "s") == ["server"]


def test_nodes_are_completed_that_the_command_takes(folder: Path, server: Server) -> None:
    main = server.branch("main")
    main.snapshot("south").tag("sunny")
    server.snapshot("south").branch(name="soon")
    here = ("-e", server.endpoint)
    assert sorted(completed(folder, "show", *here, "s")) == ["soon", "south", "sunny"]
    assert completed(folder, "step", *here, "s") == ["soon"]
    assert completed(folder, "step", "so", SNAPSERV_ENDPOINT=server.endpoint) == ["soon"]
    assert sorted(completed(folder, "restore", *here, "main", "s")) == ["south", "sunny"]
    assert sorted(completed(folder, "diff", *here, "main", "m")) == ["main"]
    assert completed(folder, "drop", *here, "main", "soo") == ["soon"]


def test_names_of_servers_are_completed(folder: Path) -> None:
    sockets = folder / "run" / "snapserv"
    sockets.mkdir(parents=True)
    for name in ("lab", "large"):
        (sockets / f"{name}.sock").touch()
    assert completed(folder, "tree", "--name", "l", XDG_RUNTIME_DIR=str(folder / "run")) == ["lab", "large"]


@pytest.mark.parametrize("endpoint", ["ipc:///nowhere/s.sock", "tcp://127.0.0.1:9", "nonsense"])
def test_where_no_server_is_nothing_is_said_and_soon(folder: Path, endpoint: str) -> None:
    began = time.monotonic()
    assert completed(folder, "show", "m", SNAPSERV_ENDPOINT=endpoint) == []
    assert time.monotonic() - began < 5


def test_to_complete_a_command_loads_as_little_as_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_SNAPSERV_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "snapserv st")
    monkeypatch.setenv("COMP_CWORD", "1")
    modules = loaded_by()
    assert "snapserv_client.cli.nodes" not in modules
    assert not modules & HEAVY
    assert len(modules) <= 130


@pytest.mark.parametrize(
    ("shell", "place", "own"),
    [
        ("bash", ".local/share/snapserv/completion.bash", ".bashrc"),
        ("zsh", ".local/share/snapserv/completion.zsh", ".zshrc"),
        ("fish", ".config/fish/completions/snapserv.fish", None),
    ],
)
def test_it_is_installed_once_where_the_shell_reads_it(
    alone: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str, place: str, own: str | None
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", f"/bin/{shell}")
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "ZDOTDIR"):
        monkeypatch.delenv(name, raising=False)
    if own is not None:
        (tmp_path / own).write_text("export MINE=1")
    for words in (("--install-completion",), ("completion", "--install"), ("completion", shell, "--install")):
        assert alone.type(*words) == 0, alone.err
        assert str(tmp_path / place) in alone.out
    assert alone.type("completion") == 0
    assert (tmp_path / place).read_text().strip() == alone.out.strip()
    assert "_SNAPSERV_COMPLETE" in alone.out
    if own is not None:
        first, line = (tmp_path / own).read_text().splitlines()
        assert first == "export MINE=1"
        assert line.endswith(f'[ -r "{tmp_path / place}" ] && . "{tmp_path / place}"')


def test_a_shell_that_is_none_of_them_is_named(alone: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    error = alone.json("completion", status=2)["error"]
    assert "tcsh" in error["message"]
    assert alone.type("--install-completion") == 2
    assert alone.type("completion", "tcsh") == 2
