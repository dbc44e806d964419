"""The client's own command line: the same commands, without any of the server's packages."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from snapserv_client import Server
from snapserv_client.cli.contents import CLIENT
from snapserv_client.cli.group import LazyGroup, function_of

from snapserv.cli.app import app

from ..conftest import ROOT
from .conftest import USES

PROGRAM = (sys.executable, "-m", "snapserv_client")
ALONE = """
import sys
sys.modules["snapserv"] = None  # whoever imports it fails
from snapserv_client.cli import main
sys.argv = ["snapserv-client", *sys.argv[1:]]
main()
"""
WITHOUT = """
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in ("click", "rich") else find(name, *rest)
"""


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", ALONE, *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_its_commands_are_those_of_snapserv_and_not_others_of_that_name() -> None:
    for name, command in LazyGroup(CLIENT, name="snapserv-client").commands.items():
        assert (
            getattr(command.callback, "__module__", "").startswith("snapserv_client.cli.") or name == "completion"
        )
        assert app.commands[name].params
        assert [each.name for each in app.commands[name].params] == [each.name for each in command.params]
    assert all(function_of(module, name) for module, names in CLIENT.contents.items() for name in names)


@pytest.mark.parametrize(
    "command", [name for name in USES if name in {n for g in CLIENT.contents.values() for n in g}]
)
def test_a_command_needs_nothing_of_the_server(server: Server, command: str) -> None:
    main = server.branch("main")
    main.step(2)
    main.snapshot("s")
    ran = run(command, *USES[command], "--json", "-e", server.endpoint)
    assert ran.returncode in (0, 1) if command == "diff" else ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) is not None
    ran = run(command, *USES[command], "-e", server.endpoint)
    assert "snapserv" not in ran.stderr, ran.stderr


def test_its_help_has_its_own_name_and_where_no_server_is_it_says_so() -> None:
    assert "  snapserv-client step main 10\n" in run("step", "-h").stdout
    assert run("--version").stdout.startswith("snapserv-client ")
    ran = run("tree", "--json", "-e", "ipc:///nowhere/s.sock")
    assert (ran.returncode, json.loads(ran.stdout)["error"]["code"]) == (3, "unreachable")
    assert "_SNAPSERV_CLIENT_COMPLETE" in run("completion", "bash").stdout
    assert run("serve").returncode == 2


def test_where_what_it_needs_is_missing_it_says_what_to_install() -> None:
    command = [sys.executable, "-c", WITHOUT + ALONE]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 4
    assert "pip install 'snapserv-client[cli]'" in ran.stderr


def test_it_is_run_as_a_module() -> None:
    ran = subprocess.run([*PROGRAM, "-h"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("Usage: snapserv-client ")
